"""The browser, driven by Textual's pilot as a user at the keys would."""

import asyncio
import csv
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("textual")

sys.path.append(str(Path(__file__).parents[1] / "history"))  # for its fake structure

from fake_structure import FakeStructure
from rich.console import Console
from textual.geometry import Region
from textual.pilot import Pilot
from textual.widgets import Input, OptionList, Static
from textual.widgets._footer import FooterKey

from growmas.browser.app import Browser
from growmas.browser.board import MEASURES, read_board
from growmas.browser.found_runs import FoundRuns
from growmas.browser.screens import KEYS, Export, Help
from growmas.browser.watched_run import WatchedRun
from growmas.history import TopologyHistory, TopologyTracker
from growmas.runs.lock import RunLock

NAMES = ["digits 0/1", "digits 2/3", "digits 4/5"]


class Recording:
    """A structure and its tracker, which write while a browser is open."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.structure = FakeStructure({"fc1": 12, "[b]fc2": 8}, outputs=4)
        self.tracker = TopologyTracker(self.structure, path)
        self.names: list[str] = []

    def learn(self, name: str) -> None:
        self.names.append(name)
        self.structure.begin_task(name)
        if len(self.names) > 1:
            self.structure.edit(grow={"fc1": 4}, reason="growth & why")
            pruned = self.structure.groups["[b]fc2"].unit_ids[-1:]
            self.structure.edit(prune={"[b]fc2": list(pruned)}, reason="pruned [red]below")
        accuracy = {f"accuracy/{n}": 0.9 + 0.01 * i for i, n in enumerate(self.names)}
        omega = {"fc1": 0.5, "[b]fc2": 0.1}
        self.tracker.snapshot(metrics=accuracy, omega=omega)


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[Recording]:
    recording = Recording(tmp_path / "run.db")
    for name in NAMES:
        recording.learn(name)
    yield recording
    recording.tracker.close()


def drive(
    runs: list[WatchedRun] | FoundRuns,
    act: Callable[[Browser, Pilot[None]], Awaitable[None]],
    *,
    size: tuple[int, int] = (140, 40),
    poll: float = 60.0,
) -> None:
    async def run() -> None:
        searched = isinstance(runs, FoundRuns)
        app = Browser(find=runs.look, poll=poll) if searched else Browser(runs, poll=poll)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await act(app, pilot)

    asyncio.run(run())


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    """Wait until the browser has read the file again."""
    for _ in range(200):
        if condition():
            return
        await pilot.pause(0.05)
    raise AssertionError("the browser did not follow")


def shown(app: Browser, name: str) -> str:
    console = Console(width=60, color_system=None)
    with console.capture() as capture:
        content: Any = app.query_one(name, Static).content
        console.print(content)
    return " ".join(capture.get().split())


def grid(app: Browser) -> list[str]:
    return app.grid.render().plain.splitlines()


def watched(tmp_path: Path, name: str = "run") -> WatchedRun:
    return WatchedRun(name, tmp_path / f"{name}.db")


def test_what_is_shown_is_what_the_store_has(recording: Recording, tmp_path: Path) -> None:
    async def act(app: Browser, pilot: Pilot[None]) -> None:
        lines = grid(app)
        assert lines[0].split() == ["digits", "0/1", "2/3", "4/5"]
        assert lines[1].split() == ["fc1", "12", "16", "[20]"]
        assert lines[2].split() == ["[b]fc2", "8", "7", "6"]
        assert ["all", "units", "20", "23", "26"] in [line.split() for line in lines]
        detail = shown(app, "#detail")
        assert "16 + 4 born − 0 pruned = 20 units" in detail
        assert "growth & why" in detail
        assert "−1 pruned [red]below" in shown(app, "#events")

    drive([watched(tmp_path)], act)


def test_steps_measures_and_ends(recording: Recording, tmp_path: Path) -> None:
    async def act(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("left", "down")
        assert (app.grid.column, app.grid.group) == (1, "[b]fc2")
        assert "8 + 0 born − 1 pruned = 7 units" in shown(app, "#detail")
        await pilot.press("m")
        assert grid(app)[2].split() == ["[b]fc2", "·", "[−1]", "−1"]
        await pilot.press("m", "m")
        assert MEASURES[app.grid.measure].name == "unused"
        await pilot.press("M", "home")
        assert app.grid.column == 0
        await pilot.press("left", "up", "up")
        assert (app.grid.column, app.grid.row) == (0, 0)
        await pilot.press("end", "right")
        assert app.grid.column == 2

    drive([watched(tmp_path)], act)


def test_two_marked_tasks_are_compared(recording: Recording, tmp_path: Path) -> None:
    async def act(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("d", "home", "d")
        assert app.query_one("#side").border_title == "difference"
        detail = shown(app, "#detail")
        assert re.search(r"fc1 12 → 20 \+8", detail)
        assert "A:0/1" in grid(app)[0]
        assert "B:4/5" in grid(app)[0]
        await pilot.press("d")
        assert app.grid.marks == ()
        assert app.query_one("#side").border_title == "group"

    drive([watched(tmp_path)], act)


def test_units_one_after_another_and_by_name(recording: Recording, tmp_path: Path) -> None:
    async def act(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("comma")
        assert "fc1#19 born in digits 4/5: growth & why" in shown(app, "#detail")
        await pilot.press("full_stop")
        assert "fc1#0 there when the network began" in shown(app, "#detail")
        await pilot.press("slash", *"[b]fc2#7", "enter")
        assert "pruned in digits 2/3: pruned [red]below" in shown(app, "#detail")
        assert app.grid.group == "[b]fc2"
        await pilot.press("slash")
        app.query_one("#filter", Input).value = "#99"
        await pilot.press("enter")
        assert any("unit 99 does not exist" in note.message for note in app._notifications)
        await pilot.press("escape")
        assert app.query_one("#side").border_title == "group"

    drive([watched(tmp_path)], act)


def test_groups_are_filtered(recording: Recording, tmp_path: Path) -> None:
    async def act(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"c1", "enter")
        assert app.grid.groups == ("fc1",)
        await pilot.press("slash")
        app.query_one("#filter", Input).value = "zz"
        await pilot.press("enter")
        assert "no group has 'zz'" in grid(app)[1]
        await pilot.press("escape")
        assert len(app.grid.groups) == 2

    drive([watched(tmp_path)], act)


def test_a_growing_history_is_followed(recording: Recording, tmp_path: Path) -> None:
    async def act(app: Browser, pilot: Pilot[None]) -> None:
        recording.learn("digits 6/7")
        await until(pilot, lambda: len(app.grid.board.tasks) == 4)
        assert grid(app)[0].split()[-1] == "6/7"
        assert app.grid.column == 3
        await pilot.press("left")
        recording.structure.begin_task("digits 8/9")
        recording.structure.edit(grow={"fc1": 1})
        await until(pilot, lambda: app.grid.board.total[-1].born == 1)
        assert grid(app)[1].split()[-1] == "25"
        assert app.grid.column == 2  # a cursor on an earlier task stays there
        assert "live" in str(app.query_one("#middle").border_title)

    drive([watched(tmp_path)], act, poll=0.05)


def test_a_run_that_begins_while_the_browser_is_open(tmp_path: Path) -> None:
    async def act(app: Browser, pilot: Pilot[None]) -> None:
        assert "no topology history at" in shown(app, "#detail")
        await pilot.press("left", "down", "d", "space", "full_stop", "m", "M", "d")
        recording = Recording(tmp_path / "run.db")
        recording.learn("a")
        await until(pilot, lambda: len(app.grid.board.tasks) == 1)
        assert grid(app)[1].split() == ["fc1", "[12]"]
        recording.tracker.close()

    drive([watched(tmp_path)], act, poll=0.05)


def test_a_run_that_is_made_anew_is_opened_anew(recording: Recording, tmp_path: Path) -> None:
    async def act(app: Browser, pilot: Pilot[None]) -> None:
        recording.tracker.close()
        for path in tmp_path.glob("run.db*"):
            path.unlink()
        again = Recording(tmp_path / "run.db")
        again.learn("other")
        app.follow()
        assert app.grid.board.tasks == ("other",)
        again.tracker.close()

    drive([watched(tmp_path)], act)


def test_recorded_tasks_are_played(
    recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("growmas.browser.app.PACE", 60.0)

    async def act(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("space")
        assert app.grid.column == 0
        assert "playing" in str(app.query_one("#middle").border_subtitle)
        for column in (1, 2):
            app.play_on()
            await pilot.pause()
            assert app.grid.column == column
        assert "playing" not in str(app.query_one("#middle").border_subtitle)

    drive([watched(tmp_path)], act)


@pytest.mark.parametrize("key", ["j", "c", "s"])
def test_what_is_shown_is_exported(
    recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.chdir(tmp_path)

    async def act(app: Browser, pilot: Pilot[None]) -> None:
        for _ in range(2):  # the second does not overwrite the first
            await pilot.press("e")
            assert isinstance(app.screen, Export)
            await pilot.press(key)
            await pilot.pause()

    drive([watched(tmp_path)], act)
    kind = {"j": "json", "c": "csv", "s": "svg"}[key]
    first, second = sorted(tmp_path.glob(f"run-width*.{kind}"), key=lambda path: len(path.name))
    assert first.name == f"run-width.{kind}"
    text = first.read_text(encoding="utf-8")
    with TopologyHistory(tmp_path / "run.db") as history:
        widths = history.widths()
    if key == "j":
        assert json.loads(text)["groups"] == {g: list(by.values()) for g, by in widths.items()}
    elif key == "c":
        rows = list(csv.DictReader(text.splitlines()))
        assert [int(row["fc1"]) for row in rows] == list(widths["fc1"].values())
    else:
        assert "fc1" in text
        assert "@font-face" not in text
        assert "url(http" not in text
    assert second.exists()


def test_a_file_that_cannot_be_written_is_told(
    recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)

    async def act(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("e", "c")
        await pilot.pause()
        assert any("No space left" in note.message for note in app._notifications)

    drive([watched(tmp_path)], act)


def test_runs_side_by_side(recording: Recording, tmp_path: Path) -> None:
    other = Recording(tmp_path / "other.db")
    other.learn("solo")

    async def act(app: Browser, pilot: Pilot[None]) -> None:
        assert app.query_one("#runs", OptionList).option_count == 2
        await pilot.press("r")
        assert grid(app)[1].split() == ["fc1", "[12]"]
        await pilot.press("shift+tab", "up", "enter")
        assert app.watched.name == "run"
        assert app.focused is app.grid

    drive([watched(tmp_path), watched(tmp_path, "other")], act)
    other.tracker.close()


@pytest.mark.parametrize("size", [(40, 24), (80, 24), (100, 30), (140, 40)])
def test_the_help_fits_or_scrolls(
    recording: Recording, tmp_path: Path, size: tuple[int, int]
) -> None:
    async def act(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("question_mark")
        box, keys = app.screen.query_one(".box"), app.screen.query_one("#keys", Static)
        lines = [line.text for line in keys.render_lines(Region(0, 0, *keys.size))]
        starts = [line[:5].strip() for line in lines if line[:1].strip() and line[5:7] == "  "]
        assert starts == list(KEYS)  # meanings stand in a column of their own
        text = " ".join(word for line in lines for word in line.split())
        for meaning in KEYS.values():
            assert all(word in text for word in meaning.split())
        assert box.region.bottom <= size[1]
        assert box.region.right <= size[0]
        if size[0] >= 80:
            assert keys.size.height <= box.size.height
        await pilot.press("end")
        await pilot.pause(0.3)
        assert box.scroll_offset.y == max(0, keys.size.height - box.size.height)
        await pilot.press("q")
        assert not isinstance(app.screen, Help)

    drive([watched(tmp_path)], act, size=size)


def test_every_size_of_terminal_will_do(recording: Recording, tmp_path: Path) -> None:
    other = Recording(tmp_path / "a-run-with-a-rather-long-name,seed=1.db")
    other.learn("solo")

    async def act(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("left", "m", "d", "right", "d", "full_stop", "question_mark")
        assert isinstance(app.screen, Help)
        await pilot.press("escape", "home")
        for size in ((20, 6), (40, 24), (80, 24), (100, 30), (140, 40), (250, 70)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            width = app.grid.size.width
            assert all(len(line) <= max(width, 18) for line in grid(app))
            assert "[" in "".join(grid(app))
            if size[0] >= 40:
                _check_nothing_is_cut(app)
                words = str(app.query_one("#reading", Static).content)
                assert len(words) <= app.query_one("#reading").size.width
                assert words.endswith(("task", "many", "…"))

    drive([watched(tmp_path), watched(tmp_path, other.path.stem)], act)
    other.tracker.close()


def _check_nothing_is_cut(app: Browser) -> None:
    """Check that list, board and detail are there, with whole titles, and that all keys fit."""
    for name in ("#runs", "#middle", "#side"):
        widget = app.query_one(name)
        assert widget.size.height >= 3
        for words in (widget.border_title, widget.border_subtitle):
            assert len(str(words or "")) <= widget.size.width
    keys = app.query(FooterKey)
    if app.size.width >= 60:
        assert keys
        assert all(key.region.right <= app.size.width for key in keys)
    else:
        assert app.query_one("#few-keys").region.height == 1
    assert "recorded" in str(app.query_one("#middle").border_title)


def test_many_tasks_and_groups_scroll_with_the_cursor(tmp_path: Path) -> None:
    structure = FakeStructure({f"layer{i}.conv": 4 for i in range(40)})
    with TopologyTracker(structure, tmp_path / "run.db") as tracker:
        for i in range(30):
            structure.begin_task(f"task number {i}")
            tracker.snapshot()

    async def act(app: Browser, pilot: Pilot[None]) -> None:
        for row, column in ((0, 29), (39, 0), (20, 15)):
            app.grid.move(rows=row - app.grid.row, tasks=column - app.grid.column)
            await pilot.pause()
            text = "\n".join(grid(app))
            assert re.search(rf"layer{row}\.conv.*\[4\]", text)
            assert re.search(rf"\b{column}\b", grid(app)[0])

    drive([watched(tmp_path)], act, size=(90, 24))


def test_a_click_moves_the_cursor(recording: Recording, tmp_path: Path) -> None:
    async def act(app: Browser, pilot: Pilot[None]) -> None:
        x = grid(app)[2].index("7")
        await pilot.click("#grid", offset=(x, 2))
        assert (app.grid.group, app.grid.column) == ("[b]fc2", 1)

    drive([watched(tmp_path)], act)


def test_the_board_adds_up(recording: Recording, tmp_path: Path) -> None:
    with TopologyHistory(tmp_path / "run.db") as history:
        board = read_board(history)
    for i in range(len(NAMES)):
        assert board.total[i].width == sum(cells[i].width for cells in board.turnover.values())
        for cells in board.turnover.values():
            assert cells[i].before + cells[i].born - cells[i].died == cells[i].width
    for measure in MEASURES:
        for group in board.groups:
            for i in range(len(NAMES)):
                assert 0 <= measure.cell(board, group, i).share <= 1


def test_not_a_history_is_said_in_the_browser(tmp_path: Path) -> None:
    (tmp_path / "run.db").write_text("not a database, and long enough to be told for none" * 9)

    async def act(app: Browser, pilot: Pilot[None]) -> None:
        assert "is not a topology history" in shown(app, "#detail")

    drive([watched(tmp_path)], act)


def result(name: str, **changes: object) -> str:
    """Return a metrics.json."""
    values = {
        "name": name, "method": "mas", "stream": "digits split", "scenario": "task", "seed": 1,
        "tasks": NAMES, "accuracy": [[0.9]], "parameters": 7, "units": {}, "seconds": 1.0,
        "status": "unfinished", "started": time.time() - 10, **changes,
    }  # fmt: skip
    return json.dumps(values)


def listed(app: Browser) -> list[str]:
    """Return the lines of the list of runs."""
    return [line for each in app.run_list.options for line in str(each.prompt).splitlines()]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Return a sweep whose first run goes on, the second is finished, and the third waits."""
    folder = tmp_path / "runs" / "s"
    for name in ("strength=1,seed=1", "strength=1,seed=2"):
        recording = Recording(folder / name / "history.db")
        recording.learn(NAMES[0])
        for epoch in (1, 2):
            loss = {"loss": 1 / epoch, "penalty": 0.1}
            recording.tracker.scalars(loss, step=epoch, task=NAMES[0], epoch=epoch)
        recording.tracker.close()
        (folder / name / "config.yaml").write_text("training: {epochs: 2}\n")
        (folder / name / "metrics.json").write_text(result(name))
    rows = [[0.9], [0.9, 0.8], [0.8, 0.8, 0.8]]
    finished = result("b", status="finished", accuracy=rows, started=time.time() - 99)
    (folder / "strength=1,seed=2" / "metrics.json").write_text(finished)
    runs = [*(path.name for path in folder.iterdir()), "strength=1,seed=3"]
    (folder / "sweep.json").write_text(json.dumps({"runs": [{"name": name} for name in runs]}))
    return folder


