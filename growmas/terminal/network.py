"""The layers of a network and the data flow between them, as `growmas graph` prints them.

`summarise` computes; `as_data` and `render_network` only format the result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from growmas.history import TopologyHistory
from growmas.history.records import LayerRecord, OperationRecord
from growmas.terminal.flow import Row, draw, in_order
from growmas.terminal.lookup import all_tasks, find_group, find_task
from growmas.terminal.symbols import Symbols, symbols

_FEW = 3  # so many equal layers without consumers, such as the heads of tasks, share a row
_NAME_WIDTH = 34
_BAR_WIDTH = 8


@dataclass(frozen=True)
class Node:
    """A row of the drawing.

    Attributes:
        layers: One layer, or several equal ones with the same inputs and without consumers; empty
            for an operation.
        operation: The operation; None for layers.
        then: Kinds of the operations that read only its output, in order.
    """

    layers: tuple[LayerRecord, ...]
    operation: OperationRecord | None
    then: tuple[str, ...]


@dataclass(frozen=True)
class NetworkSummary:
    """Contents of the drawing.

    Attributes:
        task: Name of the task at whose end the network is shown.
        nodes: Name -> node, sources first.
        edges: Data flow between nodes.
        layers: All layers, in the model's order.
        operations: All operations.
        flow: Data flow between layers and operations.
        units: Number of units of all groups.
        parameters: Parameter count of the model; None if it was not written.
        flops: FLOPs of one sample; None if they were not counted.
        flops_of: What they are of: "sample", or "example inputs" in files of earlier versions.
    """

    task: str
    nodes: Mapping[str, Node]
    edges: tuple[tuple[str, str], ...]
    layers: tuple[LayerRecord, ...]
    operations: tuple[OperationRecord, ...]
    flow: tuple[tuple[str, str], ...]
    units: int
    parameters: int | None
    flops: int | None
    flops_of: str


def summarise(
    history: TopologyHistory, *, task: str | None = None, group: str | None = None
) -> NetworkSummary:
    """Compute the contents of the drawing, from one state of the file.

    Args:
        history: History to read.
        task: Name or index of the task at whose end to show the network; None takes the last.
        group: Only the layers of this group, and what stands next to them in the flow of data.

    Raises:
        HistoryError: If the task or the group does not exist, or no task has begun.
    """
    with history.frozen():
        record = all_tasks(history)[-1] if task is None else find_task(history, task)
        state = history.at(record.index)
        if group is not None:
            find_group(history, group)
    nodes, edges = _condensed(state.layers, state.operations, state.edges)
    if group is not None:
        nodes, edges = _around(group, nodes, edges)
    order = in_order(list(nodes), edges)
    return NetworkSummary(
        task=record.name,
        nodes={name: nodes[name] for name in order},
        edges=tuple(edges),
        layers=tuple(
            layer
            for layer in state.layers
            if group is None or any(layer in node.layers for node in nodes.values())
        ),
        operations=state.operations,
        flow=state.edges,
        units=sum(n for name, n in state.widths.items() if group in (None, name)),
        parameters=state.parameters if group is None else None,
        flops=state.flops if group is None else None,
        flops_of=history.flops_of,
    )


def as_data(summary: NetworkSummary) -> dict[str, object]:
    """Return the network as a JSON-ready dict, with every layer and operation."""
    return {
        "task": summary.task,
        "units": summary.units,
        "parameters": summary.parameters,
        "flops": summary.flops,
        "layers": [asdict(layer) for layer in summary.layers],
        "operations": [asdict(operation) for operation in summary.operations],
        "edges": [list(edge) for edge in summary.flow],
    }


def render_network(summary: NetworkSummary, *, ascii: bool = False) -> RenderableType:
    """Return a row per layer next to lanes of data flow, in the width of a rich console.

    Args:
        summary: Contents to print.
        ascii: Use ASCII characters only (names are printed as they are).
    """
    return _Network(summary, symbols(ascii=ascii))


def _condensed(
    layers: Sequence[LayerRecord],
    operations: Sequence[OperationRecord],
    edges: Sequence[tuple[str, str]],
) -> tuple[dict[str, Node], list[tuple[str, str]]]:
    """Return nodes and edges; operations that read a single node are listed with that node."""
    sources: dict[str, list[str]] = {}
    targets: dict[str, list[str]] = {}
    for source, target in edges:
        sources.setdefault(target, []).append(source)
        targets.setdefault(source, []).append(target)
    by_layer = {layer.name: layer for layer in layers}
    by_operation = {operation.name: operation for operation in operations}
    home: dict[str, str] = {}  # the node that each layer or operation is listed with
    then: dict[str, list[str]] = {}
    for name in in_order([*by_layer, *by_operation], edges):
        read = sources.get(name, [])
        alone = name in by_operation and len(read) == 1 and len(targets[read[0]]) == 1
        home[name] = home[read[0]] if alone and read[0] in home else name
        if home[name] != name:
            then.setdefault(home[name], []).append(by_operation[name].kind)
    kept = {home[name]: None for name in home}
    flow = list(dict.fromkeys((home[a], home[b]) for a, b in edges if home[a] != home[b]))
    nodes = {
        name: Node(
            layers=(by_layer[name],) if name in by_layer else (),
            operation=by_operation.get(name),
            then=tuple(then.get(name, ())),
        )
        for name in kept
    }
    return _with_alike_joined(nodes, flow)


def _around(
    group: str, nodes: Mapping[str, Node], edges: Sequence[tuple[str, str]]
) -> tuple[dict[str, Node], list[tuple[str, str]]]:
    """Return the nodes with layers of a group, those next to them, and the edges between them."""
    own = {name for name, node in nodes.items() if any(e.group == group for e in node.layers)}
    near = {end for edge in edges if own & {*edge} for end in edge} | own
    kept = [(source, target) for source, target in edges if {source, target} <= near]
    return {name: node for name, node in nodes.items() if name in near}, kept


def _with_alike_joined(
    nodes: Mapping[str, Node], edges: Sequence[tuple[str, str]]
) -> tuple[dict[str, Node], list[tuple[str, str]]]:
    """Join equal layers with the same inputs and without consumers into one node."""
    sources: dict[str, frozenset[str]] = {name: frozenset() for name in nodes}
    for source, target in edges:
        sources[target] |= {source}
    read = {source for source, _ in edges}
    alike: dict[tuple[object, ...], list[str]] = {}
    for name, node in nodes.items():
        if name not in read and node.layers and sources[name]:
            layer = node.layers[0]
            key = (layer.kind, layer.in_width, layer.out_width, node.then, sources[name])
            alike.setdefault(key, []).append(name)
    joined = {other: names[0] for names in alike.values() if len(names) >= _FEW for other in names}
    result: dict[str, Node] = {}
    for name, node in nodes.items():
        first = joined.get(name, name)
        if first in result:
            node = Node((*result[first].layers, *node.layers), None, node.then)
        result[first] = node
    return result, list(dict.fromkeys((a, joined.get(b, b)) for a, b in edges))


@dataclass(frozen=True)
class _Network:
    """A network that is laid out when it is printed."""

    summary: NetworkSummary
    symbols: Symbols

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        summary = self.summary
        rows = draw(list(summary.nodes), summary.edges, self.symbols)
        lanes = max((len(row.lanes) for row in rows), default=0) + 1
        columns = self._columns(options.max_width - lanes)
        heads = self._joined([Text(name, "bold") for name in columns], columns)
        yield Text(" " * lanes).append(heads)
        for row in rows:
            yield self._row(row, lanes, columns)
        yield Text()
        yield Text(self._note(bold=console.is_terminal), "dim")

    def _columns(self, room: int) -> dict[str, int]:
        """Return the columns that fit with their widths; drop the least informative first."""
        cells = [self._cells(node) for node in self.summary.nodes.values()]
        widths = (
            {name: max([len(name), *(cell[name].cell_len for cell in cells)]) for name in cells[0]}
            if cells
            else {}
        )
        widths = {name: width for name, width in widths.items() if _is_filled(cells, name)}
        for name in ("share", "FLOPs", "kind"):
            if sum(widths.values()) + 2 * len(widths) > room:
                widths.pop(name, None)
        over = sum(widths.values()) + 2 * len(widths) - room
        if over > 0 and "layer" in widths:
            widths["layer"] = max(8, widths["layer"] - over)
        return widths

    def _cells(self, node: Node) -> dict[str, Text]:
        """Return the cells of a node by column."""
        if node.operation is not None:
            operation = node.operation
            kind = " + ".join([operation.kind, *node.then])
            width = "" if operation.width is None else f"{self.symbols.arrow} {operation.width}"
            return {
                "layer": Text(kind, "italic"),
                "kind": Text(),
                "width": Text(width),
                "parameters": Text(),
                "share": Text(),
                "FLOPs": Text(),
            }
        layer, count = node.layers[0], len(node.layers)
        name = layer.name
        if count > 1:
            name = f"{layer.name} {self.symbols.ellipsis} {node.layers[-1].name}"
        parameters = sum(each.parameters for each in node.layers)
        flops = [each.flops for each in node.layers if each.flops is not None]
        share = parameters / self.summary.parameters if self.summary.parameters else 0.0
        times = f"{count} {self.symbols.times} " if count > 1 else ""
        return {
            "layer": Text(name, "bold" if layer.group else ""),
            "kind": Text(times + " + ".join([layer.kind, *node.then]), "dim"),
            "width": Text(self._width(layer)),
            "parameters": Text(f"{parameters:,}" if parameters else ""),
            "share": Text(self.symbols.draw_bar(share, _BAR_WIDTH), "cyan"),
            "FLOPs": Text(f"{sum(flops):,}" if flops else ""),
        }

    def _width(self, layer: LayerRecord) -> str:
        if layer.in_width is None or layer.out_width is None:
            return "" if layer.out_width is None else f"{self.symbols.arrow} {layer.out_width}"
        return f"{layer.in_width} {self.symbols.arrow} {layer.out_width}"

    def _row(self, row: Row, lanes: int, columns: Mapping[str, int]) -> Text:
        text = Text.assemble((f"{row.lanes:<{lanes}}", "blue"))
        if row.node is None:
            return text
        cells = self._cells(self.summary.nodes[row.node])
        text.append(self._joined([cells[name] for name in columns], columns))
        if row.also:
            text.append(f"also reads {', '.join(row.also)}")
        return text

    def _joined(self, cells: Sequence[Text], columns: Mapping[str, int]) -> Text:
        joined = Text()
        for cell, (name, width) in zip(cells, columns.items(), strict=True):
            if cell.cell_len > width:
                cell.truncate(max(0, width - len(self.symbols.ellipsis)))
                cell.append(self.symbols.ellipsis)
            cell.align("right" if name in ("parameters", "FLOPs") else "left", width)
            joined.append(cell).append("  ")
        joined.rstrip()
        return joined

    def _note(self, *, bold: bool) -> str:
        summary = self.summary
        sizes = [f"{summary.units:,} units{' in bold layers' if bold else ''}"]
        if summary.parameters is not None:
            sizes.append(f"{summary.parameters:,} parameters")
        if summary.flops is not None:
            a = "a" if summary.flops_of == "sample" else "of the"
            sizes.append(f"{summary.flops:,} FLOPs {a} {summary.flops_of}")
        return (
            f"After {summary.task}: {', '.join(sizes)}. Data flow down the lanes; where lanes "
            "meet, a node reads several: a sum, a concatenation."
        )


def _is_filled(cells: Sequence[Mapping[str, Text]], name: str) -> bool:
    return any(cell[name].plain for cell in cells)
