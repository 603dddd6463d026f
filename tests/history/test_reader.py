import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_structure import FakeStructure

from growmas.errors import HistoryError
from growmas.history import TopologyHistory, TopologyTracker, schema
from growmas.history.differences import diff_runs
from growmas.history.records import GroupState, Turnover


@pytest.fixture
def history(tmp_path: Path) -> Iterator[TopologyHistory]:
    """Tasks a, b, c; fc1 grows and is pruned, fc2 stays as it is."""
    structure = FakeStructure({"fc1": 4, "fc2": 3})
    with TopologyTracker(structure, tmp_path / "run.db") as tracker:
        structure.begin_task("a")
        structure.edit(grow={"fc1": 1}, reason="first")
        tracker.snapshot(metrics={"accuracy": 0.9, "accuracy/a": 0.9}, omega={"fc1": 1.0})
        structure.begin_task("b")
        structure.edit(grow={"fc1": 3}, reason="novelty", parents={"fc1": {5: 4, 6: 4}})
        structure.edit(prune={"fc1": [0, 7]}, reason="unimportant")
        tracker.snapshot(metrics={"accuracy": 0.8, "accuracy/a": 0.7, "accuracy/b": 0.9})
        structure.begin_task("c")
        structure.edit(prune={"fc1": [6]}, reason="unimportant")
        tracker.snapshot(omega={"fc1": 2.0})
    with TopologyHistory(tmp_path / "run.db") as history:
        yield history


def test_turnover_adds_up_and_gives_the_widths(history: TopologyHistory) -> None:
    assert history.turnover()["fc1"] == {
        "a": Turnover(before=4, born=1, died=0, width=5),
        "b": Turnover(before=5, born=3, died=2, width=6),
        "c": Turnover(before=6, born=0, died=1, width=5),
    }
    assert history.widths()["fc2"] == {"a": 3, "b": 3, "c": 3}


def test_born_and_died_per_task(history: TopologyHistory) -> None:
    assert history.born("a") == {"fc1": (4,), "fc2": ()}
    assert history.born("b")["fc1"] == (5, 6, 7)
    assert history.died("b")["fc1"] == (0, 7)
    assert history.units("a")["fc1"] == (0, 1, 2, 3, 4)
    assert history.units()["fc1"] == (1, 2, 3, 4, 5)


def test_groups_count_the_living_and_all(history: TopologyHistory) -> None:
    first, second = history.groups()
    assert (first.name, first.kind, first.living, first.ever) == ("fc1", "neurons", 5, 8)
    assert (second.living, second.ever) == (3, 3)


def test_diff_tells_kept_born_and_pruned(history: TopologyHistory) -> None:
    diff = history.diff("a", "b")
    fc1 = diff.groups["fc1"]
    assert (fc1.kept, fc1.born, fc1.pruned) == ((1, 2, 3, 4), (5, 6), (0,))
    assert (fc1.before, fc1.after) == (5, 6)
    assert diff.parameters_before == 5 * 9 + 3 * 6 + 2 * 4
    assert diff.parameters_after == 6 * 9 + 3 * 7 + 2 * 4
    assert diff.metrics_after["accuracy"] == 0.8
    backwards = history.diff("b", 0).groups["fc1"]
    assert (backwards.born, backwards.pruned) == (fc1.pruned, fc1.born)


def test_a_unit_tells_its_life(history: TopologyHistory) -> None:
    unit = history.unit("fc1", 6)
    assert (unit.parent, unit.birth_task, unit.birth_reason) == (4, "b", "novelty")
    assert (unit.death_task, unit.death_reason) == ("c", "unimportant")
    assert history.unit("fc1", 4).children == (5, 6)
    assert history.unit("fc1", 4).importance == {"a": 4.0, "c": 8.0}


def test_accuracy_is_a_matrix_of_tasks(history: TopologyHistory) -> None:
    assert history.accuracy() == ((0.9, None, None), (0.7, 0.9, None), (None, None, None))


def test_graph_shows_the_layers_as_of_a_task(history: TopologyHistory) -> None:
    graph = history.graph("a", operations=False)
    assert list(graph.edges) == [("fc1", "fc2"), ("fc2", "head")]
    assert graph.nodes["fc1"]["width"] == 5
    assert "group" not in graph.nodes["head"]
    assert history.graph("b").nodes["fc1"]["width"] == 6
    assert history.graph().nodes["fc1"]["parameters"] == 5 * 9
    assert history.graph().nodes["relu_fc1"] == {"role": "operation", "kind": "Relu", "width": 5}


def test_lineage_leads_from_parents_to_children(history: TopologyHistory) -> None:
    graph = history.lineage()
    assert len(graph) == 11
    assert list(graph.edges) == [(("fc1", 4), ("fc1", 5)), (("fc1", 4), ("fc1", 6))]
    assert graph.nodes["fc1", 6] == {
        "group": "fc1",
        "unit": 6,
        "alive": False,
        "birth_task": "b",
        "birth_reason": "novelty",
        "death_task": "c",
        "death_reason": "unimportant",
    }


