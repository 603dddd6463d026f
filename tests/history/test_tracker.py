import math
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_structure import FakeStructure

from growmas.errors import HistoryError
from growmas.history import TopologyHistory, TopologyTracker


@pytest.fixture
def structure() -> FakeStructure:
    return FakeStructure({"fc1": 6, "fc2": 4})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


def test_first_units_are_there_at_once(structure: FakeStructure, path: Path) -> None:
    with TopologyTracker(structure, path), TopologyHistory(path) as history:
        assert history.widths() == {"fc1": {"task 0": 6}, "fc2": {"task 0": 4}}
        assert history.unit("fc1", 5).birth_task == "task 0"
        assert history.unit("fc1", 5).birth_reason is None
        assert history.parameters() == {"task 0": 6 * 9 + 4 * 7 + 2 * 5}


def test_an_edit_is_written_by_itself(structure: FakeStructure, path: Path) -> None:
    with TopologyTracker(structure, path), TopologyHistory(path) as history:
        structure.edit(
            grow={"fc1": 2}, prune={"fc1": [1]}, parents={"fc1": {6: 3}}, reason="plateau"
        )
        (event,) = history.events()
        assert (event.task, event.reason) == ("task 0", "plateau")
        assert event.born == {"fc1": (6, 7)}
        assert event.died == {"fc1": (1,)}
        assert history.unit("fc1", 6).parent == 3
        assert history.unit("fc1", 3).children == (6,)
        assert history.unit("fc1", 1).death_reason == "plateau"
        assert history.units()["fc1"] == structure.groups["fc1"].unit_ids
        assert history.layers()[0].out_width == 7


def test_tasks_named_by_the_structure(structure: FakeStructure, path: Path) -> None:
    structure.begin_task("a")
    with TopologyTracker(structure, path) as tracker:
        tracker.snapshot(metrics={"accuracy": 0.9})
        structure.begin_task("b")
        structure.edit(grow={"fc2": 3})
        tracker.snapshot("b")
    with TopologyHistory(path) as history:
        assert [task.name for task in history.tasks()] == ["a", "b"]
        assert history.widths()["fc2"] == {"a": 4, "b": 7}


def test_edits_before_the_first_begin_task_belong_to_it(
    structure: FakeStructure, path: Path
) -> None:
    with TopologyTracker(structure, path) as tracker:
        structure.edit(grow={"fc1": 1})
        structure.begin_task("a")
        tracker.snapshot()
    with TopologyHistory(path) as history:
        assert history.unit("fc1", 6).birth_task == "a"


def test_an_edit_belongs_to_the_snapshot_that_comes_next(
    structure: FakeStructure, path: Path
) -> None:
    with TopologyTracker(structure, path) as tracker, TopologyHistory(path) as history:
        structure.edit(grow={"fc1": 1})
        tracker.snapshot(task="a")
        assert [task.name for task in history.tasks()] == ["a"]
        structure.edit(grow={"fc1": 1})
        assert [task.name for task in history.tasks()] == ["a", "task 1"]
        tracker.snapshot(task="b")
        tracker.snapshot(task="c")
        assert history.widths()["fc1"] == {"a": 7, "b": 8, "c": 8}


def test_a_second_snapshot_replaces_the_first_and_takes_the_edits_between(
    structure: FakeStructure, path: Path
) -> None:
    with TopologyTracker(structure, path) as tracker, TopologyHistory(path) as history:
        tracker.snapshot("a", metrics={"accuracy": 0.5, "loss": 1.0}, omega={"fc1": 1.0})
        structure.edit(grow={"fc1": 1}, prune={"fc2": [0]})
        tracker.snapshot("a", metrics={"accuracy": 0.6})
        assert [task.name for task in history.tasks()] == ["a"]
        assert history.metrics("a") == {"accuracy": 0.6}
        assert len(history.importance("a")["fc1"]) == 6
        assert history.unit("fc1", 6).birth_task == "a"
        assert history.unit("fc2", 0).death_task == "a"
        assert [event.task for event in history.events()] == ["a"]


def test_a_snapshot_leaves_what_it_does_not_bring(structure: FakeStructure, path: Path) -> None:
    with TopologyTracker(structure, path) as tracker, TopologyHistory(path) as history:
        tracker.snapshot("a", metrics={"accuracy": 0.5})
        tracker.snapshot("a", omega={"fc2": 1.0})
        assert history.metrics("a") == {"accuracy": 0.5}
        assert list(history.importance("a")) == ["fc2"]
        tracker.snapshot("a", metrics={})
        assert history.metrics("a") == {}


