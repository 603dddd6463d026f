"""Sweeps: the records of `sweep`, which say where its runs are run and do not change them."""

from typing import Annotated, Literal

from pydantic import Field

from growmas.config.record import Record

_CPUS = "a number of CPU cores for each run, or null for its threads"
_GPUS = "a number of GPUs for each run, or null for one where device is cuda"
_Names = Annotated[tuple[str, ...], Field(strict=False)]


class LocalEngineConfig(Record):
    """Runs in processes of this machine."""

    kind: Literal["local"] = "local"


class RayEngineConfig(Record):
    """Runs as tasks of Ray, on a cluster or on this machine."""

    kind: Literal["ray"] = "ray"
    address: str | None = Field(
        None,
        min_length=1,
        description="the address of a cluster such as 10.0.0.1:6379, auto for the one of this "
        "machine, or null to start one here",
    )
    cpus: float | None = Field(None, gt=0, description=_CPUS)
    gpus: float | None = Field(None, ge=0, description=_GPUS)
    memory: float | None = Field(
        None, gt=0, description="GB of memory to reserve for each run, or null"
    )
    max_retries: int = Field(
        3, ge=0, description="how often a run whose worker was lost is begun again, 0 or more"
    )
    bring_back: bool = Field(
        False,
        description="true to copy run directories back from machines that do not see the folder "
        "of the sweep, false if all see it",
    )


class SlurmEngineConfig(Record):
    """Runs as an array job of a Slurm cluster."""

    kind: Literal["slurm"] = "slurm"
    cluster: Literal["slurm", "local"] = Field(
        "slurm", description="slurm, or local to try it on this machine"
    )
    partition: str | None = Field(None, description="the name of a partition, or null")
    account: str | None = Field(None, description="the account to charge, or null")
    qos: str | None = Field(None, description="the name of a quality of service, or null")
    constraint: str | None = Field(None, description="features that nodes must have, or null")
    timeout_min: int = Field(
        60, ge=1, description="minutes until a run is warned, saved and queued again, at least 1"
    )
    warning: int = Field(
        90, ge=1, description="seconds from the warning to the end, in which a run saves its state"
    )
    requeues: int = Field(
        100, ge=0, description="how often a run is queued again after its time is over, 0 or more"
    )
    runs_per_job: int = Field(
        1, ge=1, description="how many runs a job runs one after another, torch imported once"
    )
    cpus: int | None = Field(None, ge=1, description=_CPUS)
    gpus: int | None = Field(None, ge=0, description=_GPUS)
    mem: float | None = Field(None, gt=0, description="GB of memory for each run, or null")
    setup: _Names = Field(
        (), description="a list of shell commands to run before each run, such as module load"
    )


EngineConfig = LocalEngineConfig | RayEngineConfig | SlurmEngineConfig


class SweepConfig(Record):
    """Place of the runs of `growmas sweep`, and what they need there."""

    engine: EngineConfig = Field(
        default_factory=LocalEngineConfig,
        discriminator="kind",
        description="a mapping with kind local, ray or slurm",
    )