def test_runs_that_begin_later_appear_and_deleted_ones_go(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    async def act(app: Browser, pilot: Pilot[None]) -> None:
        names = [line.split()[-1] for line in listed(app)[::2]]
        assert names[0] == "s"
        assert set(names[1:]) == {"seed=1", "seed=2", "seed=3"}
        assert listed(app)[1] == "  ● 1  ✓ 1  ○ 1"
        assert app.watched.status == "running"
        own = Recording(sweep.parent / "own" / "history.db")
        own.learn("a")
        own.tracker.close()
        app.follow()
        assert "○ own" in listed(app)
        shutil.rmtree(sweep)
        app.follow()
        assert app.watched.name == "own"
        assert listed(app) == ["○ own", "  history"]
        shutil.rmtree(own.path.parent)
        app.follow()
        assert listed(app) == []
        assert "waiting for a run" in shown(app, "#detail")
        await pilot.press("left", "d", "m", "t", "s", "r", "full_stop", "e", "c")
        assert any("nothing to export yet" in note.message for note in app._notifications)
        assert list(Path().iterdir()) == []

    with RunLock(sweep / "strength=1,seed=1", "id"):
        drive(FoundRuns(folders=[sweep.parent], root=sweep.parent), act, size=(80, 24))


def test_training_is_shown_while_it_goes_on(sweep: Path) -> None:
    async def act(app: Browser, pilot: Pilot[None]) -> None:
        assert app.query_one("#side").border_title == "training"
        assert re.search(r"loss 0.5 0.5 to 1 .*penalty 0.1", shown(app, "#detail"))
        progress = r"● running task 2/3, epoch 0/2 2\d s left"  # a third is done in 10 s
        assert re.search(progress, shown(app, "#progress"))
        await pilot.press("down")
        assert app.query_one("#side").border_title == "group"
        await pilot.press("t")
        assert app.query_one("#side").border_title == "training"
        await pilot.press("question_mark")
        with sqlite3.connect(app.watched.path) as history:  # it is read while the help is open
            history.execute("INSERT INTO scalars VALUES (3, 'loss', 0.25, 'digits 2/3', 1)")
        app.follow()
        await pilot.press("escape")
        assert "epoch 1/2" in shown(app, "#progress")

    with RunLock(sweep / "strength=1,seed=1", "id"):
        drive(FoundRuns(folders=[sweep], root=sweep.parent), act, size=(100, 30))


def test_the_list_is_sorted_filtered_and_folded(sweep: Path) -> None:
    async def act(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("shift+tab")
        assert app.run_list.has_focus
        orders = []
        for _ in range(4):
            await pilot.press("s")
            seeds = [line[-1] for line in listed(app) if "seed=" in line]
            orders.append((app.run_list.order, "".join(seeds)))
        assert orders == [
            ("name", "123"),
            ("accuracy", "123"),
            ("status", "213"),
            ("newest", "123"),
        ]
        await pilot.press("slash", *"seed=2 finished", "enter")
        assert [run.name for run in app.run_list.shown] == ["s/strength=1,seed=2"]
        assert app.run_list.border_title == "1 of 3 runs"
        await pilot.press("escape")
        assert len(app.run_list.shown) == 3
        await pilot.press("home", "enter")
        assert app.run_list.shown == []
        await pilot.press("enter", "down", "down", "enter")
        assert app.focused is app.grid
        assert app.watched is app.run_list.shown[1]

    drive(FoundRuns(folders=[sweep], root=sweep.parent), act, size=(140, 40))


def test_other_commands_do_not_load_textual() -> None:
    program = (
        "import sys, growmas.cli.app, growmas.cli.reading, growmas.cli.watching\n"
        "sys.exit(str({'torch', 'textual', 'networkx'} & set(sys.modules) or ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""