def test_an_unnamed_task_never_takes_a_name_in_use(structure: FakeStructure, path: Path) -> None:
    with TopologyTracker(structure, path) as tracker, TopologyHistory(path) as history:
        tracker.snapshot("task 1")
        structure.edit(grow={"fc1": 1})
        assert [task.name for task in history.tasks()] == ["task 1", "task 1 (unnamed)"]


def test_importance_is_kept_per_unit(structure: FakeStructure, path: Path) -> None:
    with TopologyTracker(structure, path) as tracker, TopologyHistory(path) as history:
        structure.edit(prune={"fc1": [0, 2]})
        tracker.snapshot("a", omega={"fc1": 0.5})
        assert history.importance("a") == {"fc1": {1: 0.5, 3: 1.5, 4: 2.0, 5: 2.5}}
        tracker.snapshot("b", omega={"fc1": 2.0})
        assert history.unit("fc1", 3).importance == {"a": 1.5, "b": 6.0}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(
    structure: FakeStructure, path: Path, value: float
) -> None:
    with TopologyTracker(structure, path) as tracker, TopologyHistory(path) as history:
        with pytest.raises(HistoryError, match="loss = "):
            tracker.snapshot("a", metrics={"accuracy": 0.5, "loss": value})
        with pytest.raises(HistoryError, match="importance of 6 units of 'fc1'"):
            tracker.snapshot("a", omega={"fc1": value})
        assert history.tasks()[0].finished is None


def test_snapshots_of_other_tasks_are_refused(structure: FakeStructure, path: Path) -> None:
    with TopologyTracker(structure, path) as tracker:
        with pytest.raises(HistoryError, match="has no task: pass its name"):
            tracker.snapshot()
        tracker.snapshot("a")
        tracker.snapshot("b")
        with pytest.raises(HistoryError, match="'a' has ended"):
            tracker.snapshot("a")
        with pytest.raises(HistoryError, match="not both"):
            structure.begin_task("x")
        assert structure.tasks == ()


def test_a_snapshot_of_another_than_the_current_task_is_refused(
    structure: FakeStructure, path: Path
) -> None:
    with TopologyTracker(structure, path) as tracker:
        structure.begin_task("x")
        with pytest.raises(HistoryError, match="while the structure is in task 'x'"):
            tracker.snapshot("y")


def test_an_edit_of_unknown_units_is_refused_whole(structure: FakeStructure, path: Path) -> None:
    with TopologyTracker(structure, path), TopologyHistory(path) as history:
        with pytest.raises(HistoryError, match="removed 2 units of 'fc1' and only 1"):
            structure.edit(grow={"fc2": 1}, prune={"fc1": [0, 77]})
        assert history.events() == ()
        assert history.widths() == {"fc1": {"task 0": 6}, "fc2": {"task 0": 4}}


def test_a_closed_tracker_no_longer_follows(structure: FakeStructure, path: Path) -> None:
    tracker = TopologyTracker(structure, path)
    tracker.close()
    tracker.close()
    structure.edit(grow={"fc1": 1})
    with TopologyHistory(path) as history:
        assert history.events() == ()
    assert [file.name for file in path.parent.iterdir()] == ["run.db"]


def test_resume_goes_on_where_the_history_stopped(structure: FakeStructure, path: Path) -> None:
    with TopologyTracker(structure, path) as tracker:
        structure.edit(grow={"fc1": 1})
        tracker.snapshot("a")
    with TopologyTracker.resume(structure, path) as tracker:
        structure.edit(prune={"fc1": [0]})
        tracker.snapshot("b")
    with TopologyHistory(path) as history:
        assert history.widths()["fc1"] == {"a": 7, "b": 6}


def test_a_second_tracker_of_the_same_file_is_noticed(structure: FakeStructure, path: Path) -> None:
    first = TopologyTracker(structure, path)
    with TopologyTracker.resume(structure, path) as second:
        second.note("plateau")
    with pytest.raises(HistoryError, match="another tracker writes to it"):
        first.note("shift")
    first.close()
    with TopologyHistory(path) as history:
        assert history.log()[-1].kind == "plateau"


def test_resume_refuses_another_structure(structure: FakeStructure, path: Path) -> None:
    TopologyTracker(structure, path).close()
    structure.edit(grow={"fc1": 1})
    with pytest.raises(HistoryError, match="fc1: 6 living in the history, 7 in the structure, 6"):
        TopologyTracker.resume(structure, path)
    assert structure.listeners == []


