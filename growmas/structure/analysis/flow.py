"""How channels flow through a traced network: from node to node, both ways."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from growmas.structure.analysis.propagation import (
    Passage,
    Relation,
    Shape,
    joins_along,
    operation,
    outlet,
    output_shape,
    passage,
)

Node = Any
"""A node of torch-pruning's graph, a layer or an operation; or a `Raw` parameter."""

_CARRIES = frozenset({
    "Add", "Cat", "Clone", "Expand", "Index", "Repeat", "Select", "Slice", "Stack", "ToCopy",
    "Unsqueeze",
})  # fmt: skip
"""What a parameter that is used outside its layer may go through and still be followed."""


@dataclass(frozen=True, eq=False)
class Link:
    """How channels get from one node to the next.

    Attributes:
        relations: Which belong together, for every way from one to the other; None: one by one.
        down: Why the first node's channels cannot be followed to the second, or nothing.
        up: Why the second node's channels cannot be followed to the first, or nothing.
    """

    relations: tuple[Relation | None, ...] = ()
    down: str = ""
    up: str = ""

    def __add__(self, other: "Link") -> "Link":
        """Both ways."""
        return Link(self.relations + other.relations, self.down or other.down, self.up or other.up)


@dataclass(frozen=True, eq=False)
class Source:
    """One input of a layer or an operation.

    Attributes:
        node: Where it comes from; None for a leaf of the autograd graph.
        shape: Its shape.
        axis: The axis that carries its channels, or why there are none to follow.
        outlet: Which of the node's channels it holds; None for all.
        raw: Of what is made of parameters used outside their layers, and nothing else: why it
            cannot be followed further than to an addition to something else.
    """

    node: Node | None
    shape: Shape
    axis: int | str
    outlet: Relation | None = None
    raw: str = ""


@dataclass(frozen=True, eq=False)
class Raw:
    """A parameter used outside its layer; its channels lie along its last axis.

    Attributes:
        tensor: The parameter.
        inputs: None.
        outputs: The operations that read it.
        module: None; it is no layer.
    """

    tensor: Tensor
    inputs: tuple[Node, ...] = ()
    outputs: list[Node] = field(default_factory=list)
    module: None = None


