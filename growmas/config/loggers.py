"""Loggers: the records of `log`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from growmas.config.record import Record

_FIGURES = "true to log a figure of the topology after every task, or false"


class CsvLogConfig(Record):
    """Numbers of a run as a table, in `log/scalars.csv` of its directory."""

    kind: Literal["csv"] = Field(description="csv")


class TensorBoardLogConfig(Record):
    """Event files of TensorBoard."""

    kind: Literal["tensorboard"] = Field(description="tensorboard")
    folder: str | None = Field(
        None,
        description="a folder of event files, in which each run has a folder by its name and id, "
        "or null for log/tensorboard of the run directory",
    )
    figures: bool = Field(True, description=_FIGURES)


class WandbLogConfig(Record):
    """A run of Weights & Biases."""

    kind: Literal["wandb"] = Field(description="wandb")
    project: str = Field("growmas", min_length=1, description="the name of a project")
    entity: str | None = Field(None, description="the name of a user or team, or null")
    group: str | None = Field(None, description="the name of a group of runs, or null")
    tags: tuple[str, ...] = Field((), strict=False, description="a list of words")
    mode: Literal["online", "offline"] | None = Field(
        None, description="online, offline, or null for what WANDB_MODE says, else online"
    )
    figures: bool = Field(True, description=_FIGURES)


class MlflowLogConfig(Record):
    """A run of MLflow."""

    kind: Literal["mlflow"] = Field(description="mlflow")
    experiment: str = Field("growmas", min_length=1, description="the name of an experiment")
    tracking_uri: str | None = Field(
        None,
        description="the address of a server, such as http://localhost:5000, or of a database, "
        "such as sqlite:////data/mlflow.db; null for what MLFLOW_TRACKING_URI says, else "
        "log/mlflow.db of the run directory",
    )
    figures: bool = Field(True, description=_FIGURES)


class PythonLogConfig(Record):
    """An observer of one's own."""

    kind: Literal["python"] = Field(description="python")
    target: str = Field(
        pattern=r"^[\w.]+:[\w.]+$",
        description='a subclass of growmas.Observer, or a function that returns one, "module:name"',
    )
    args: dict[str, Any] = Field({}, description="a mapping of its keyword arguments")


def _as_mapping(value: object) -> object:
    """Read the name of a logger as a mapping with its kind."""
    return {"kind": value} if isinstance(value, str) else value


LogConfig = CsvLogConfig | TensorBoardLogConfig | WandbLogConfig | MlflowLogConfig | PythonLogConfig
Log = Annotated[LogConfig, Field(discriminator="kind"), BeforeValidator(_as_mapping)]
