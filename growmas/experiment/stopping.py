"""Stops of a run by a signal: the step is finished, the state is saved, then the run ends."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = ("SIGTERM", "SIGUSR1", "SIGINT", "SIGHUP")
"""SLURM warns by SIGUSR1 (sbatch --signal=USR1@60) or SIGTERM, a terminal interrupts by SIGINT, and
sends SIGHUP when it is closed. Where a signal is ignored, as SIGHUP under nohup, it stays so."""

_CODES = {"SIGINT": 130, "SIGHUP": 129}
TERMINATED = 143


class RunStopped(SystemExit):
    """A run was stopped by a signal, and its state is saved.

    Attributes:
        code: 130 after an interrupt from the terminal, 129 after its end, else 143.
        reason: Names the signal.
    """

    def __init__(self, number: int) -> None:
        name = signal.Signals(number).name
        super().__init__(_CODES.get(name, TERMINATED))
        self.reason = f"stopped by {name}"


class StopRequest:
    """Takes note of signals, so that a run can end between two steps.

    Attributes:
        number: The signal that came; None before one came.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def note(self, number: int, frame: FrameType | None) -> None:
        """Take note of a signal; a second interrupt ends the process at once."""
        if self.number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = self.number or number

    def check(self) -> None:
        """End the run if a signal came.

        Raises:
            RunStopped: A signal came.
        """
        if self.number is not None:
            raise RunStopped(self.number)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Yield what takes note of signals; handlers are as before afterwards.

    Outside of the main thread, where Python takes no handlers, no signal is noted.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {}
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, request.note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