def test_events_come_in_order_with_their_units(history: TopologyHistory) -> None:
    assert [(event.task, event.reason) for event in history.events()] == [
        ("a", "first"),
        ("b", "novelty"),
        ("b", "unimportant"),
        ("c", "unimportant"),
    ]
    assert history.events()[2].died == {"fc1": (0, 7)}


def test_the_log_has_everything_with_causes(tmp_path: Path) -> None:
    structure = FakeStructure({"fc1": 4})
    with TopologyTracker(structure, tmp_path / "run.db") as tracker:
        structure.begin_task("a")
        structure.edit(grow={"fc1": 1}, reason="full", cause={"policy": "P", "value": {"fc1": 0.5}})
        tracker.note("plateau", "loss is flat", cause={"mean": 0.1})
        tracker.snapshot(metrics={"accuracy": 0.9})
        with pytest.raises(HistoryError, match="kind='edit': the tracker writes"):
            tracker.note("edit")
        with pytest.raises(HistoryError, match="cause: expected JSON values by name"):
            tracker.note("shift", cause={"mean": float("nan")})
    with TopologyHistory(tmp_path / "run.db") as history:
        assert [(event.kind, event.reason, event.cause) for event in history.log()] == [
            ("begin", "", {}),
            ("edit", "full", {"policy": "P", "value": {"fc1": 0.5}}),
            ("plateau", "loss is flat", {"mean": 0.1}),
            ("snapshot", "", {"units": 5, "parameters": 57, "accuracy": 0.9}),
        ]
        assert history.log(["plateau"])[0].event == 3
        assert history.log()[1].born == {"fc1": (4,)}


def test_a_task_is_there_when_it_begins(tmp_path: Path) -> None:
    structure = FakeStructure({"fc1": 4})
    path = tmp_path / "run.db"
    with TopologyTracker(structure, path) as tracker, TopologyHistory(path) as history:
        before = history.version
        structure.begin_task("a")
        assert history.version != before
        assert [task.name for task in history.tasks()] == ["a"]
        tracker.snapshot()
        structure.begin_task("b")
        assert [task.finished is None for task in history.tasks()] == [False, True]
        assert history.widths() == {"fc1": {"a": 4, "b": 4}}
        assert [layer.out_width for layer in history.at("b").layers] == [4, 2]


def test_cohorts_add_up_to_the_widths(history: TopologyHistory) -> None:
    cohorts = history.survival("fc1")
    assert [(c.task, c.initial, c.size) for c in cohorts] == [
        ("a", True, 4),
        ("a", False, 1),
        ("b", False, 3),
    ]
    assert [c.alive for c in cohorts] == [
        {"a": 4, "b": 3, "c": 3},
        {"a": 1, "b": 1, "c": 1},
        {"b": 2, "c": 1},
    ]
    for group in (None, "fc1", "fc2"):
        for task in "abc":
            alive = sum(cohort.alive.get(task, 0) for cohort in history.survival(group))
            widths = [by[task] for name, by in history.widths().items() if group in (None, name)]
            assert alive == sum(widths)
    with pytest.raises(HistoryError, match="no group 'fc3'"):
        history.survival("fc3")


def test_importance_in_a_few_numbers(history: TopologyHistory) -> None:
    summary = history.importance_summary()["fc1"]
    assert list(summary) == ["a", "c"]
    for task, numbers in summary.items():
        values = list(history.importance(task)["fc1"].values())
        assert (numbers.units, numbers.total) == (len(values), sum(values))
        assert numbers.mean == sum(values) / len(values)
        assert (numbers.least, numbers.most) == (min(values), max(values))
    assert summary["a"].zeros == 1  # unit 0, which is gone in c
    assert summary["c"].zeros == 0
    assert history.group_importance("fc1") == {
        task: history.importance(task)["fc1"] for task in summary
    }


def test_moved_importance_is_of_the_units_kept(history: TopologyHistory) -> None:
    moved = history.diff("a", "c").groups["fc1"].moved
    assert moved == {unit: (float(unit), 2.0 * unit) for unit in (1, 2, 3, 4)}
    assert history.diff("a", "b").groups["fc1"].moved == {}
    assert history.diff("a", "c").importance_after["fc1"].units == 5


def test_the_network_can_be_replayed(history: TopologyHistory) -> None:
    for index, task in enumerate("abc"):
        state = history.at(task)
        assert history.at(str(index)) == history.at(index) == state
        assert state.widths == {name: by[task] for name, by in history.widths().items()}
        assert state.layers[0].out_width == state.widths["fc1"]
        assert state.operations[0].width == state.widths["fc1"]
        assert state.parameters == sum(layer.parameters for layer in state.layers)
        assert state.flops == 2 * state.parameters
        assert ("fc1", "relu_fc1") in state.edges


