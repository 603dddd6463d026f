"""Sources of data: the records of `stream.source`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from growmas.config.formatting import show
from growmas.config.record import Record
from growmas.data.names import did_you_mean
from growmas.data.sources import source_names


def _known_source(name: str) -> str:
    if name not in source_names():
        raise ValueError(
            f"expected a source, got {show(name)}; {did_you_mean(name, source_names())}"
        )
    return name


def _as_size(value: object) -> object:
    """Turn one number of pixels into height and width."""
    return [value, value] if type(value) is int and value > 0 else value


def _as_list(value: object) -> object:
    """Turn one number into a list of one."""
    return [value] if type(value) in (int, float) else value


def _as_tuple(value: object) -> object:
    """Turn a list into a tuple; in a union, older pydantic ignores `strict=False`."""
    return tuple(value) if isinstance(value, list) else value


_Size = Annotated[
    tuple[Annotated[int, Field(ge=1)], ...],
    Field(min_length=2, max_length=2, strict=False),
    BeforeValidator(_as_size),
]
_Names = Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(_as_tuple)]
_Numbers = Annotated[
    tuple[float, ...], Field(min_length=1, strict=False), BeforeValidator(_as_list)
]
_Deviations = Annotated[
    tuple[Annotated[float, Field(gt=0)], ...],
    Field(min_length=1, strict=False),
    BeforeValidator(_as_list),
]
_Share = Annotated[float, Field(gt=0, lt=1)]
_PATH = "a path, relative to the folder of this config or absolute"
_SIZE = "pixels such as 32, or [height, width], or null for images that have one size already"
_TEST = "a share of each class to hold out, between 0 and 1, such as 0.2"


class NormaliseConfig(Record):
    """Normalisation (x − mean) / std of each channel or feature."""

    mean: _Numbers = Field(description="a number, or one for each channel or feature")
    std: _Deviations = Field(description="a number above 0, or one for each channel or feature")


class _Prepared(Record):
    """Settings that all sources share."""

    normalise: (
        Annotated[
            Annotated[Literal["unit", "standard"], Tag("name")]
            | Annotated[NormaliseConfig, Tag("map")],
            Discriminator(lambda value: "name" if isinstance(value, str) else "map"),
        ]
        | None
    ) = Field(
        None,
        description="unit (0 … 1), standard (mean 0, deviation 1), {mean: …, std: …}, or null: "
        "pixels of 8 bits become 0 … 1, other numbers stay as they are",
    )
    channels: Literal[1, 3] | None = Field(
        None, description="1 (grey), 3 (colour), or null for what the images have"
    )
    resize: _Size | None = Field(None, description=_SIZE)
    inputs: Literal["images", "vectors", "tokens", "sequences"] | None = Field(
        None,
        description="images, vectors, tokens or sequences, or null to decide by shape and type",
    )
    classes: _Names | None = Field(
        None, description="a list of names of the classes, in the order of their labels, or null"
    )


class NamedSourceConfig(_Prepared):
    """Built-in or registered source, with settings."""

    kind: Literal["builtin"] = Field(description="builtin")
    name: str = Field(description="the name of a source, such as mnist5k")
    path: str | None = Field(None, description=f"{_PATH}, for sources that are not in a package")


class NpzConfig(_Prepared):
    """Arrays of a NumPy file."""

    kind: Literal["npz"] = Field(description="npz")
    path: str = Field(description=_PATH)
    input: str | None = Field(
        None, description="the name of the inputs, x by default; x_train and x_test where there are"
    )
    label: str | None = Field(None, description="the name of the labels, y by default")
    test: _Share | None = Field(None, description=_TEST)


class _TableConfig(_Prepared):
    path: str = Field(description=_PATH)
    label: str | None = Field(None, description="the name of the column of labels")
    input: str | _Names | None = Field(
        None, description="the name of a column, or a list of names; null for all but the label"
    )
    test: str | _Share | None = Field(None, description=f"the path of a second file, or {_TEST}")
    size: _Size | None = Field(None, description=_SIZE)


class CsvConfig(_TableConfig):
    """Rows of a CSV file."""

    kind: Literal["csv"] = Field(description="csv")


class ParquetConfig(_TableConfig):
    """Rows of a Parquet file."""

    kind: Literal["parquet"] = Field(description="parquet")


class FolderConfig(_Prepared):
    """Image files, in a folder for each class."""

    kind: Literal["folder"] = Field(description="folder")
    path: str = Field(description=_PATH)
    test: str | _Share | None = Field(
        None, description=f"the path of a second folder of classes, or {_TEST}"
    )
    size: _Size | None = Field(None, description=_SIZE)


class IdxConfig(_Prepared):
    """Files in the format of MNIST."""

    kind: Literal["idx"] = Field(description="idx")
    path: str = Field(description=f"{_PATH}, of the folder with the four files")


class HubConfig(_Prepared):
    """Anything that the package `datasets` loads."""

    kind: Literal["hub"] = Field(description="hub")
    name: str | None = Field(None, description="the name of a data set on the hub, or null")
    path: str | None = Field(None, description=f"{_PATH}, of a folder that save_to_disk wrote")
    subset: str | None = Field(None, description="the name of one of its configurations, or null")
    train: str = Field("train", description="the name of the split to learn from")
    test: str | _Share = Field("test", description=f"the name of the split to test on, or {_TEST}")
    label: str | None = Field(None, description="the name of the column of labels")
    input: str | _Names | None = Field(None, description="the name of a column, or a list of names")
    size: _Size | None = Field(None, description=_SIZE)


class PythonSourceConfig(_Prepared):
    """Data that a function of one's own returns."""

    kind: Literal["python"] = Field(description="python")
    target: str = Field(
        pattern=r"^[\w.]+:[\w.]+$", description='a function "module:name", such as "mydata:load"'
    )
    args: dict[str, Any] = Field({}, description="a mapping of its keyword arguments")
    test: _Share | None = Field(None, description=_TEST)


SourceKind = (
    NamedSourceConfig
    | NpzConfig
    | CsvConfig
    | ParquetConfig
    | FolderConfig
    | IdxConfig
    | HubConfig
    | PythonSourceConfig
)


def _kind(value: object) -> str | None:
    """Return the tag of a source."""
    if isinstance(value, str):
        return "name"
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return kind if isinstance(kind, str) else None


def _named(value: object) -> object:
    """Read `{kind: mnist5k, …}` as the built-in source of that name, with settings."""
    kind = value.get("kind") if isinstance(value, dict) else None
    if isinstance(value, dict) and kind in source_names() and "name" not in value:
        return {**value, "kind": "builtin", "name": kind}
    return value


SourceConfig = Annotated[
    Annotated[str, BeforeValidator(_known_source), Tag("name")]
    | Annotated[NamedSourceConfig, Tag("builtin")]
    | Annotated[NpzConfig, Tag("npz")]
    | Annotated[CsvConfig, Tag("csv")]
    | Annotated[ParquetConfig, Tag("parquet")]
    | Annotated[FolderConfig, Tag("folder")]
    | Annotated[IdxConfig, Tag("idx")]
    | Annotated[HubConfig, Tag("hub")]
    | Annotated[PythonSourceConfig, Tag("python")],
    Discriminator(_kind),
    BeforeValidator(_named),
]
SOURCE = "the name of a source, such as mnist5k, or a mapping with a kind, such as npz and a path"
