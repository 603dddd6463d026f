"""Engines: where the runs of a sweep are run, on this machine or elsewhere.

An engine takes orders and gives a handle for each. `growmas.sweep.work` hands out the orders, asks
the handles how the runs ended, and reads the results from the run directories.
"""

import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from growmas.config import Experiment

State = Literal["new", "again", "resumed", "finished"]


@dataclass(frozen=True)
class Order:
    """A run that an engine is asked for.

    Attributes:
        name: Of the run.
        experiment: To run.
        folder: The run directory.
        state: "new", or "again" or "resumed" for a stopped run.
        log: File for what the run prints.
        code: Name -> hash of the code that it is to be run with.
    """

    name: str
    experiment: Experiment
    folder: Path
    state: State
    log: Path
    code: Mapping[str, str]

    def as_data(self) -> dict[str, Any]:
        """Return the order as a process elsewhere reads it."""
        return {
            "experiment": self.experiment.model_dump_json(),
            "folder": str(self.folder.absolute()),
            "state": self.state,
            "log": str(self.log.absolute()),
            "code": dict(self.code),
        }


@dataclass(frozen=True)
class Ended:
    """The end of a run.

    Attributes:
        message: Why it failed; empty if it did not.
        hopeless: True if every other run would fail for the same reason: the sweep ends.
    """

    message: str = ""
    hopeless: bool = False


class Handle(Protocol):
    """A run that was submitted."""

    def poll(self) -> Ended | None:
        """Return how it ended; None while it waits or goes on."""

    def terminate(self) -> None:
        """Ask it to end."""

    def stop(self) -> None:
        """Wait until it has ended; after a while it is killed."""


class Engine(Protocol):
    """Runs the orders of one sweep.

    Attributes:
        slots: How many runs it is given at once; None for all.
        pause: Seconds between two looks at the handles.
        survives: True if its runs go on without the process of the sweep, which finds them again.
    """

    slots: int | None
    pause: float
    survives: bool

    def submit(self, orders: Sequence[Order]) -> Sequence[Handle]:
        """Begin runs, or queue them, in their order."""

    def close(self) -> None:
        """Free what the engine holds; runs that go on by themselves are left alone."""


TOKEN = ".sweep-token"
"""File in the folder of a sweep by which other machines recognise it."""


def folder_token(folder: Path) -> str:
    """Return the token in the folder of a sweep, written now if it has none."""
    path = folder / TOKEN
    with suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
        file.write(secrets.token_hex(8))
    return path.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Surroundings:
    """The sweep that an engine runs the orders of.

    Attributes:
        folder: Of the sweep, absolute.
        module: Name of the module that runs an order.
        held: File descriptors that processes on this machine inherit.
        jobs: Number of runs at once; None for the engine's own choice.
        runs: How many runs there will be.
        warm: On this machine: True or False decides how processes begin.
    """

    folder: Path
    module: str
    held: Sequence[int]
    jobs: int | None
    runs: int
    warm: bool | None = None

    def order(self, order: Order, token: str | None) -> dict[str, Any]:
        """Return an order as `growmas.sweep.cell.run_cell` reads it.

        Args:
            order: Of the sweep.
            token: Of `folder_token`; None for a run that is sent back.
        """
        own = {"module": self.module, "shared": str(self.folder), "token": token}
        return {**order.as_data(), **own}