class Flow:
    """The links between the nodes of a graph.

    Attributes:
        joined: Node -> why its channels are bound to something that is no node.
        order: All nodes, each after those it reads from.
        raws: Operation -> the parameters, used outside their layers, that it reads.
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        calls: Mapping[Any, Node],
        along: Callable[[Node], int | str | None],
        leaf: Callable[[Tensor], tuple[str, bool]],
    ) -> None:
        """Follow the channels.

        Args:
            nodes: All nodes.
            calls: Function of the autograd graph -> its node; a layer may have several.
            along: Node -> None for an operation; for a layer the axis of its output that carries
                the channels, "" if that along which they came in, or why there is none.
            leaf: Leaf of the autograd graph -> why channels cannot be followed into it, and
                whether they can all the same where it is only added or joined to others.
        """
        self._calls = calls
        self._leaf = leaf
        ways = {node: along(node) for node in nodes}
        self._axis: dict[Node, int | str] = {
            node: way for node, way in ways.items() if way is not None and way != ""
        }
        self._links: dict[tuple[Node, Node], Link] = {}
        self.joined: dict[Node, str] = {}
        self.raws: dict[Node, list[Raw]] = {}
        self._raw: dict[int, Raw] = {}
        self._only_raw: dict[Node, str] = {}
        functions: dict[Node, list[Any]] = {}
        for function, node in calls.items():
            functions.setdefault(node, []).append(function)
        self.order = tuple(_inputs_first(ways))
        for node in self.order:
            way = ways[node]
            if way is None:
                self._enter_operation(node)
            else:
                self._enter_layer(node, way, functions.get(node, []))

    def link(self, first: Node, second: Node) -> Link:
        """The link between two neighbours."""
        return self._links.get((first, second), Link())

    def operands(self, node: Node) -> tuple[Node | None, ...]:
        """What an operation reads; None for a constant."""
        functions = getattr(node.grad_fn, "next_functions", ())
        sources = {index: source.node for index, source in self._sources(node.grad_fn)}
        return tuple(sources.get(index) for index in range(len(functions)))

    def channels(self, node: Node) -> tuple[bool, int | None]:
        """Whether an operation joins channels, and how many it gives; None: not known."""
        axis = self._axis.get(node)
        if not isinstance(axis, int):
            return False, None
        return joins_along(node.grad_fn, axis), output_shape(node.grad_fn)[axis]

    def _enter_layer(self, node: Node, along: int | str, functions: list[Any]) -> None:
        """A layer reads its first input along its own axis."""
        for function in functions:
            sources = [
                source
                for _, source in self._sources(function)
                if source.node is not None and not isinstance(source.node, Raw)
            ]
            for number, source in enumerate(sources):
                axis = source.axis
                if along == "" and number == 0:
                    self._axis[node] = axis if isinstance(axis, str) else axis - len(source.shape)
                elif isinstance(axis, int) and number:
                    axis = "a layer reads it beside its input"
                elif isinstance(axis, int) and along not in (axis, axis - len(source.shape)):
                    axis = along if isinstance(along, str) else "a layer reads along another axis"
                if isinstance(axis, str):
                    self._add(source.node, node, Link(down=axis, up=axis))
                else:
                    self._add(source.node, node, Link((source.outlet,)))

    def _enter_operation(self, node: Node) -> None:
        function = node.grad_fn
        steps = [
            (source, _step(function, index, source)) for index, source in self._sources(function)
        ]
        # what is not raw says along which axis the channels lie
        telling = [step for source, step in steps if not source.raw] or [s for _, s in steps]
        found = [step.axis for step in telling if isinstance(step, Passage)]
        reasons = [step for step in telling if isinstance(step, str)]
        axis = self._axis[node] = (found or reasons or ["it is made without channels"])[0]
        if steps and all(source.raw for source, _ in steps):
            self._only_raw[node] = steps[0][0].raw
        for source, step in steps:
            if isinstance(step, Passage) and step.axis != axis:
                step = source.raw or "channels that lie along different axes meet"
            if isinstance(step, Passage):
                behind = step.relation
                relation = source.outlet.then(behind) if source.outlet else behind
                self._add(source.node, node, Link((relation,)))
                if isinstance(source.node, Raw):
                    source.node.outputs.append(node)
                    self.raws.setdefault(node, []).append(source.node)
                continue
            coupled = isinstance(axis, str) or not _apart(function, axis, source.shape)
            if source.node is not None and not isinstance(source.node, Raw):
                self._add(source.node, node, Link(down=step, up=step if coupled else ""))
            elif coupled:
                self.joined[node] = step

    def _sources(self, function: Any) -> Iterator[tuple[int, Source]]:
        """The inputs of a function that carry gradients, with their numbers."""
        for index, (given, number) in enumerate(getattr(function, "next_functions", ())):
            if given is None:
                continue
            if hasattr(given, "variable"):
                leaf = given.variable
                reason, followed = self._leaf(leaf)
                shape = tuple(leaf.shape)
                if followed and shape:
                    raw = self._raw.setdefault(id(leaf), Raw(leaf))
                    yield index, Source(raw, shape, len(shape) - 1, raw=reason)
                else:
                    yield index, Source(None, shape, reason)
                continue
            node = self._calls.get(given)
            shape = output_shape(given, number)
            axis = self._axis.get(node, "it depends on itself")
            if isinstance(axis, int) and axis < 0:
                axis += len(shape)
            raw_only = self._only_raw.get(node, "")
            yield index, Source(node, shape, axis, outlet(given, number), raw_only)

    def _add(self, first: Node, second: Node, link: Link) -> None:
        self._links[first, second] = self.link(first, second) + link


def _step(function: Any, index: int, source: Source) -> Passage | str:
    """How the channels of one input of an operation get through, or why they do not."""
    if isinstance(source.axis, str):
        return source.axis
    if source.raw and operation(function) not in _CARRIES:
        return source.raw
    step = passage(function, index, source.axis, source.shape)
    return source.raw or step if isinstance(step, str) else step


def _apart(function: Any, axis: int, shape: Shape) -> bool:
    """Whether an operand has nothing to do with the single channels of an operation.

    It is broadcast over them, or takes a place of its own beside them.
    """
    if joins_along(function, axis):
        return True
    out = output_shape(function)
    aligned = axis - len(out) + len(shape)
    return out[axis] > 1 and (aligned < 0 or shape[aligned] == 1)


def _inputs_first(nodes: Iterable[Node]) -> Iterator[Node]:
    """Every node after those it reads from, save where a layer feeds itself."""
    seen: set[Node] = set()
    for start in nodes:
        stack = [(start, iter(start.inputs))] if start not in seen else []
        seen.add(start)
        while stack:
            node, inputs = stack[-1]
            following = next((given for given in inputs if given not in seen), None)
            if following is None:
                stack.pop()
                yield node
            else:
                seen.add(following)
                stack.append((following, iter(following.inputs)))
