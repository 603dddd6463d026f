"""A run of a sweep on another machine, or in a process that runs several one after another.

The machine must have the code that the sweep was begun with, and see the folder of the sweep. A
run that was stopped there is continued, and a finished one is left as it is.
"""

import contextlib
import io
import os
import socket
import sys
import tarfile
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TextIO

from growmas.config import Experiment
from growmas.errors import GrowmasError, RunError
from growmas.runs import RunDirectory
from growmas.runs.lock import is_locked
from growmas.runs.result import METRICS
from growmas.sweep.code import differing_code, differing_package
from growmas.sweep.engine import TOKEN
from growmas.sweep.plan import run_state

_PATIENCE = 30.0  # seconds; a process that was asked to end has ended within


class CellModule(Protocol):
    """Module that runs an experiment."""

    def run(self, experiment: Experiment, folder: Path, state: str) -> None:
        """Run it."""


def run_cell(order: Mapping[str, Any]) -> dict[str, Any]:
    """Run an order, and return how it ended.

    Args:
        order: Of `Order.as_data`, with `module`, the name of the module that runs experiments,
            `shared`, the folder of the sweep, and `token`, the content of its file `TOKEN`; None
            for a run that is sent back.

    Returns:
        `message`, empty if it did not fail; `hopeless`, True if all others would fail alike;
        `stopped`, the reason if a signal ended it; `archive`, the run directory if it is sent
        back, else None.
    """
    folder, log = Path(order["folder"]), Path(order["log"])
    try:
        _refuse(differing_package(order["code"]))  # another version may not know all keys
        experiment = Experiment.model_validate_json(order["experiment"])
        _refuse(differing_code(order["code"], experiment))
        if order["token"] is not None:
            _check_folder(Path(order["shared"]), order["token"])
    except RunError as error:
        return _ended(str(error), hopeless=True)
    module: CellModule = import_module(order["module"])
    if order["token"] is not None:
        with _written_to(log):
            return _run(module, experiment, folder, log)
    with tempfile.TemporaryDirectory(prefix="growmas-") as place:
        here = Path(place) / folder.name
        with _written_to(Path(place) / log.name):
            ended = _run(module, experiment, here, log)
        return {**ended, "archive": _packed(Path(place), [here, Path(place) / log.name])}


def unpack(archive: bytes, folder: Path, log: Path) -> None:
    """Write a run directory, and what the run printed, that were sent back."""
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as tar,
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=".back-") as place,
    ):
        tar.extractall(place, filter="data")
        found = Path(place)
        if (found / log.name).is_file():
            (found / log.name).replace(log)
        if (found / folder.name).is_dir():
            RunDirectory(folder).clear()
            folder.mkdir(exist_ok=True)
            for path in (found / folder.name).iterdir():
                path.replace(folder / path.name)


def _run(module: CellModule, experiment: Experiment, folder: Path, log: Path) -> dict[str, Any]:
    try:
        _wait_for(folder)
        state = run_state(folder, experiment)
        if state == "again" and not (folder / METRICS).exists():
            RunDirectory(folder).clear()  # it was stopped before its first result
        if state != "finished":
            module.run(experiment, folder, state)
    except GrowmasError as error:
        sys.stderr.write(f"error: {error}\n")
        return _ended(str(error))
    except SystemExit as end:  # by a signal
        reason = str(getattr(end, "reason", end))
        return _ended("its process was asked to end, and has saved its state", stopped=reason)
    except KeyboardInterrupt:
        return _ended("it was interrupted", stopped="interrupted")
    except Exception as error:
        traceback.print_exc()
        return _ended(f"{type(error).__name__}: {error} ({log} has the rest)")
    return _ended("")


def _ended(message: str, *, hopeless: bool = False, stopped: str = "") -> dict[str, Any]:
    return {"message": message, "hopeless": hopeless, "stopped": stopped, "archive": None}


def _refuse(different: Sequence[str]) -> None:
    """Refuse to run with other code than the sweep was begun with.

    Raises:
        RunError: Names what differs.
    """
    if different:
        raise RunError(
            f"the code on {socket.gethostname()} differs from that of the machine that began the "
            f"sweep: {', '.join(different)}; install the same version on both, and put your own "
            "modules where both see them"
        )


def _check_folder(folder: Path, token: str) -> None:
    """Refuse to run where the folder of the sweep is not the one of the machine that began it.

    Raises:
        RunError: Names the folder and the machine.
    """
    try:
        seen = (folder / TOKEN).read_text(encoding="utf-8")
    except OSError:
        seen = ""
    if seen != token:
        raise RunError(
            f"{socket.gethostname()} does not see the folder {folder} of the sweep: name a folder "
            "on storage that all machines share with --out (with Ray, --engine-option "
            "bring_back=true copies the runs back instead)"
        )


def _wait_for(folder: Path) -> None:
    """Wait until a process that still ends in a run directory has ended."""
    until = time.monotonic() + _PATIENCE
    while is_locked(folder) and time.monotonic() < until:
        time.sleep(0.1)


def _packed(place: Path, paths: list[Path]) -> bytes:
    """Return files and folders as an archive, by their paths below a place."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as tar:
        for path in paths:
            if path.exists():
                tar.add(path, arcname=str(path.relative_to(place)))
    return written.getvalue()


@contextlib.contextmanager
def _written_to(log: Path) -> Iterator[TextIO]:
    """Write what is printed to a file instead, a line at a time."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("a", encoding="utf-8", buffering=1) as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        file.write(f"on {socket.gethostname()}, process {os.getpid()}\n")
        yield file
