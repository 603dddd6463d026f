"""Execution of a sweep: its runs handed to an engine, their ends recorded."""

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from growmas.config import EngineConfig
from growmas.errors import RunError
from growmas.runs import RunDirectory
from growmas.runs.result import METRICS
from growmas.sweep.child import STOPPED
from growmas.sweep.code import code_hashes
from growmas.sweep.engine import Ended, Engine, Handle, Order, Surroundings
from growmas.sweep.engines.opening import check_engine, open_engine
from growmas.sweep.lock import only_one
from growmas.sweep.plan import PlannedRun, Sweep
from growmas.sweep.record import SweepRecord, recorded_runs
from growmas.sweep.shard import Shard
from growmas.sweep.summary import SweepRun, with_result

LOGS = "logs"
_CHILD = "growmas.sweep.child"


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
    handle: Handle
    code: Mapping[str, str]


def run_sweep(
    sweep: Sweep,
    *,
    jobs: int | None = None,
    observer: Observer | None = None,
    warm: bool | None = None,
) -> tuple[SweepRun, ...]:
    """Run what is left of a sweep, or of its shard, and write `sweep.json`.

    A run that fails, or whose process dies, does not stop the others: its message is in the
    result. If this process ends, for any reason, so do the runs in progress; those of a Slurm
    cluster go on unless Ctrl-C ended it.

    Args:
        sweep: Of `plan_sweep`, which also says the engine.
        jobs: Number of runs at once; by default one on this machine, and as many as there is room
            for elsewhere.
        observer: Is told of every run.
        warm: On this machine: True to fork runs from a process that has imported torch, False for
            a new Python for each; None does the first where there are several and the system can.
            The numbers are the same.

    Returns:
        All runs in their order, those that were finished before and those of other shards included.

    Raises:
        RunError: The folder cannot be written, another sweep uses it, the engine cannot be
            reached, its machines do not see the folder, or have other code.
    """
    if not isinstance(sweep, Sweep):
        raise RunError(f"expected a Sweep, as plan_sweep returns, got {type(sweep).__name__}")
    runs = len(sweep.waiting)
    with sweep_runner(
        sweep.folder, sweep.engine, shard=sweep.shard, jobs=jobs, runs=runs, warm=warm
    ) as runner:
        return runner.run(sweep, observer)


class SweepRunner:
    """Runs sweeps one after another, all of them with one engine, which is begun when needed."""

    def __init__(self, config: EngineConfig, around: Surroundings) -> None:
        self._config = config
        self._around = around
        self._engine: Engine | None = None

    def run(self, sweep: Sweep, observer: Observer | None = None) -> tuple[SweepRun, ...]:
        """Run what is left of a sweep; see `run_sweep`."""
        (sweep.folder / LOGS).mkdir(parents=True, exist_ok=True)
        if sweep.waiting and self._engine is None:
            self._engine = open_engine(self._config, self._around)
        return _Work(sweep, observer).go(self._engine)

    def close(self) -> None:
        """Free what the engine holds."""
        if self._engine is not None:
            self._engine.close()


@contextmanager
def sweep_runner(
    folder: Path,
    engine: EngineConfig,
    *,
    jobs: int | None,
    runs: int,
    shard: Shard | None = None,
    warm: bool | None = None,
) -> Iterator[SweepRunner]:
    """Hold a folder, and yield what runs sweeps in it or below it.

    Args:
        folder: Of the sweep.
        engine: To run them with.
        jobs: Number of runs at once.
        runs: How many runs there may be.
        shard: That is run.
        warm: As for `run_sweep`.

    Raises:
        RunError: As for `run_sweep`.
    """
    if jobs is not None and jobs < 1:
        raise RunError(f"jobs must be at least 1, got {jobs}")
    check_engine(engine)
    try:
        (folder / LOGS).mkdir(parents=True, exist_ok=True)
        with only_one(folder, shard) as held, _ends_on_signals():
            place = folder.absolute()
            runner = SweepRunner(engine, Surroundings(place, _CHILD, held, jobs, runs, warm))
            try:
                yield runner
            finally:
                runner.close()
    except OSError as error:
        raise RunError(
            f"the sweep {folder} could not be written: {error.strerror or error}; make room "
            "there, or name another folder with --out"
        ) from error