def test_resume_can_rewind_to_the_task_of_a_checkpoint(
    structure: FakeStructure, path: Path
) -> None:
    structure.begin_task("a")
    with TopologyTracker(structure, path) as tracker:
        tracker.snapshot(metrics={"accuracy": 0.5}, omega={"fc1": 1.0})
        structure.begin_task("b")
        structure.edit(grow={"fc1": 2}, prune={"fc1": [0]}, parents={"fc1": {6: 1}})
        tracker.snapshot(metrics={"accuracy": 0.6}, omega={"fc1": 1.0})
    restored = FakeStructure({"fc1": 6, "fc2": 4}, tasks=("a",))
    with pytest.raises(HistoryError, match="rewind=True"):
        TopologyTracker.resume(restored, path)
    with TopologyTracker.resume(restored, path, rewind=True) as tracker:
        restored.begin_task("b")
        restored.edit(grow={"fc1": 3})
        tracker.snapshot()
    with TopologyHistory(path) as history:
        assert history.widths()["fc1"] == {"a": 6, "b": 9}
        assert len(history.events()) == 1
        assert history.metrics("a") == {"accuracy": 0.5}


def test_resume_can_rewind_to_a_checkpoint_in_the_middle_of_a_task(
    structure: FakeStructure, path: Path
) -> None:
    structure.begin_task("a")
    with TopologyTracker(structure, path) as tracker:
        structure.edit(grow={"fc1": 1})
        kept = tracker.last_event
        structure.edit(grow={"fc1": 2}, prune={"fc1": [0], "fc2": [3]})
        structure.begin_task("b")
        structure.edit(grow={"fc2": 1})
        beyond = tracker.last_event + 1
    restored = FakeStructure({"fc1": 7, "fc2": 4}, tasks=("a",))
    with pytest.raises(HistoryError, match="living units are not the structure's"):
        TopologyTracker.resume(restored, path, rewind=True)
    with pytest.raises(HistoryError, match=f"rewind={beyond}, and the history has the events 1"):
        TopologyTracker.resume(restored, path, rewind=beyond)
    TopologyTracker.resume(restored, path, rewind=kept).close()
    with TopologyHistory(path) as history:
        assert history.widths() == {"fc1": {"a": 7}, "fc2": {"a": 4}}
        assert [(event.event, event.born) for event in history.events()] == [(kept, {"fc1": (6,)})]


@pytest.fixture
def rewound(structure: FakeStructure, path: Path) -> Callable[[str, bool], TopologyHistory]:
    """Return a function that rewinds a history of three tasks with frozen units."""
    structure.begin_task("a")
    events = {}
    with TopologyTracker(structure, path) as tracker:
        tracker.snapshot(frozen={"fc1": [0, 1], "fc2": [0]}, omega={"fc1": 1.0})
        structure.begin_task("b")
        structure.edit(grow={"fc1": 1})
        events["before the snapshot of b"] = tracker.last_event
        tracker.snapshot(frozen={"fc1": [0, 2]}, metrics={"loss": 0.5}, omega={"fc1": 1.0})
        events["after the snapshot of b"] = tracker.last_event
        structure.edit(grow={"fc1": 1}, prune={"fc2": [0]})
        tracker.snapshot(frozen={"fc1": [1, 3]}, omega={"fc1": 2.0})
        structure.begin_task("c")
        tracker.snapshot(frozen={"fc2": [1]})

    def resume(tasks: str, event: str | bool) -> TopologyHistory:
        restored = FakeStructure({"fc1": 6, "fc2": 4}, tasks=tuple(tasks))
        if isinstance(event, str):
            restored.edit(grow={"fc1": 1})
        rewind = events[event] if isinstance(event, str) else event
        TopologyTracker.resume(restored, path, rewind=rewind).close()
        return TopologyHistory(path)

    return resume


def _stretches(history: TopologyHistory) -> dict[str, dict[int, tuple[tuple[str, str], ...]]]:
    found: dict[str, dict[int, tuple[tuple[str, str], ...]]] = {}
    for line in history.lifelines():
        if line.frozen:
            found.setdefault(line.group, {})[line.unit] = line.frozen
    return found


def test_rewinding_to_a_task_restores_its_frozen_units(rewound) -> None:
    """The stretches of fc1#1 and fc2#0, which task b ended, go on as after task a."""
    with rewound("a", True) as history:
        assert _stretches(history) == {
            "fc1": {0: (("a", "a"),), 1: (("a", "a"),)},
            "fc2": {0: (("a", "a"),)},
        }
        assert history.frozen_units() == {"fc1": (0, 1), "fc2": (0,)}
        open_ends = history._rows("SELECT COUNT(*) FROM frozen WHERE until_task IS NULL")
        assert open_ends == [(3,)]


