"""Kills of runs, at random moments and before every file operation, and what must come of them.

Each attempt is a fork of this process, so that torch is imported once. A hook on Python's audit
events counts the operations on files of the run directory, and kills the process before one of
them, as `kill -9` does.
"""

import itertools
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

EVENTS = {
    "open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link",
    "shutil.rmtree", "sqlite3.connect", "os.listdir", "os.scandir",
}  # fmt: skip
LIMIT = 300.0
"""Seconds after which an attempt counts as hung."""

Work = Callable[[], object]
Outcome = dict[str, object]


@dataclass(frozen=True)
class Case:
    """A kind of run or sweep.

    Attributes:
        work: Folder -> the work of a run in it, begun or resumed.
        outcome: Folder -> everything that a finished run has come to, without times and ids.
        missing: Folder -> what was reported as done and is not on the disk.
        family: True if the processes that the work starts are killed with it.
    """

    work: Callable[[Path], Work]
    outcome: Callable[[Path], Outcome]
    missing: Callable[[Path], list[str]]
    family: bool = False


def differing(one: dict[str, object], other: dict[str, object]) -> list[str]:
    """Return the parts in which two outcomes differ."""
    return [name for name in one if one[name] != other[name]]


def attempt(work: Work, *, delay: float | None = None, family: bool = False) -> int:
    """Do some work in a fork, and return its exit code; -9 if it was killed.

    Args:
        work: To do.
        delay: Seconds after which the fork is killed; None leaves it alone.
        family: The processes that it started are killed with it.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            work()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
        finally:
            os._exit(code)
    until = time.monotonic() + (LIMIT if delay is None else delay)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            for each in _children(child) if family else ():
                os.kill(each, signal.SIGKILL)
            os.kill(child, signal.SIGKILL)
            if delay is None:
                raise TimeoutError("an attempt hangs")
        time.sleep(0.002)


def _children(process: int) -> list[int]:
    """Return the ids of the processes that a process has started; Linux only."""
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def killed_before(number: int, folder: Path, work: Work) -> Work:
    """Return work that is killed before its operation `number`, from 1, on a file in a folder."""

    def counting() -> object:
        count, inside, sync = 0, str(folder), os.fsync

        def act() -> None:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

        def hook(event: str, args: tuple[object, ...]) -> None:
            if event in EVENTS and args and str(args[0]).startswith(inside):
                act()

        def counted(handle: int) -> None:
            act()
            sync(handle)

        os.fsync = counted  # type: ignore[assignment]
        sys.addaudithook(hook)
        return work()

    return counting


@dataclass(frozen=True)
class Killed:
    """A run that was killed at least once, resumed to its end, and compared.

    Attributes:
        name: Of the run, unique for a case.
        kills: Number of kills.
        wrong: What differed from the run left alone, or was reported and is missing.
    """

    name: str
    kills: int
    wrong: list[str]


def kill_at_every_operation(
    case: Case,
    root: Path,
    whole: Outcome,
    *,
    every: int = 1,
    first: int = 1,
    known: Collection[str] = (),
) -> Iterator[Killed]:
    """Kill a run before each of its file operations in turn, resume it, and compare.

    Args:
        case: To run.
        root: Of the run directories.
        whole: Outcome of the run that was not killed.
        every: Only each so many operations.
        first: The first operation.
        known: Names of the runs to leave out.
    """
    for number in itertools.count(first, every):
        name = f"operation-{number}"
        if name in known:
            continue
        folder = root / name
        code = attempt(killed_before(number, folder, case.work(folder)))
        if code == 0:
            return
        kills = int(code == -signal.SIGKILL)
        wrong = case.missing(folder)
        again = attempt(killed_before(number // 2 + 1, folder, case.work(folder)))
        kills += again == -signal.SIGKILL
        wrong += case.missing(folder)
        yield Killed(name, kills, wrong + _finished(case, folder, whole))


def kill_at_random(
    case: Case,
    root: Path,
    whole: Outcome,
    *,
    times: int,
    seconds: float,
    known: Collection[str] = (),
    attempts: int = 20,
) -> Iterator[Killed]:
    """Kill a run at random moments, over and over, until it is done, and compare.

    Args:
        case: To run.
        root: Of the run directories.
        whole: Outcome of the run that was not killed.
        times: Number of kills.
        seconds: The longest time that an attempt is left alone.
        known: Names of the runs to leave out.
        attempts: Number of kills after which a run is left alone.
    """
    total = 0
    for number in itertools.count(1):
        if total >= times:
            return
        name = f"random-{number}"
        if name in known:
            continue
        folder, draw = root / name, random.Random(name)
        kills, wrong = 0, []
        for _ in range(attempts):
            delay = draw.uniform(0.0, seconds)
            family = case.family and draw.random() < 0.5
            code = attempt(case.work(folder), delay=delay, family=family)
            kills += code == -signal.SIGKILL
            wrong += case.missing(folder)
            if code != -signal.SIGKILL:
                break
        total += kills
        yield Killed(name, kills, wrong + _finished(case, folder, whole))


def _finished(case: Case, folder: Path, whole: Outcome) -> list[str]:
    """Resume a run to its end, return what differs, and remove it."""
    code = attempt(case.work(folder))
    if code:
        return [f"{folder.name}: exit code {code}"]
    wrong = [f"{folder.name}: {part} differs" for part in differing(case.outcome(folder), whole)]
    if not wrong:
        shutil.rmtree(folder)
        reports(folder).unlink(missing_ok=True)
    return wrong


def reports(folder: Path) -> Path:
    """Return the file, next to a run directory, of what was reported as done."""
    return folder.with_name(f"{folder.name}.reported")
