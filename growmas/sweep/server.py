"""Server that forks a process for each run of a sweep, with torch imported once for all of them.

The first argument of `serve` names the module that runs an order. Orders come as JSON, a line
each, on the standard input: {"number": 0, "log": path, "append": bool, "order": {...}} to begin a
run, and {"number": 0, "signal": 15} to send it a signal. Reports go to the standard output:
{"number": 0, "code": 0} when a run has ended, with its exit code, or the negative number of the
signal that ended it. The end of the standard input ends all runs.
"""

import json
import os
import random
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Protocol

from growmas.start_up import start_up

_GRACE = 5.0  # seconds that runs have to end when the sweep has ended


class Child(Protocol):
    """Module that runs an order."""

    def preload(self) -> None:
        """Import what every run needs."""

    def execute(self, order: Mapping[str, Any]) -> int:
        """Run an order, and return its exit code."""


def serve(module: str, life: int) -> None:
    """Fork a process for each order until the standard input ends.

    Args:
        module: Name of the module that runs an order.
        life: File descriptor that ends when the sweep does; runs watch it.
    """
    child: Child = import_module(module)
    with start_up():
        child.preload()
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: dict[int, int] = {}  # number of an order -> process
    pending = b""
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
        _report(running)
        if 0 not in ready:
            continue
        read = os.read(0, 1 << 16)
        if not read:
            break
        *lines, pending = (pending + read).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "order" in message:
                running[message["number"]] = _fork(child, message, (woken, wake), life)
            elif message["number"] in running:
                os.kill(running[message["number"]], message["signal"])
    _end(running)


def _fork(child: Child, message: Mapping[str, Any], pipes: tuple[int, ...], life: int) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads of a library, which are idle
        process = os.fork()
    if process:
        return process
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        for pipe in pipes:
            os.close(pipe)
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if message["append"] else os.O_TRUNC)
        log = os.open(message["log"], flags, 0o666)
        for source, target in ((life, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.close(log)
        _reseed()
        code = _code(lambda: child.execute(message["order"]))
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _reseed() -> None:
    """Give global generators, which a run of growmas never uses, a state as in a new process."""
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


def _code(run: Callable[[], int]) -> int:
    """Return the exit code that a program of its own would have."""
    try:
        return run()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1


def _report(running: dict[int, int]) -> None:
    """Report the runs that have ended."""
    for number, process in list(running.items()):
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            del running[number]
            line = json.dumps({"number": number, "code": os.waitstatus_to_exitcode(status)})
            try:
                os.write(1, line.encode() + b"\n")
            except BrokenPipeError:
                return  # the sweep has ended, and so will the standard input


def _end(running: dict[int, int]) -> None:
    """Ask the runs that are left to end, and wait for them."""
    for process in running.values():
        os.kill(process, signal.SIGTERM)
    last = time.monotonic() + _GRACE
    while running and time.monotonic() < last:
        _report(running)
        time.sleep(0.02)
    for process in running.values():
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