@contextmanager
def _ends_on_signals() -> Iterator[None]:
    """Turn SIGTERM, SIGUSR1 and SIGHUP into an exit, so that the runs in progress save.

    A signal that is ignored, such as SIGHUP under nohup, stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        raise SystemExit(STOPPED)

    names = [name for name in ("SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)]
    numbers = [getattr(signal, name) for name in names]
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: held for number, held in before.items() if held != signal.SIG_IGN}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Work:
    """State of a sweep in progress."""

    def __init__(self, sweep: Sweep, observer: Observer | None) -> None:
        self._sweep = sweep
        self._observer = observer
        self._record = SweepRecord(sweep.folder, [run.name for run in sweep.mine])
        before = recorded_runs(sweep.folder)
        self._runs = {}
        for run in sweep.runs:
            known = before.get(run.name)
            code = known.code if known and run.state == "finished" else {}
            fresh = SweepRun(run.name, run.setting, code=code)
            self._runs[run.name] = with_result(sweep.folder, fresh)

    def go(self, engine: Engine | None) -> tuple[SweepRun, ...]:
        """Run what is left, which is nothing where there is no engine."""
        self._write()
        if engine is not None:
            self._run(engine)
        others = {run.name for run in self._sweep.runs} - {run.name for run in self._sweep.mine}
        for name in others:  # their shards have gone on meanwhile
            self._runs[name] = with_result(self._sweep.folder, self._runs[name])
        return tuple(self._runs.values())

    def _run(self, engine: Engine) -> None:
        waiting = list(self._sweep.waiting)
        working: list[_Working] = []
        leave = False
        try:
            while waiting or working:
                room = len(waiting) if engine.slots is None else engine.slots - len(working)
                if waiting and room > 0:
                    working += self._begin(engine, waiting[:room])
                    del waiting[:room]
                time.sleep(engine.pause)
                for each in list(working):
                    ended = each.handle.poll()
                    if ended is not None:
                        working.remove(each)
                        self._end(each, ended)
        except SystemExit:  # by a signal, as at the end of a session
            leave = engine.survives
            raise
        finally:
            if not leave:
                _stop(working)

    def _begin(self, engine: Engine, runs: Sequence[PlannedRun]) -> list[_Working]:
        orders = []
        for run in runs:
            begun_anew = run.state == "again" and not (run.folder / METRICS).exists()
            if begun_anew and not engine.survives:
                RunDirectory(run.folder).clear()  # it was stopped before its first result
            log = self._sweep.folder / LOGS / f"{run.name}.log"
            code = code_hashes(run.experiment)
            orders.append(Order(run.name, run.experiment, run.folder, run.state, log, code))
        working = [
            _Working(run, handle, order.code)
            for run, order, handle in zip(runs, orders, engine.submit(orders), strict=True)
        ]
        if self._observer:
            for run in runs:
                self._observer.begun(run.name)
        return working

    def _end(self, each: _Working, ended: Ended) -> None:
        """Record the end of a run.

        Raises:
            RunError: Every other run would fail for the same reason.
        """
        run = SweepRun(each.run.name, each.run.setting, ended.message, code=each.code)
        done = with_result(self._sweep.folder, run)
        finished = done.result is not None and done.result.finished
        if finished and not ended.hopeless:  # its process may have been lost after its end
            done = replace(done, message="")
        elif not done.message:
            done = replace(done, message="it ended without a result: run the sweep again")
        self._runs[run.name] = done
        self._write()
        if ended.hopeless:
            raise RunError(f"{ended.message}; runs that are finished are kept")
        if self._observer:
            self._observer.ended(done)

    def _write(self) -> None:
        merged = self._record.write(tuple(self._runs.values()))
        self._runs = {run.name: run for run in merged}


def _stop(working: Sequence[_Working]) -> None:
    """End all runs in progress, and wait for them."""
    for each in working:
        each.handle.terminate()
    for each in working:
        each.handle.stop()
