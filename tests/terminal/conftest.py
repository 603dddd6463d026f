import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from itertools import count
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "history"))  # for its fake structure

from fake_structure import FakeStructure
from histories import write_lives, write_long, write_residual

from growmas.history import TopologyHistory, TopologyTracker

RULE = re.compile(r"^[─-]+$", re.MULTILINE)
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def check_golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with a golden file, or write the file under --regenerate."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / f"{name}.txt"
        if request.config.getoption("--regenerate"):
            path.write_text(text, encoding="utf-8")
        expected = path.read_text(encoding="utf-8")
        if int(version("rich").split(".")[0]) < 15:  # its rules end a column later
            text, expected = (RULE.sub("", each) for each in (text, expected))
        assert text == expected

    return check


@pytest.fixture
def history(tmp_path: Path) -> Iterator[TopologyHistory]:
    """Nine tasks, the last without a snapshot; in the fifth and sixth no unit changes."""
    structure = FakeStructure({"features.0": 96, "blocks.1.mlp.fc1": 80, "fc": 1024}, outputs=10)
    names = [f"digits {2 * i}/{2 * i + 1}" for i in range(9)]
    choice = random.Random(0)
    with TopologyTracker(structure, tmp_path / "run.db") as tracker:
        for i, name in enumerate(names):
            structure.begin_task(name)
            if i not in (4, 5):
                pruned = choice.sample(structure.groups["features.0"].unit_ids, 4 + i)
                structure.edit(grow={"features.0": 16, "fc": 40}, prune={"features.0": pruned})
            if i < 8:
                accuracy = {f"accuracy/{names[j]}": 0.95 - 0.01 * (i - j) for j in range(i + 1)}
                tracker.snapshot(metrics=accuracy)
    with TopologyHistory(tmp_path / "run.db") as history:
        yield history


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Replace the clock: each reading is a minute after the one before, in UTC."""
    start, minutes = datetime(2026, 3, 1, 20, 0, tzinfo=UTC), count()
    monkeypatch.setattr(
        "growmas.history.store._now",
        lambda: (start + timedelta(minutes=next(minutes))).isoformat(timespec="seconds"),
    )
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def lives(tmp_path: Path, clock: None) -> Iterator[TopologyHistory]:
    """Return the history of `write_lives`."""
    write_lives(tmp_path / "lives.db")
    with TopologyHistory(tmp_path / "lives.db") as history:
        yield history


@pytest.fixture
def long(tmp_path: Path, clock: None) -> Iterator[TopologyHistory]:
    """Return the history of `write_long`."""
    write_long(tmp_path / "long.db")
    with TopologyHistory(tmp_path / "long.db") as history:
        yield history


@pytest.fixture
def residual(tmp_path: Path, clock: None) -> Iterator[TopologyHistory]:
    """Return the history of `write_residual`."""
    write_residual(tmp_path / "residual.db")
    with TopologyHistory(tmp_path / "residual.db") as history:
        yield history
