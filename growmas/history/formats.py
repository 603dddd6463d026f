"""Text formats of graphs: node-link JSON, GraphML, DOT and Mermaid.

Ids of nodes are text in all of them, "GROUP#ID" for a unit.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import networkx as nx

from growmas.errors import HistoryError
from growmas.visible import visible, visible_name


def graph_text(graph: "nx.DiGraph[Any]", format: str) -> str:
    """Return a graph of this package as text.

    Args:
        graph: Graph from `TopologyHistory.graph`, `TopologyHistory.lineage` or `unit_graph`.
        format: "json", node-link data as `networkx.node_link_graph` and d3 read it; "graphml" for
            Gephi, yEd and networkx; "dot" for Graphviz; "mermaid" for Markdown.

    Raises:
        HistoryError: If the format is not one of these.
    """
    if format not in GRAPH_FORMATS:
        known = ", ".join(map(repr, GRAPH_FORMATS))
        raise HistoryError(f"format={format!r}: expected one of {known}")
    return GRAPH_FORMATS[format](_visible(nx.relabel_nodes(graph, _text)))


def _text(node: Any) -> str:
    return visible_name(node if isinstance(node, str) else "#".join(map(str, node)))


def _visible(graph: "nx.DiGraph[str]") -> "nx.DiGraph[str]":
    """Return a graph whose texts hold no control characters."""
    held = [
        graph.graph,
        *(values for _, values in graph.nodes(data=True)),
        *(values for _, _, values in graph.edges(data=True)),
    ]
    for values in held:
        values.update({k: visible(v) for k, v in values.items() if isinstance(v, str)})
    return graph


def _json(graph: "nx.DiGraph[str]") -> str:
    data = {
        "directed": True,
        "multigraph": False,
        "graph": dict(graph.graph),
        "nodes": [{**attributes, "id": node} for node, attributes in graph.nodes(data=True)],
        "edges": [
            {**attributes, "source": source, "target": target}
            for source, target, attributes in graph.edges(data=True)
        ],
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def _graphml(graph: "nx.DiGraph[str]") -> str:
    return "\n".join(nx.generate_graphml(graph)) + "\n"


def _dot(graph: "nx.DiGraph[str]") -> str:
    return "\n".join(["digraph growmas {", *_dot_lines(graph), "}", ""])


_DOT_NAMES = {"width": "channels", "group": "unit_group"}
"""Other names for attributes that Graphviz would take as instructions for drawing."""


def _dot_lines(graph: "nx.DiGraph[str]") -> Iterator[str]:
    for node, attributes in graph.nodes(data=True):
        shape = "ellipse" if attributes.get("role") == "operation" else "box"
        data = {_DOT_NAMES.get(name, name): value for name, value in attributes.items()}
        shown = {**data, "label": _label(node, attributes), "shape": shape}
        yield f"  {_quoted(node)} [{_dot_attributes(shown)}];"
    for source, target, attributes in graph.edges(data=True):
        suffix = f" [{_dot_attributes(attributes)}]" if attributes else ""
        yield f"  {_quoted(source)} -> {_quoted(target)}{suffix};"


def _dot_attributes(attributes: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_quoted(value)}" for name, value in attributes.items())


def _quoted(value: object) -> str:
    """Return a quoted string of DOT, in which a backslash must be doubled."""
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


def _mermaid(graph: "nx.DiGraph[str]") -> str:
    return "\n".join(["flowchart TD", *_mermaid_lines(graph), ""])


def _mermaid_lines(graph: "nx.DiGraph[str]") -> Iterator[str]:
    ids = {node: f"n{number}" for number, node in enumerate(graph)}
    for node, attributes in graph.nodes(data=True):
        label = _mermaid_text(_label(node, attributes))
        round = attributes.get("role") == "operation" or attributes.get("alive") is False
        yield f'  {ids[node]}(["{label}"])' if round else f'  {ids[node]}["{label}"]'
    for source, target, attributes in graph.edges(data=True):
        word = f'|"{_mermaid_text(attributes["kind"])}"|' if "kind" in attributes else ""
        yield f"  {ids[source]} -->{word} {ids[target]}"


def _mermaid_text(value: object) -> str:
    """Return a text for use inside quotes; characters of the grammar become entities."""
    escapes = {"&": "#amp;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "#": "#35;"}
    return "".join(
        "<br/>" if letter == "\n" else escapes.get(letter, letter) for letter in str(value)
    )


def _label(node: str, attributes: dict[str, Any]) -> str:
    """Return the text of a node: its name and, below, its kind and width or its tasks."""
    lines = [node]
    if "width" in attributes:
        lines.append(f"{attributes['kind']} {attributes['width']}")
    elif "kind" in attributes:
        lines.append(str(attributes["kind"]))
    if "birth_task" in attributes:
        died = f" to {attributes['death_task']}" if "death_task" in attributes else ""
        lines.append(f"{attributes['birth_task']}{died}")
    return "\n".join(lines)


GRAPH_FORMATS: dict[str, Callable[["nx.DiGraph[str]"], str]] = {
    "json": _json,
    "graphml": _graphml,
    "dot": _dot,
    "mermaid": _mermaid,
}
