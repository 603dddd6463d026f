"""Every format is read back by the tool it is for, or by its grammar."""

import csv
import io
import json
import re
from array import array
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest
from fake_structure import FakeStructure
from node_link import read_node_link

from growmas.errors import HistoryError
from growmas.history import TopologyHistory, TopologyTracker
from growmas.history.columns import TABLES, write_csv, write_parquet
from growmas.history.formats import graph_text

ODD = 'digits "0/1" <b> #2 & \\n'  # characters that the grammars reserve


@pytest.fixture
def history(tmp_path: Path) -> Iterator[TopologyHistory]:
    """Two tasks, the first of an odd name; a unit split, a unit replaced, one frozen."""
    structure = FakeStructure({"fc1": 4, "fc2": 3})
    with TopologyTracker(structure, tmp_path / "run.db") as tracker:
        structure.begin_task(ODD)
        structure.edit(grow={"fc1": 1}, reason="first")
        tracker.snapshot(metrics={"accuracy": 0.9}, omega={"fc1": 1.0, "fc2": 2.0})
        structure.begin_task("b")
        structure.edit(
            grow={"fc1": 3},
            prune={"fc1": [0, 4]},
            parents={"fc1": {5: 4}},
            replaced={"fc1": {7: 0}},
            reason="least, of all",
            cause={"policy": "P"},
        )
        tracker.snapshot(omega={"fc1": 0.1})
    with TopologyHistory(tmp_path / "run.db") as history:
        yield history


def _graphs(history: TopologyHistory) -> list["nx.DiGraph[str]"]:
    return [
        nx.relabel_nodes(
            graph, lambda node: node if isinstance(node, str) else "#".join(map(str, node))
        )
        for graph in (history.graph(0), history.graph(), history.lineage())
    ]


def _same(one: "nx.DiGraph[str]", other: "nx.DiGraph[str]") -> bool:
    return dict(one.nodes(data=True)) == dict(other.nodes(data=True)) and (
        {(a, b): data for a, b, data in one.edges(data=True)}
        == {(a, b): data for a, b, data in other.edges(data=True)}
    )


def test_node_link_json_gives_the_graph_back(history: TopologyHistory) -> None:
    for graph in _graphs(history):
        data = json.loads(graph_text(graph, "json"))
        assert _same(read_node_link(data), graph)


def test_graphml_gives_the_graph_back(history: TopologyHistory) -> None:
    for graph in _graphs(history):
        assert _same(nx.parse_graphml(graph_text(graph, "graphml")), graph)


_STRING = r'"(?:[^"\\]|\\.)*"'
_ATTRIBUTES = rf"(?: \[\w+={_STRING}(?:, \w+={_STRING})*\])?"
_DOT_NODE = re.compile(rf"  ({_STRING}){_ATTRIBUTES};")
_DOT_EDGE = re.compile(rf"  ({_STRING}) -> ({_STRING}){_ATTRIBUTES};")


def test_dot_keeps_to_its_grammar(history: TopologyHistory) -> None:
    for graph in _graphs(history):
        first, *lines, last = graph_text(graph, "dot").splitlines()
        assert (first, last) == ("digraph growmas {", "}")
        nodes = [found[1] for line in lines if (found := _DOT_NODE.fullmatch(line))]
        edges = [found.groups() for line in lines if (found := _DOT_EDGE.fullmatch(line))]
        assert len(nodes) + len(edges) == len(lines)
        assert nodes == [f'"{node}"' for node in graph]
        assert set(edges) == {(f'"{a}"', f'"{b}"') for a, b in graph.edges}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pydot's use of its parser
def test_dot_is_read_by_pydot(history: TopologyHistory) -> None:
    pydot = pytest.importorskip("pydot")
    for graph in _graphs(history):
        (read,) = pydot.graph_from_dot_data(graph_text(graph, "dot"))
        assert {node.get_name().strip('"') for node in read.get_nodes()} == set(graph)
        assert len(read.get_edges()) == graph.number_of_edges()


_MERMAID_TEXT = r'"(?:[^"#]|#\w+;)*"'
_MERMAID_NODE = re.compile(rf"  (n\d+)(?:\[{_MERMAID_TEXT}\]|\(\[{_MERMAID_TEXT}\]\))")
_MERMAID_EDGE = re.compile(rf"  (n\d+) -->(?:\|{_MERMAID_TEXT}\|)? (n\d+)")


def test_mermaid_keeps_to_its_grammar(history: TopologyHistory) -> None:
    for graph in _graphs(history):
        first, *lines = graph_text(graph, "mermaid").splitlines()
        assert first == "flowchart TD"
        ids = [found[1] for line in lines if (found := _MERMAID_NODE.fullmatch(line))]
        edges = [found.groups() for line in lines if (found := _MERMAID_EDGE.fullmatch(line))]
        assert len(ids) + len(edges) == len(lines)
        names = dict(zip(ids, graph, strict=True))
        assert {(names[a], names[b]) for a, b in edges} == set(graph.edges)


def test_another_format_is_refused_with_those_there_are(history: TopologyHistory) -> None:
    with pytest.raises(HistoryError, match="'json', 'graphml', 'dot', 'mermaid'"):
        graph_text(history.graph(), "png")


def _number(kind: type, field: str) -> object:
    """A value of a CSV file; numbers with a point have single precision there."""
    return array("f", [float(field)])[0] if kind is float and len(field) > 3 else kind(field)


@pytest.mark.parametrize("table", TABLES)
def test_csv_gives_the_rows_back(history: TopologyHistory, table: str) -> None:
    file = io.StringIO(newline="")
    write_csv(history, table, file)
    names, *rows = csv.reader(io.StringIO(file.getvalue(), newline=""))
    types, chunks = TABLES[table]
    assert names == list(types)
    read = [
        tuple(
            _number(kind, field) if field or kind is str else None
            for kind, field in zip(types.values(), row, strict=True)
        )
        for row in rows
    ]
    written = [row for chunk in chunks(history) for row in chunk]
    assert read == [
        tuple("" if v is None and k is str else v for v, k in zip(row, types.values(), strict=True))
        for row in written
    ]
    assert read


def test_the_tables_say_what_the_history_says(history: TopologyHistory) -> None:
    rows = {
        name: [row for chunk in chunks(history) for row in chunk]
        for name, (_, chunks) in TABLES.items()
    }
    assert ("fc1", 7, "b", "least, of all", None, 0, None, None) in rows["units"]
    assert len(rows["units"]) == 11
    assert ("b", "fc1", 3, pytest.approx(0.3)) in rows["importance"]
    assert rows["metrics"] == [(ODD, "accuracy", 0.9)]
    assert [row[2] for row in rows["events"]] == ["begin", "edit", "snapshot"] * 2
    assert rows["sizes"][-1][1:3] == (9, sum(layer.parameters for layer in history.layers()))


@pytest.mark.parametrize("table", TABLES)
def test_parquet_gives_the_rows_back(history: TopologyHistory, tmp_path: Path, table: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_parquet(history, table, tmp_path / "t.parquet")
    types, chunks = TABLES[table]
    read = parquet.ParquetFile(tmp_path / "t.parquet").read().to_pylist()
    assert [tuple(row.values()) for row in read] == [r for chunk in chunks(history) for r in chunk]
    assert list(read[0]) == list(types)


def test_parquet_without_pyarrow_says_so(
    history: TopologyHistory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(HistoryError, match="pip install pyarrow, or write CSV"):
        write_parquet(history, "units", tmp_path / "t.parquet")
    assert not (tmp_path / "t.parquet").exists()
