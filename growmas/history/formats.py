"""Text formats of graphs: node-link JSON, GraphML, DOT and Mermaid.

Ids of nodes are text in all of them, "GROUP#ID" for a unit. Texts are made line by line, so that
the lineage of a large history can be written without holding it in memory.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

from growmas.errors import HistoryError
from growmas.history.graphs import lineage_edges, lineage_node
from growmas.history.reader import TopologyHistory
from growmas.visible import visible, visible_name

if TYPE_CHECKING:
    import networkx as nx

Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class GraphParts:
    """Nodes and edges of a directed graph, which can be read any number of times.

    Attributes:
        nodes: Returns the id and the attributes of each node.
        edges: Returns the source, the target and the attributes of each edge.
        attributes: Of the graph.
    """

    nodes: Callable[[], Iterable[tuple[Any, Attributes]]]
    edges: Callable[[], Iterable[tuple[Any, Any, Attributes]]]
    attributes: Attributes

    def shown_nodes(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the nodes with ids as text and without control characters."""
        for node, attributes in self.nodes():
            yield _text(node), _visible(attributes)

    def shown_edges(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield the edges with ids as text and without control characters."""
        for source, target, attributes in self.edges():
            yield _text(source), _text(target), _visible(attributes)


def parts_of_graph(graph: "nx.DiGraph[Any]") -> GraphParts:
    """Return the parts of a graph of networkx."""
    return GraphParts(
        lambda: graph.nodes(data=True), lambda: graph.edges(data=True), dict(graph.graph)
    )


def parts_of_lineage(history: TopologyHistory, group: str | None = None) -> GraphParts:
    """Return the parts of `TopologyHistory.lineage`, which are read from the file each time."""
    return GraphParts(
        lambda: map(lineage_node, history.each_lifeline(group)),
        lambda: (e for line in history.each_lifeline(group) for e in lineage_edges(line)),
        {},
    )


def graph_text(graph: "nx.DiGraph[Any]", format: str) -> str:
    """Return a graph of this package as text.

    Args:
        graph: Graph from `TopologyHistory.graph`, `TopologyHistory.lineage` or `unit_graph`.
        format: "json", node-link data as `networkx.node_link_graph` and d3 read it; "graphml" for
            Gephi, yEd and networkx; "dot" for Graphviz; "mermaid" for Markdown.

    Raises:
        HistoryError: If the format is not one of these.
    """
    return "".join(graph_lines(parts_of_graph(graph), format))


def graph_lines(parts: GraphParts, format: str) -> Iterator[str]:
    """Return the lines of a graph's text, with their ends; see `graph_text`.

    Raises:
        HistoryError: If the format is not one of these.
    """
    if format not in GRAPH_FORMATS:
        known = ", ".join(map(repr, GRAPH_FORMATS))
        raise HistoryError(f"format={format!r}: expected one of {known}")
    return GRAPH_FORMATS[format](parts)


def _text(node: Any) -> str:
    return visible_name(node if isinstance(node, str) else "#".join(map(str, node)))


def _visible(attributes: Attributes) -> dict[str, Any]:
    return {k: visible(v) if isinstance(v, str) else v for k, v in attributes.items()}


def _json(parts: GraphParts) -> Iterator[str]:
    yield '{\n "directed": true,\n "multigraph": false,\n'
    yield f' "graph": {_json_text(_visible(parts.attributes))},\n "nodes": ['
    nodes = ({**attributes, "id": node} for node, attributes in parts.shown_nodes())
    yield from _json_items(nodes)
    yield '\n ],\n "edges": ['
    edges = (
        {**attributes, "source": source, "target": target}
        for source, target, attributes in parts.shown_edges()
    )
    yield from _json_items(edges)
    yield "\n ]\n}\n"


def _json_items(items: Iterable[dict[str, Any]]) -> Iterator[str]:
    for number, item in enumerate(items):
        yield f"{',' if number else ''}\n  {_json_text(item)}"


def _json_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


_GRAPHML = (
    '<graphml xmlns="http://graphml.graphdrawing.org/xmlns" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    'xsi:schemaLocation="http://graphml.graphdrawing.org/xmlns '
    'http://graphml.graphdrawing.org/xmlns/1.0/graphml.xsd">\n'
)
_GRAPHML_TYPES = {bool: "boolean", int: "long", float: "double", str: "string"}

Key = tuple[str, str, type]
"""What has an attribute, "node", "edge" or "graph"; name and type of the attribute."""


def _graphml(parts: GraphParts) -> Iterator[str]:
    keys = _graphml_keys(parts)
    yield _GRAPHML
    for (owner, name, kind), key in keys.items():
        about = f'for="{owner}" attr.name={quoteattr(name)} attr.type="{_GRAPHML_TYPES[kind]}"'
        yield f'  <key id="{key}" {about} />\n'
    yield '  <graph edgedefault="directed">\n'
    yield from _graphml_data(keys, "graph", _visible(parts.attributes))
    for node, attributes in parts.shown_nodes():
        yield f"    <node id={quoteattr(node)}>\n"
        yield from _graphml_data(keys, "node", attributes)
        yield "    </node>\n"
    for source, target, attributes in parts.shown_edges():
        yield f"    <edge source={quoteattr(source)} target={quoteattr(target)}>\n"
        yield from _graphml_data(keys, "edge", attributes)
        yield "    </edge>\n"
    yield "  </graph>\n</graphml>\n"


def _graphml_keys(parts: GraphParts) -> dict[Key, str]:
    """Return the id of every attribute in use, which GraphML declares first."""
    keys: dict[Key, str] = {}

    def declare(owner: str, attributes: Attributes) -> None:
        for name, value in attributes.items():
            keys.setdefault((owner, name, type(value)), f"d{len(keys)}")

    declare("graph", parts.attributes)
    for _, attributes in parts.nodes():
        declare("node", attributes)
    for *_, attributes in parts.edges():
        declare("edge", attributes)
    return keys


def _graphml_data(keys: Mapping[Key, str], owner: str, attributes: Attributes) -> Iterator[str]:
    for name, value in attributes.items():
        key = keys[owner, name, type(value)]
        yield f'      <data key="{key}">{escape(str(value))}</data>\n'


def _dot(parts: GraphParts) -> Iterator[str]:
    yield "digraph growmas {\n"
    for line in _dot_lines(parts):
        yield f"{line}\n"
    yield "}\n"


_DOT_NAMES = {"width": "channels", "group": "unit_group"}
"""Other names for attributes that Graphviz would take as instructions for drawing."""


def _dot_lines(parts: GraphParts) -> Iterator[str]:
    for node, attributes in parts.shown_nodes():
        shape = "ellipse" if attributes.get("role") == "operation" else "box"
        data = {_DOT_NAMES.get(name, name): value for name, value in attributes.items()}
        shown = {**data, "label": _label(node, attributes), "shape": shape}
        yield f"  {_quoted(node)} [{_dot_attributes(shown)}];"
    for source, target, attributes in parts.shown_edges():
        suffix = f" [{_dot_attributes(attributes)}]" if attributes else ""
        yield f"  {_quoted(source)} -> {_quoted(target)}{suffix};"


def _dot_attributes(attributes: Attributes) -> str:
    return ", ".join(f"{name}={_quoted(value)}" for name, value in attributes.items())


def _quoted(value: object) -> str:
    """Return a quoted string of DOT, in which a backslash must be doubled."""
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


def _mermaid(parts: GraphParts) -> Iterator[str]:
    yield "flowchart TD\n"
    for line in _mermaid_lines(parts):
        yield f"{line}\n"


def _mermaid_lines(parts: GraphParts) -> Iterator[str]:
    ids: dict[str, int] = {}
    for number, (node, attributes) in enumerate(parts.shown_nodes()):
        ids[node] = number
        label = _mermaid_text(_label(node, attributes))
        round = attributes.get("role") == "operation" or attributes.get("alive") is False
        yield f'  n{number}(["{label}"])' if round else f'  n{number}["{label}"]'
    for source, target, attributes in parts.shown_edges():
        word = f'|"{_mermaid_text(attributes["kind"])}"|' if "kind" in attributes else ""
        yield f"  n{ids[source]} -->{word} n{ids[target]}"


def _mermaid_text(value: object) -> str:
    """Return a text for use inside quotes; characters of the grammar become entities."""
    escapes = {"&": "#amp;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "#": "#35;"}
    return "".join(
        "<br/>" if letter == "\n" else escapes.get(letter, letter) for letter in str(value)
    )


def _label(node: str, attributes: Attributes) -> str:
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


GRAPH_FORMATS: dict[str, Callable[[GraphParts], Iterator[str]]] = {
    "json": _json,
    "graphml": _graphml,
    "dot": _dot,
    "mermaid": _mermaid,
}
