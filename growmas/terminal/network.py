"""The layers of a network and what flows between them: the view behind `growmas graph`.

`summarise` computes; `as_data` and `render_network` only write down what it computed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from growmas.history import TopologyHistory
from growmas.history.records import LayerRecord, OperationRecord
from growmas.terminal.asking import all_tasks, find_task
from growmas.terminal.flow import Row, draw, in_order
from growmas.terminal.symbols import Symbols, symbols

_FEW = 3  # alike layers that nothing reads, such as the heads of many tasks, share a row from here
_NAME_WIDTH = 34
_BAR_WIDTH = 8


@dataclass(frozen=True)
class Node:
    """A row of the drawing.

    Attributes:
        layers: One layer, or several alike that read the same and that nothing reads; none for
            an operation.
        operation: The operation; None for layers.
        then: Kinds of the operations that take its output and nothing else, in order.
    """

    layers: tuple[LayerRecord, ...]
    operation: OperationRecord | None
    then: tuple[str, ...]


@dataclass(frozen=True)
class NetworkSummary:
    """What the view shows.

    Attributes:
        task: At whose end the network is shown.
        nodes: By name, sources first.
        edges: Data flow between nodes.
        layers: All layers, in the model's order.
        operations: All operations.
        flow: Data flow between layers and operations.
        units: Units of all groups.
        parameters: Parameters of the model; None if they were not written.
        flops: FLOPs of one forward pass; None if they were not counted.
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


def summarise(history: TopologyHistory, *, task: str | None = None) -> NetworkSummary:
    """Compute what the view shows, from one state of the file.

    Args:
        history: The history to show.
        task: As of the end of this task, by name or index; None takes the last.

    Raises:
        HistoryError: If the task is not there, or none has begun.
    """
    with history.frozen():
        record = all_tasks(history)[-1] if task is None else find_task(history, task)
        state = history.at(record.index)
    nodes, edges = _condensed(state.layers, state.operations, state.edges)
    order = in_order(list(nodes), edges)
    return NetworkSummary(
        task=record.name,
        nodes={name: nodes[name] for name in order},
        edges=tuple(edges),
        layers=state.layers,
        operations=state.operations,
        flow=state.edges,
        units=sum(state.widths.values()),
        parameters=state.parameters,
        flops=state.flops,
    )


def as_data(summary: NetworkSummary) -> dict[str, object]:
    """The network as a JSON-ready dict: every layer and operation by itself."""
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
    """A row per layer beside the lanes of what flows, for a rich console; it fits the console.

    Args:
        summary: What to show.
        ascii: Use ASCII characters only (names are printed as they are).
    """
    return _Network(summary, symbols(ascii=ascii))


def _condensed(
    layers: Sequence[LayerRecord],
    operations: Sequence[OperationRecord],
    edges: Sequence[tuple[str, str]],
) -> tuple[dict[str, Node], list[tuple[str, str]]]:
    """Nodes and edges, with operations that only pass on what one node gives said beside it."""
    sources: dict[str, list[str]] = {}
    targets: dict[str, list[str]] = {}
    for source, target in edges:
        sources.setdefault(target, []).append(source)
        targets.setdefault(source, []).append(target)
    by_layer = {layer.name: layer for layer in layers}
    by_operation = {operation.name: operation for operation in operations}
    home: dict[str, str] = {}  # where each operation is said
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


def _with_alike_joined(
    nodes: Mapping[str, Node], edges: Sequence[tuple[str, str]]
) -> tuple[dict[str, Node], list[tuple[str, str]]]:
    """Layers that read the same, are alike, and that nothing reads as one node."""
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
    """Draws a network for the console that it meets."""

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
        yield Text(self._note(), "dim")

    def _columns(self, room: int) -> dict[str, int]:
        """What there is room for, each with its width; the least telling goes first."""
        cells = [self._cells(node) for node in self.summary.nodes.values()]
        widths = (
            {name: max([len(name), *(cell[name].cell_len for cell in cells)]) for name in cells[0]}
            if cells
            else {}
        )
        widths = {name: width for name, width in widths.items() if self._says(cells, name)}
        for name in ("share", "FLOPs", "kind"):
            if sum(widths.values()) + 2 * len(widths) > room:
                widths.pop(name, None)
        over = sum(widths.values()) + 2 * len(widths) - room
        if over > 0 and "layer" in widths:
            widths["layer"] = max(8, widths["layer"] - over)
        return widths

    def _says(self, cells: Sequence[Mapping[str, Text]], name: str) -> bool:
        return any(cell[name].plain for cell in cells)

    def _cells(self, node: Node) -> dict[str, Text]:
        """What is said of a node, by column."""
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

    def _note(self) -> str:
        summary = self.summary
        facts = [f"{summary.units:,} units in bold layers"]
        if summary.parameters is not None:
            facts.append(f"{summary.parameters:,} parameters")
        if summary.flops is not None:
            facts.append(f"{summary.flops:,} FLOPs a forward pass of the example inputs")
        return (
            f"After {summary.task}: {', '.join(facts)}. Data flow down the lanes; where lanes "
            "meet, a node reads several: a sum, a concatenation."
        )
