"""Accidents of a run: the disk, the directory, the clock, other versions and other writers.

The table in docs/reliability.md says what these tests check.
"""

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from growmas.cli import main
from growmas.config import load_config
from growmas.runs import list_runs

sys.path.append(str(Path(__file__).parents[2] / "experiments" / "crash"))
import kills
import runs

CONFIG = "digits_smoke"
OVERRIDES = [
    "stream.tasks=2", "stream.limit=10", "training.epochs=1", "model.hidden=[8, 8]",
    "checkpoint.every=2",
]  # fmt: skip

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of fork beside threads
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the run comes to that no accident befalls."""
    runs.warm()
    folder = tmp_path_factory.mktemp("whole") / "run"
    case = runs.run_case(load_config(CONFIG, OVERRIDES))
    assert kills.attempt(case.work(folder)) == 0
    return case.outcome(folder)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, which only root can make."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "none", place], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("a small disk can be mounted by root only")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


def growmas(*words: object, before: Callable[[], object] = lambda: None) -> tuple[int, str]:
    """The exit code and the errors of a command, in a fork in which something is done before."""
    words = tuple(map(str, words))
    errors = Path(os.environ["ERRORS"])

    def work() -> None:
        sys.stderr = errors.open("w", encoding="utf-8", buffering=1)
        sys.argv = ["growmas", *words]
        before()
        try:
            main()
        finally:
            sys.stderr.flush()

    code = kills.attempt(work)
    return code, errors.read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _errors(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERRORS", str(tmp_path_factory.mktemp("errors") / "stderr"))


def run(
    folder: Path, *options: str, before: Callable[[], object] = lambda: None
) -> tuple[int, str]:
    return growmas("run", CONFIG, *OVERRIDES, "--out", folder, *options, before=before)


def one_message(errors: str) -> str:
    """The only message; a traceback, or a second message, is a mistake."""
    lines = [line for line in errors.splitlines() if line.startswith(("error:", "Traceback"))]
    assert len(lines) == 1, errors
    assert lines[0].startswith("error: ")
    assert "Traceback" not in errors
    return lines[0]


def at_operation(number: int, folder: Path, act: Callable[[str], object]) -> Callable[[], None]:
    """Do something before every file operation in a folder, from one of them on."""

    def install() -> None:
        count = 0

        def hook(event: str, args: tuple[object, ...]) -> None:
            nonlocal count
            if event in kills.EVENTS and args and str(args[0]).startswith(str(folder)):
                count += 1
                if count >= number:
                    act(event)

        sys.addaudithook(hook)

    return install


def resumed(folder: Path, whole: dict[str, object], *options: str) -> None:
    code, errors = run(folder, "--resume", *options)
    assert code == 0, errors
    assert kills.differing(runs.outcome(folder), whole) == []


# The disk


def test_a_full_disk_is_one_message_and_the_run_goes_on_when_there_is_room(
    disk: Path, whole: dict[str, object]
) -> None:
    codes = []
    for size in (4, 100, 160, 300):
        remount(disk, "size=32m")
        shutil.rmtree(disk / "run", ignore_errors=True)
        remount(disk, f"size={size}k")
        code, errors = run(disk / "run")
        codes.append(code)
        if code == 2:
            assert "space" in one_message(errors) or "full" in errors
        remount(disk, "size=32m")
        resumed(disk / "run", whole)
    assert set(codes) <= {0, 2}
    assert codes.count(2) >= 2


@pytest.mark.parametrize("number", [3, 31, 52, 95])
def test_a_disk_that_is_full_from_some_operation_on(
    number: int, tmp_path: Path, whole: dict[str, object]
) -> None:
    def full(event: str) -> None:
        if event in ("open", "os.mkdir", "os.rename", "os.link"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    code, errors = run(tmp_path / "run", before=at_operation(number, tmp_path / "run", full))
    assert code in (0, 2), errors
    if code:
        one_message(errors)
    resumed(tmp_path / "run", whole)


def test_a_read_only_disk_is_one_message_and_can_be_read(
    disk: Path, whole: dict[str, object]
) -> None:
    remount(disk, "size=32m")
    assert run(disk / "run")[0] == 0
    remount(disk, "ro")
    code, errors = run(disk / "other")
    assert code == 2
    assert "read-only" in one_message(errors).lower()
    code, errors = run(disk / "run", "--overwrite")
    assert code == 2
    one_message(errors)
    for command in (["show", disk / "run"], ["log", disk / "run"], ["doctor", disk / "run"]):
        code, errors = growmas(*command)
        assert code == 0, errors
    assert [found.result.status for found in list_runs(disk)] == ["finished"]
    assert kills.differing(runs.outcome(disk / "run"), whole) == []


# The directory


@pytest.mark.parametrize("number", [40, 75])
def test_a_directory_that_is_moved_ends_the_run_and_is_continued_there(
    number: int, tmp_path: Path, whole: dict[str, object]
) -> None:
    folder, other = tmp_path / "run", tmp_path / "moved"

    def move(event: str, moved: list[int] = []) -> None:  # noqa: B006
        if not moved:
            moved.append(1)
            folder.rename(other)

    code, errors = run(folder, before=at_operation(number, folder, move))
    assert code == 2, errors
    assert "run" in one_message(errors)
    assert other.exists()
    resumed(other, whole)


@pytest.mark.parametrize("number", [40, 75])
def test_a_directory_that_is_deleted_ends_the_run(
    number: int, tmp_path: Path, whole: dict[str, object]
) -> None:
    folder, gone = tmp_path / "run", []

    def delete(event: str) -> None:
        if not gone:
            gone.append(True)
            shutil.rmtree(folder, ignore_errors=True)

    code, errors = run(folder, before=at_operation(number, folder, delete))
    assert code == 2, errors
    one_message(errors)
    resumed(folder, whole)


# The clock


def test_a_clock_that_is_set_back_changes_nothing(tmp_path: Path, whole: dict[str, object]) -> None:
    folder, now = tmp_path / "run", time.time

    def back(event: str) -> None:
        time.time = lambda: now() - 86_400 * 400

    kill = kills.killed_before(60, folder, lambda: None)
    code, errors = run(folder, before=lambda: (at_operation(20, folder, back)(), kill()))
    assert code == -signal.SIGKILL, errors
    code, errors = run(
        folder, "--resume", before=lambda: setattr(time, "time", lambda: now() - 86_400 * 800)
    )
    assert code == 0, errors
    assert kills.differing(runs.outcome(folder), whole) == []
    assert [found.result.status for found in list_runs(tmp_path)] == ["finished"]


# Other versions and writers


@pytest.mark.parametrize("file", ["history.db", "checkpoint/state.json"])
def test_files_of_a_newer_growmas_are_refused_and_left_alone(file: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    kill = kills.killed_before(70, folder, lambda: None)
    assert run(folder, before=kill)[0] == -signal.SIGKILL
    path = folder / file
    if file == "history.db":
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 99")
        database.close()
    else:
        path.write_text(path.read_text().replace('"format": 2', '"format": 99'))
    held = {each: each.read_bytes() for each in folder.rglob("*.json")}
    code, errors = run(folder, "--resume")
    assert code == 2
    assert "99" in one_message(errors)
    assert {each: each.read_bytes() for each in held if each.name != "status.json"} == {
        each: content for each, content in held.items() if each.name != "status.json"
    }


@pytest.mark.parametrize("options", [(), ("--resume",), ("--overwrite",)])
def test_a_second_writer_is_refused_and_the_first_goes_on(
    options: tuple[str, ...], tmp_path: Path, whole: dict[str, object]
) -> None:
    folder = tmp_path / "run"
    begun, begins = os.pipe()
    ends, end = os.pipe()

    def wait(event: str, waited: list[int] = []) -> None:  # noqa: B006
        if not waited:
            waited.append(1)
            os.write(begins, b"x")
            os.read(ends, 1)

    child = os.fork()
    if child == 0:
        os.close(end)
        code, errors = 1, ""
        try:
            sys.argv = ["growmas", "run", CONFIG, *OVERRIDES, "--out", str(folder)]
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            at_operation(60, folder, wait)()
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            os._exit(code)
    assert os.read(begun, 1) == b"x"
    code, errors = run(folder, *options)
    assert code == 2
    message = one_message(errors)
    assert f"process {child}" in message or (not options and "exists" in message)
    os.write(end, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert kills.differing(runs.outcome(folder), whole) == []
    for each in (begun, begins, ends, end):
        os.close(each)