def test_flops_are_not_known_between_an_edit_and_a_snapshot(tmp_path: Path) -> None:
    structure = FakeStructure({"fc1": 4})
    with TopologyTracker(structure, tmp_path / "run.db") as tracker:
        tracker.snapshot("a")
        structure.edit(grow={"fc1": 1})
    with TopologyHistory(tmp_path / "run.db") as history:
        assert [size.flops is None for size in history.sizes().values()] == [False, True]
        assert history.sizes()["task 1"].units == 5


def test_replaced_units_are_linked_both_ways(tmp_path: Path) -> None:
    structure = FakeStructure({"fc1": 4})
    with TopologyTracker(structure, tmp_path / "run.db") as tracker:
        structure.edit(grow={"fc1": 1}, prune={"fc1": [2]}, replaced={"fc1": {4: 2}})
        tracker.snapshot("a")
    with TopologyHistory(tmp_path / "run.db") as history:
        assert history.unit("fc1", 4).replaced == 2
        assert history.unit("fc1", 2).replaced_by == 4
        assert list(history.lineage().edges(data="kind")) == [(("fc1", 2), ("fc1", 4), "replaced")]


def test_frozen_stretches_end_with_a_snapshot_or_with_the_unit(tmp_path: Path) -> None:
    structure = FakeStructure({"fc1": 5, "fc2": 2})
    with TopologyTracker(structure, tmp_path / "run.db") as tracker:
        tracker.snapshot("a", frozen={"fc1": [0, 1]})
        tracker.snapshot("a", frozen={"fc1": [0, 1, 2, 3]})
        tracker.snapshot("b")
        structure.edit(prune={"fc1": [3]})
        tracker.snapshot("c", frozen={"fc1": [0, 2], "fc2": [1]})
        tracker.snapshot("d", frozen={"fc1": [0, 1]})
        with pytest.raises(HistoryError, match="1 units of 'fc1' are not alive \\(unit 3\\)"):
            tracker.snapshot("e", frozen={"fc1": [3]})
    with TopologyHistory(tmp_path / "run.db") as history:
        assert {line.unit: line.frozen for line in history.lifelines("fc1")} == {
            0: (("a", "d"),),
            1: (("a", "b"), ("d", "d")),
            2: (("a", "c"),),
            3: (("a", "b"),),
            4: (),
        }
        assert history.unit("fc2", 1).frozen == (("c", "c"),)
        assert history.frozen_units("b") == {"fc1": (0, 1, 2, 3), "fc2": ()}
        assert history.frozen_units("c") == {"fc1": (0, 2), "fc2": (1,)}
        assert history.frozen_units() == {"fc1": (0, 1), "fc2": ()}


def test_two_runs_side_by_side(history: TopologyHistory, tmp_path: Path) -> None:
    structure = FakeStructure({"fc1": 6, "fc3": 3})
    with TopologyTracker(structure, tmp_path / "other.db") as tracker:
        tracker.snapshot("x", omega={"fc1": 1.0})
    with TopologyHistory(tmp_path / "other.db") as other:
        diff = diff_runs(history.at("b"), other.at())
    assert (diff.before.task, diff.after.task) == ("b", "x")
    assert list(diff.groups) == ["fc1", "fc2", "fc3"]
    assert diff.groups["fc1"][0] == GroupState(width=6, ever=8, born=4, pruned=2, importance=None)
    two = diff.groups["fc1"][1]
    assert two is not None
    assert (two.width, two.ever, two.importance.total) == (6, 6, 15.0)
    assert diff.groups["fc3"][0] is None
    assert diff.groups["fc2"][1] is None


def test_an_empty_run_says_so(tmp_path: Path) -> None:
    schema.create(tmp_path / "run.db").close()
    with TopologyHistory(tmp_path / "run.db") as history:
        assert history.widths() == {}
        assert history.log() == ()
        for ask in (history.at, history.graph, history.layers, history.frozen_units):
            with pytest.raises(HistoryError, match="has no task yet"):
                ask()


def test_unknown_names_get_the_nearest(history: TopologyHistory) -> None:
    with pytest.raises(HistoryError, match="no task 'aa'; did you mean 'a'"):
        history.metrics("aa")
    with pytest.raises(HistoryError, match="no task 3"):
        history.graph(3)
    with pytest.raises(HistoryError, match="no group 'fc11'; did you mean 'fc1'"):
        history.unit("fc11", 0)
    with pytest.raises(
        HistoryError, match=r"unit 99 does not exist in group 'fc1' \(ids so far: 0 to 7\)"
    ):
        history.unit("fc1", 99)
    with pytest.raises(HistoryError, match="no group 'FC2'; did you mean 'fc2'"):
        history.lifelines("FC2")
    with pytest.raises(HistoryError, match="no group 'nowhere'; it has: fc1, fc2"):
        history.group_importance("nowhere")


@pytest.mark.parametrize("code", ["TopologyHistory", "TopologyTracker"])
def test_neither_side_imports_torch_or_networkx(code: str) -> None:
    program = (
        f"import sys, growmas; growmas.{code}; import growmas.history.reader; "
        "sys.exit(bool({'torch', 'networkx', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
