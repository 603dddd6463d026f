import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_structure import FakeStructure

from growmas.errors import HistoryError
from growmas.history import TopologyHistory, TopologyTracker
from growmas.history.records import Turnover


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


def test_unknown_names_get_the_nearest(history: TopologyHistory) -> None:
    with pytest.raises(HistoryError, match="no task 'aa'; did you mean 'a'"):
        history.metrics("aa")
    with pytest.raises(HistoryError, match="no task 3"):
        history.graph(3)
    with pytest.raises(HistoryError, match="no group 'fc11'; did you mean 'fc1'"):
        history.unit("fc11", 0)
    with pytest.raises(HistoryError, match="never had a unit 99; the nearest is 7"):
        history.unit("fc1", 99)
    with pytest.raises(HistoryError, match="no group"):
        history.lifelines("FC2")


@pytest.mark.parametrize("code", ["TopologyHistory", "TopologyTracker"])
def test_neither_side_imports_torch_or_networkx(code: str) -> None:
    program = (
        f"import sys, growmas; growmas.{code}; import growmas.history.reader; "
        "sys.exit(bool({'torch', 'networkx', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
