"""Workers: the processes in which the runs of a sweep are run.

A cold worker is a new Python for each run. Warm ones are forked from one process that has imported
torch, which takes most of the time of a short run.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

GRACE = 5.0  # seconds that a process has to end when asked to
LOST = 1001
"""Code of a run whose server was ended, so that its own code is not known."""


class RunProcess(Protocol):
    """A run in progress."""

    def poll(self) -> int | None:
        """Return its exit code; None while it goes on."""

    def terminate(self) -> None:
        """Ask it to end."""

    def stop(self) -> None:
        """Wait until it has ended; after a while it is killed."""


class Workers(Protocol):
    """The way in which the runs of a sweep are begun."""

    def begin(self, order: Mapping[str, str], log: Path, *, append: bool) -> RunProcess:
        """Begin a run.

        Args:
            order: Says what to run.
            log: File for its output.
            append: Keep what the file holds.
        """

    def close(self) -> None:
        """End everything that was begun, without waiting for runs."""


def workers_for(
    module: str, held: Sequence[int], *, runs: int, warm: bool | None = None
) -> Workers:
    """Return warm workers where the system can fork and there are several runs, else cold ones.

    Args:
        module: Name of the module that runs an order.
        held: File descriptors that all processes inherit.
        runs: How many runs there will be.
        warm: True or False decides.
    """
    wanted = runs > 1 if warm is None else warm
    if wanted and hasattr(os, "fork"):
        return WarmWorkers(module, held)
    return ColdWorkers(module, held)


class ColdWorkers:
    """Begins each run in a new Python, which finds the same modules, and that Ctrl-C spares."""

    def __init__(self, module: str, held: Sequence[int]) -> None:
        self._module = module
        self._held = tuple(held)

    def begin(self, order: Mapping[str, str], log: Path, *, append: bool) -> RunProcess:
        """Begin a run, as `Workers` has it."""
        code = _program(f"from {self._module} import main; main()")
        with log.open("ab" if append else "wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=self._held,
            )
        if process.stdin is not None:
            with suppress(BrokenPipeError):  # if it is dead already, its exit code says so
                process.stdin.write(json.dumps(order).encode() + b"\n")
                process.stdin.flush()
        return _ColdRun(process)

    def close(self) -> None:
        """Do nothing: each run has a process of its own."""


class _ColdRun:
    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def poll(self) -> int | None:
        code = self._process.poll()
        if code is not None:
            _close(self._process)
        return code

    def terminate(self) -> None:
        self._process.terminate()

    def stop(self) -> None:
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _close(self._process)


class WarmWorkers:
    """Begins each run by a fork of one server; a server that was killed is started again."""

    def __init__(self, module: str, held: Sequence[int]) -> None:
        self._module = module
        self._held = tuple(held)
        self._server: _Server | None = None

    def begin(self, order: Mapping[str, str], log: Path, *, append: bool) -> RunProcess:
        """Begin a run, as `Workers` has it."""
        if self._server is None or self._server.ended:
            self._server = _Server(self._module, self._held)
        return self._server.begin(order, log, append=append)

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.close()


class _Server:
    """A process that forks runs, with what it has reported of them."""

    def __init__(self, module: str, held: tuple[int, ...]) -> None:
        life, self._life = os.pipe()  # its end tells the runs that this process has ended
        code = _program(f"from growmas.sweep.server import serve; serve({module!r}, {life})")
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            pass_fds=(*held, life),
        )
        os.close(life)
        if self._process.stdout is None:
            raise RuntimeError("the server has no output")
        self._output = self._process.stdout.fileno()
        os.set_blocking(self._output, False)
        self._codes: dict[int, int] = {}
        self._pending = b""
        self._count = 0
        self.ended = False

    def begin(self, order: Mapping[str, str], log: Path, *, append: bool) -> "_WarmRun":
        number, self._count = self._count, self._count + 1
        self.send({"number": number, "log": str(log), "append": append, "order": dict(order)})
        return _WarmRun(self, number)

    def send(self, message: Mapping[str, Any]) -> None:
        if self._process.stdin is not None:
            with suppress(OSError):  # if it is dead, `code` says so
                self._process.stdin.write(json.dumps(message).encode() + b"\n")
                self._process.stdin.flush()

    def code(self, number: int) -> int | None:
        """Return the exit code of a run; None while it goes on."""
        self._read()
        if number in self._codes:
            return self._codes[number]
        return LOST if self.ended else None

    def wait(self, number: int, seconds: float) -> int | None:
        """Return the exit code of a run as soon as it is known; None after some seconds."""
        end = time.monotonic() + seconds
        while (code := self.code(number)) is None and time.monotonic() < end:
            time.sleep(0.02)
        return code

    def close(self) -> None:
        """End the server, and tell the runs that the sweep has ended."""
        self.ended = True
        _close(self._process)
        if self._life >= 0:
            os.close(self._life)
            self._life = -1
        try:
            self._process.wait(2 * GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        """Take in the reports that have come."""
        while not self.ended:
            try:
                read = os.read(self._output, 1 << 16)
            except BlockingIOError:
                return
            if not read:  # it was killed: its runs end, and their states are saved
                self.close()
                return
            *lines, self._pending = (self._pending + read).split(b"\n")
            for line in lines:
                report = json.loads(line)
                self._codes[report["number"]] = report["code"]


class _WarmRun:
    def __init__(self, server: _Server, number: int) -> None:
        self._server = server
        self._number = number

    def poll(self) -> int | None:
        return self._server.code(self._number)

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def stop(self) -> None:
        if self._server.wait(self._number, GRACE) is None:
            self._signal(signal.SIGKILL)
            self._server.wait(self._number, GRACE)

    def _signal(self, number: int) -> None:
        self._server.send({"number": self._number, "signal": int(number)})


def _program(last: str) -> str:
    """Return the code of a process that finds the same modules as this one."""
    return f"import sys; sys.path[:] = {sys.path!r}; {last}"


def _close(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()
