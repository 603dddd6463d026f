"""Execution of a sweep: each run in a process of its own."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from growmas.atomic_write import atomic_write
from growmas.errors import RunError
from growmas.runs import RunDirectory
from growmas.runs.finding import SWEEP
from growmas.runs.result import METRICS
from growmas.sweep.child import MARK, REFUSED, STOPPED
from growmas.sweep.lock import only_one
from growmas.sweep.plan import PlannedRun, Sweep
from growmas.sweep.summary import SweepRun, as_data, read_run, summarise

LOGS = "logs"
_CHILD = "growmas.sweep.child"
_PAUSE = 0.05  # seconds between two looks at the processes
_GRACE = 5.0  # seconds that a process has to end when asked to


class Observer(Protocol):
    """Follows a sweep."""

    def begun(self, name: str) -> None:
        """Take note that a run begins."""

    def ended(self, run: SweepRun) -> None:
        """Take note that a run is finished or failed."""


@dataclass(frozen=True)
class _Worker:
    """Run in progress."""

    run: PlannedRun
    process: "subprocess.Popen[bytes]"
    log: Path


def run_sweep(
    sweep: Sweep, *, jobs: int = 1, observer: Observer | None = None
) -> tuple[SweepRun, ...]:
    """Run what is left of a sweep, and write `sweep.json`.

    A run that fails, or whose process dies, does not stop the others: its message is in the
    result. If this process ends, for any reason, so do the runs in progress.

    Args:
        sweep: Of `plan_sweep`.
        jobs: Number of runs at once.
        observer: Is told of every run.

    Returns:
        All runs in their order, those that were finished before included.

    Raises:
        RunError: The folder cannot be written, or another sweep uses it.
    """
    if jobs < 1:
        raise RunError(f"jobs must be at least 1, got {jobs}")
    try:
        (sweep.folder / LOGS).mkdir(parents=True, exist_ok=True)
        with only_one(sweep.folder) as held, _ends_on_signals():
            return _Work(sweep, observer, held).go(jobs)
    except OSError as error:
        raise RunError(
            f"the sweep {sweep.folder} could not be written: {error.strerror or error}; make room "
            "there, or name another folder with --out"
        ) from error


@contextmanager
def _ends_on_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGUSR1 into an exit, so that the runs in progress save their states."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        raise SystemExit(STOPPED)

    names = [name for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]
    before = {getattr(signal, name): signal.getsignal(getattr(signal, name)) for name in names}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Work:
    """State of a sweep in progress."""

    def __init__(self, sweep: Sweep, observer: Observer | None, held: Sequence[int]) -> None:
        self._sweep = sweep
        self._observer = observer
        self._held = held
        self._runs = {run.name: read_run(sweep.folder, run.name, run.setting) for run in sweep.runs}

    def go(self, jobs: int) -> tuple[SweepRun, ...]:
        waiting = list(self._sweep.waiting)
        working: list[_Worker] = []
        self._write()
        try:
            while waiting or working:
                while waiting and len(working) < jobs:
                    working.append(self._begin(waiting.pop(0)))
                time.sleep(_PAUSE)
                for worker in [each for each in working if each.process.poll() is not None]:
                    working.remove(worker)
                    self._end(worker)
        finally:
            _stop(working)
        return tuple(self._runs.values())

    def _begin(self, run: PlannedRun) -> _Worker:
        if run.state == "again" and not (run.folder / METRICS).exists():
            RunDirectory(run.folder).clear()  # it was stopped before its first result
        log = self._sweep.folder / LOGS / f"{run.name}.log"
        order = {
            "experiment": run.experiment.model_dump_json(),
            "folder": str(run.folder),
            "state": run.state,
        }
        with log.open("ab" if run.state == "resumed" else "wb") as file:
            process = _start(order, file, self._held)
        if self._observer:
            self._observer.begun(run.name)
        return _Worker(run, process, log)

    def _end(self, worker: _Worker) -> None:
        run, code = worker.run, worker.process.returncode
        _close(worker.process)
        message = _why(code, worker.log) if code else ""
        done = read_run(self._sweep.folder, run.name, run.setting, message)
        self._runs[run.name] = done
        self._write()
        if self._observer:
            self._observer.ended(done)

    def _write(self) -> None:
        data = as_data(summarise(self._runs.values()))
        with atomic_write(self._sweep.folder / SWEEP) as fresh:
            fresh.write_text(json.dumps(data, indent=1), encoding="utf-8")


def _start(order: dict[str, str], log: IO[bytes], held: Sequence[int]) -> "subprocess.Popen[bytes]":
    """Start a process that finds the same modules, and that Ctrl-C does not reach."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from {_CHILD} import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=tuple(held),
    )
    if process.stdin is not None:
        with suppress(BrokenPipeError):  # if it is dead already, its exit code says so
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
    return process


def _stop(working: Sequence[_Worker]) -> None:
    """End all processes, and wait for them."""
    for worker in working:
        worker.process.terminate()
    for worker in working:
        try:
            worker.process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
        _close(worker.process)


def _close(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()


def _why(code: int, log: Path) -> str:
    """Return the reason why a run failed."""
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        hint = ", as it does when memory runs out" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}; {log} has its output"
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    if code == STOPPED:
        return "its process was asked to end, and has saved its state"
    if code == REFUSED and f"\n{MARK}" in f"\n{text}":
        return f"\n{text}".rpartition(f"\n{MARK}")[2]
    last = text.splitlines()[-1] if text else "it printed nothing"
    return f"{last} (exit code {code}; {log} has the rest)"
