"""Engine of this machine: each run in a process of its own."""

import signal
from collections.abc import Sequence
from pathlib import Path

from growmas.sweep.child import MARK, REFUSED, STOPPED
from growmas.sweep.engine import Ended, Order
from growmas.sweep.workers import LOST, RunProcess, Workers


class LocalEngine:
    """Runs orders in processes that end with the sweep.

    Args:
        workers: The way in which processes are begun.
        jobs: Number of runs at once.
    """

    pause = 0.05
    survives = False

    def __init__(self, workers: Workers, jobs: int) -> None:
        self._workers = workers
        self.slots: int | None = jobs

    def submit(self, orders: Sequence[Order]) -> list["_LocalRun"]:
        """Begin runs."""
        return [self._begin(order) for order in orders]

    def close(self) -> None:
        """End the processes that begin others."""
        self._workers.close()

    def _begin(self, order: Order) -> "_LocalRun":
        append = order.state == "resumed"
        process = self._workers.begin(order.as_data(), order.log, append=append)
        return _LocalRun(process, order.log)


class _LocalRun:
    def __init__(self, process: RunProcess, log: Path) -> None:
        self._process = process
        self._log = log

    def poll(self) -> Ended | None:
        code = self._process.poll()
        if code is None:
            return None
        return Ended(_why(code, self._log) if code else "")

    def terminate(self) -> None:
        self._process.terminate()

    def stop(self) -> None:
        self._process.stop()


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
