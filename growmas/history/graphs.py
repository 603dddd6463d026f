"""Graphs of a history for networkx, whose attributes are plain values that any exporter takes.

An attribute that would be None is left out, since most graph formats cannot express it.
"""

from collections.abc import Iterable, Iterator

import networkx as nx

from growmas.history.records import LayerRecord, Lifeline, OperationRecord

UnitNode = tuple[str, int]


def layer_graph(
    layers: Iterable[LayerRecord],
    operations: Iterable[OperationRecord],
    edges: Iterable[tuple[str, str]],
    *,
    with_operations: bool = True,
) -> "nx.DiGraph[str]":
    """Return a graph with layers and operations as nodes, data flow as edges.

    All nodes carry `role`, "layer" or "operation", `kind` and, where known, `width`, the number of
    output features or channels. Layers carry `parameters` and, where known, `flops`, `group`,
    `in_width` and `out_width` (the same as `width`).

    Args:
        layers: Layers, in order.
        operations: Operations, in order.
        edges: Data flow between layers and operations.
        with_operations: False leaves operations out: an edge then leads from a layer to every
            layer that reads it, through any number of operations.
    """
    graph: nx.DiGraph[str] = nx.DiGraph()
    for layer in layers:
        attributes = {
            "role": "layer",
            "kind": layer.kind,
            "parameters": layer.parameters,
            "flops": layer.flops,
            "group": layer.group,
            "in_width": layer.in_width,
            "out_width": layer.out_width,
            "width": layer.out_width,
        }
        graph.add_node(layer.name, **_known(attributes))
    for operation in operations:
        attributes = {"role": "operation", "kind": operation.kind, "width": operation.width}
        graph.add_node(operation.name, **_known(attributes))
    graph.add_edges_from(edges)
    return graph if with_operations else _layers_only(graph)


def lineage_graph(lifelines: Iterable[Lifeline]) -> "nx.DiGraph[UnitNode]":
    """Return a graph with units as nodes (group, id), edges from a unit to its successors.

    Nodes carry `group`, `unit`, `alive`, `birth_task` and, where they apply, `birth_reason`,
    `death_task` and `death_reason`. The `kind` of an edge is "split", to a unit that was split
    from it, or "replaced", to the unit that took its place.
    """
    graph: nx.DiGraph[UnitNode] = nx.DiGraph()
    for line in lifelines:
        node, attributes = lineage_node(line)
        graph.add_node(node, **attributes)
        graph.add_edges_from(lineage_edges(line))
    return graph


def lineage_node(line: Lifeline) -> tuple[UnitNode, dict[str, object]]:
    """Return the node of a unit, with its attributes."""
    attributes: dict[str, object] = {
        "group": line.group,
        "unit": line.unit,
        "alive": line.death_task is None,
        "birth_task": line.birth_task,
        "birth_reason": line.birth_reason,
        "death_task": line.death_task,
        "death_reason": line.death_reason,
    }
    return (line.group, line.unit), _known(attributes)


def lineage_edges(line: Lifeline) -> Iterator[tuple[UnitNode, UnitNode, dict[str, object]]]:
    """Yield the edges that lead to a unit, with their attributes."""
    unit = (line.group, line.unit)
    if line.parent is not None:
        yield (line.group, line.parent), unit, {"kind": "split"}
    if line.replaced not in (None, line.parent):
        yield (line.group, line.replaced), unit, {"kind": "replaced"}


def _layers_only(graph: "nx.DiGraph[str]") -> "nx.DiGraph[str]":
    layers = [node for node in graph if graph.nodes[node]["role"] == "layer"]
    result: nx.DiGraph[str] = nx.DiGraph()
    result.add_nodes_from((node, graph.nodes[node]) for node in layers)
    for source in layers:
        stack, seen = list(graph.successors(source)), set()
        while stack:
            node = stack.pop()
            if node in result:
                result.add_edge(source, node)
            elif node not in seen:
                seen.add(node)
                stack.extend(graph.successors(node))
    return result


def _known(attributes: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in attributes.items() if value is not None}