def test_rewinding_before_a_snapshot_undoes_it_whole(rewound) -> None:
    with rewound("ab", "before the snapshot of b") as history:
        assert history.tasks()[1].finished is None
        assert history.metrics("b") == history.importance("b") == {}
        assert history.consumers("b") == {}
        assert list(history.importance("a")) == ["fc1"]
        assert history.frozen_units() == {"fc1": (0, 1), "fc2": (0,)}
        assert _stretches(history)["fc1"] == {0: (("a", "b"),), 1: (("a", "b"),)}
        assert [event.kind for event in history.log()][-1] == "edit"


def test_rewinding_between_two_snapshots_of_a_task_keeps_the_first(rewound) -> None:
    """Importance of the second snapshot is of units that no longer exist: it is deleted."""
    with rewound("ab", "after the snapshot of b") as history:
        assert history.tasks()[1].finished is not None
        assert history.metrics("b") == {"loss": 0.5}
        assert history.importance("b") == {}
        assert history.frozen_units()["fc2"] == ()
        assert history.widths() == {"fc1": {"a": 6, "b": 7}, "fc2": {"a": 4, "b": 4}}


def test_rewinding_to_a_snapshot_deletes_the_next_without_an_edit_between(
    structure: FakeStructure, path: Path
) -> None:
    structure.begin_task("a")
    with TopologyTracker(structure, path) as tracker:
        tracker.snapshot(omega={"fc1": 1.0})
        kept = tracker.last_event
        tracker.snapshot(omega={"fc1": 2.0})
    TopologyTracker.resume(structure, path, rewind=kept).close()
    with TopologyHistory(path) as history:
        assert history.importance("a") == history.consumers("a") == {}
        assert [event.event for event in history.log()][-1] == kept


def test_rewinding_to_the_last_event_changes_nothing(structure: FakeStructure, path: Path) -> None:
    structure.begin_task("a")
    with TopologyTracker(structure, path) as tracker:
        tracker.snapshot(omega={"fc1": 1.0}, metrics={"loss": 0.5}, frozen={"fc1": [0]})
        kept = tracker.last_event
    with TopologyHistory(path) as history:
        before = history.at(), history.importance("a"), history.lifelines()
    TopologyTracker.resume(structure, path, rewind=kept).close()
    with TopologyHistory(path) as history:
        assert (history.at(), history.importance("a"), history.lifelines()) == before


def test_a_stretch_ended_by_a_task_that_is_rewound_can_end_again(
    structure: FakeStructure, path: Path
) -> None:
    structure.begin_task("a")
    with TopologyTracker(structure, path) as tracker:
        tracker.snapshot(frozen={"fc1": [0, 1]})
        structure.begin_task("b")
        tracker.snapshot(frozen={})
    restored = FakeStructure({"fc1": 6, "fc2": 4}, tasks=("a",))
    with TopologyTracker.resume(restored, path, rewind=True) as tracker:
        restored.begin_task("b")
        tracker.snapshot()
        restored.begin_task("c")
        tracker.snapshot(frozen={"fc1": [1]})
    with TopologyHistory(path) as history:
        assert _stretches(history) == {"fc1": {0: (("a", "b"),), 1: (("a", "c"),)}}


def test_rewind_needs_named_tasks(structure: FakeStructure, path: Path) -> None:
    TopologyTracker(structure, path).close()
    with pytest.raises(HistoryError, match="begin_task"):
        TopologyTracker.resume(structure, path, rewind=True)


def test_the_schema_serves_plain_sql(structure: FakeStructure, path: Path) -> None:
    with TopologyTracker(structure, path) as tracker:
        structure.edit(grow={"fc1": 2}, prune={"fc2": [3]})
        tracker.snapshot("a", metrics={"accuracy": 0.5}, omega={"fc1": 1.0})
    connection = sqlite3.connect(path)
    widths = connection.execute(
        "SELECT group_name, COUNT(*) FROM units "
        "WHERE birth_task <= 0 AND (death_task IS NULL OR death_task > 0) GROUP BY group_name"
    ).fetchall()
    broken = connection.execute("PRAGMA foreign_key_check").fetchall()
    connection.close()
    assert widths == [("fc1", 8), ("fc2", 3)]
    assert broken == []


def test_a_metric_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with TopologyTracker(FakeStructure({"fc1": 4}), tmp_path / "run.db") as tracker:
        with pytest.raises(HistoryError, match="metrics: accuracy='high' is not a number"):
            tracker.snapshot("a", metrics={"accuracy": "high"})  # type: ignore[dict-item]
        tracker.snapshot("a", metrics={"accuracy": 0.5})
