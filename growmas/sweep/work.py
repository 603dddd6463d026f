"""Execution of a sweep: each run in a process of its own."""

import json
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from growmas.atomic_write import atomic_write
from growmas.errors import RunError
from growmas.runs import RunDirectory
from growmas.runs.finding import SWEEP
from growmas.runs.result import METRICS
from growmas.sweep.child import MARK, REFUSED, STOPPED
from growmas.sweep.lock import only_one
from growmas.sweep.plan import PlannedRun, Sweep
from growmas.sweep.summary import SweepRun, as_data, read_run, summarise
from growmas.sweep.workers import LOST, RunProcess, workers_for

LOGS = "logs"
_CHILD = "growmas.sweep.child"
_PAUSE = 0.05  # seconds between two looks at the processes


class Observer(Protocol):
    """Follows a sweep."""

    def begun(self, name: str) -> None:
        """Take note that a run begins."""

    def ended(self, run: SweepRun) -> None:
        """Take note that a run is finished or failed."""


@dataclass(frozen=True)
class _Working:
    """Run in progress."""

    run: PlannedRun
    process: RunProcess
    log: Path


def run_sweep(
    sweep: Sweep, *, jobs: int = 1, observer: Observer | None = None, warm: bool | None = None
) -> tuple[SweepRun, ...]:
    """Run what is left of a sweep, and write `sweep.json`.

    A run that fails, or whose process dies, does not stop the others: its message is in the
    result. If this process ends, for any reason, so do the runs in progress.

    Args:
        sweep: Of `plan_sweep`.
        jobs: Number of runs at once.
        observer: Is told of every run.
        warm: True to fork runs from a process that has imported torch, False for a new Python for
            each; None does the first where there are several and the system can. The numbers are
            the same.

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
            return _Work(sweep, observer, held, warm).go(jobs)
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

    def __init__(
        self, sweep: Sweep, observer: Observer | None, held: Sequence[int], warm: bool | None
    ) -> None:
        self._sweep = sweep
        self._observer = observer
        self._workers = workers_for(_CHILD, held, runs=len(sweep.waiting), warm=warm)
        self._runs = {run.name: read_run(sweep.folder, run.name, run.setting) for run in sweep.runs}

    def go(self, jobs: int) -> tuple[SweepRun, ...]:
        waiting = list(self._sweep.waiting)
        working: list[_Working] = []
        self._write()
        try:
            while waiting or working:
                while waiting and len(working) < jobs:
                    working.append(self._begin(waiting.pop(0)))
                time.sleep(_PAUSE)
                for each in list(working):
                    code = each.process.poll()
                    if code is not None:
                        working.remove(each)
                        self._end(each, code)
        finally:
            _stop(working)
            self._workers.close()
        return tuple(self._runs.values())

    def _begin(self, run: PlannedRun) -> _Working:
        if run.state == "again" and not (run.folder / METRICS).exists():
            RunDirectory(run.folder).clear()  # it was stopped before its first result
        log = self._sweep.folder / LOGS / f"{run.name}.log"
        order = {
            "experiment": run.experiment.model_dump_json(),
            "folder": str(run.folder),
            "state": run.state,
        }
        process = self._workers.begin(order, log, append=run.state == "resumed")
        if self._observer:
            self._observer.begun(run.name)
        return _Working(run, process, log)

    def _end(self, ended: _Working, code: int) -> None:
        run = ended.run
        message = _why(code, ended.log) if code else ""
        done = read_run(self._sweep.folder, run.name, run.setting, message)
        self._runs[run.name] = done
        self._write()
        if self._observer:
            self._observer.ended(done)

    def _write(self) -> None:
        data = as_data(summarise(self._runs.values()))
        with atomic_write(self._sweep.folder / SWEEP) as fresh:
            fresh.write_text(json.dumps(data, indent=1), encoding="utf-8")


def _stop(working: Sequence[_Working]) -> None:
    """End all runs in progress, and wait for them."""
    for each in working:
        each.process.terminate()
    for each in working:
        each.process.stop()


def _why(code: int, log: Path) -> str:
    """Return the reason why a run failed."""
    if code == LOST:
        return "the process that began it was ended, as when memory runs out: run the sweep again"
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
