"""Exports of large histories read and write a little at a time."""

import csv
import io
import sys
import tracemalloc
from array import array
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest
from hypothesis import given, strategies as st

from growmas.errors import HistoryError
from growmas.history import TopologyHistory
from growmas.history.columns import write_csv
from growmas.history.formats import graph_lines, parts_of_lineage
from growmas.history.importance import Lifetimes
from growmas.history.living import LivingUnits
from growmas.history.number_rows import number_rows
from growmas.history.schema import open_to_write

sys.path.append(str(Path(__file__).parents[2] / "experiments" / "history_cost"))
scale = pytest.importorskip("scale")

GROUPS, UNITS, TASKS = 3, 40, 12


@pytest.fixture
def path(tmp_path: Path) -> Path:
    scale.write(tmp_path / "run.db", GROUPS, UNITS, TASKS)
    return tmp_path / "run.db"


@pytest.fixture
def history(path: Path) -> Iterator[TopologyHistory]:
    with TopologyHistory(path) as history:
        yield history


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.none() | st.integers(1, 6)).map(
            lambda life: (life[0], None if life[1] is None else life[0] + life[1])
        ),
        max_size=12,
    ),
    st.lists(st.integers(0, 14), min_size=1, max_size=8),
    st.randoms(),
)
def test_living_units_are_those_of_the_lifetimes(
    spans: list[tuple[int, int | None]], events: list[int], random: object
) -> None:
    ids = list(range(len(spans)))
    random.shuffle(ids)
    lives = dict(sorted(zip(ids, spans, strict=True)))
    living = LivingUnits((unit, *life) for unit, life in lives.items())
    for event in events:  # also backwards
        living.move_to(event)
        assert tuple(living.ids) == Lifetimes(lives).alive(event)


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1),
    st.sampled_from([0, 1, 95, 998, 123456, 10**9 - 3, 10**12]),
)
def test_rows_of_numbers_are_those_of_the_format(found: list[float], first: int) -> None:
    edges = [0.0, 1.0, 9.9999999, 0.1, 999.9999999, 1e9, 3.4028235e38, 1e-45, 1e-38, 2**-14]
    for values in (array("f", map(abs, found + edges)), array("f", [*found, -1.0])):
        ids = array("q", range(first, first + len(values)))
        lines = number_rows("ä,%s,", ids, values).splitlines()
        for unit, value, line in zip(ids, values, lines, strict=True):
            assert line == f"ä,%s,{unit},{value:.8e}"
            assert array("f", [float(line.split(",")[-1])])[0] == value


def test_importance_as_csv_is_what_the_history_says(history: TopologyHistory) -> None:
    file = io.StringIO(newline="")
    write_csv(history, "importance", file)
    rows = list(csv.DictReader(io.StringIO(file.getvalue(), newline="")))
    assert len(rows) == GROUPS * UNITS * TASKS
    for task in history.tasks():
        wanted = history.importance(task.index)
        for group, values in wanted.items():
            read = {
                int(row["unit"]): array("f", [float(row["importance"])])[0]
                for row in rows
                if (row["task"], row["group"]) == (task.name, group)
            }
            assert read == values


def test_lineage_is_streamed_and_complete(history: TopologyHistory) -> None:
    text = "".join(graph_lines(parts_of_lineage(history), "graphml"))
    read, graph = nx.parse_graphml(text), history.lineage()
    assert set(read) == {f"{group}#{unit}" for group, unit in graph}
    assert read.number_of_edges() == graph.number_of_edges() > 0


def test_one_group_of_the_lineage(history: TopologyHistory) -> None:
    group = history.groups()[1].name
    text = "".join(graph_lines(parts_of_lineage(history, group), "graphml"))
    assert set(nx.parse_graphml(text)) == {f"{g}#{unit}" for g, unit in history.lineage(group)}


@pytest.mark.parametrize("format", ["graphml", "json", "dot"])
def test_memory_of_a_lineage_does_not_grow_with_the_number_of_groups(
    tmp_path: Path, format: str
) -> None:
    peaks = []
    for groups in (4, 32):
        scale.write(tmp_path / f"{groups}.db", groups, 300, 2)
        with TopologyHistory(tmp_path / f"{groups}.db") as history:
            for line in graph_lines(parts_of_lineage(history), format):  # caches are warm
                assert line
            tracemalloc.start()
            for line in graph_lines(parts_of_lineage(history), format):
                assert line
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]


def test_importance_of_a_wrong_length_is_an_error_of_the_history(path: Path) -> None:
    connection = open_to_write(path)
    connection.execute("UPDATE importance_data SET data = x'00' WHERE task = 3")
    connection.close()
    with TopologyHistory(path) as history:
        with pytest.raises(HistoryError, match=r"damaged.*'layer0.weight'.*growmas doctor"):
            write_csv(history, "importance", io.StringIO())
        with pytest.raises(HistoryError, match="damaged"):
            history.importance(3)
        with pytest.raises(HistoryError, match="damaged"):
            history.group_importance("layer0.weight")
