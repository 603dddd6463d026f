"""Flow of the channels through a traced network, from node to node and both ways.

A node is a layer or a single operation. A layer gives channels of its own: 0, 1, 2 … along one
axis of its output. An operation hands on the channels that it reads (see `propagation`). Between
two neighbours there is a link, which says what belongs together:

    net:     a = Conv2d(1, 2, 3);  b = Linear(8, 3);  b(a(x).relu().flatten(1))     x: [N, 1, 4, 4]

    node     labels of its output                   link from the node before
    a        [[[[0]], [[1]]]]    of [N, 2, 2, 2]    (a reads the input of the network)
    Relu     [[[[0]], [[1]]]]    of [N, 2, 2, 2]    one by one
    View     [[0 0 0 0 1 1 1 1]] of [N, 8]          one by one: the labels say the rest
    b        [[0 1 2]]           of [N, 3]          inputs 0 0 0 0 1 1 1 1, outputs 0 1 2 3 4 5 6 7

The last link pairs channels with the columns of `b`. So for every layer the channels on its side
"in" are its columns, those on its side "out" its rows; `walk` follows the links from there.

Where several inputs of an operation hold channels (a sum, a concatenation), the labels of one are
those of the output, and links pair the others with them; behind a concatenation all are numbered
anew, one input after the other. What cannot be followed leaves a reason in the link: `down`, why
the channels of the first node are lost in the second, and `up`, why those of the second cannot
change, since the first one is bound to them. An input that is broadcast over the channels does not
block them: its own channels cannot be followed further, theirs can.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from growmas.structure.analysis.attributes import Notes
from growmas.structure.analysis.concatenation import concatenated
from growmas.structure.analysis.graph import inputs_first
from growmas.structure.analysis.labels import (
    IndexMapping,
    Labels,
    Shape,
    along,
    merged,
    varying,
)
from growmas.structure.analysis.links import (
    LayerWays,
    Link,
    Meeting,
    Node,
    Operand,
    UnwrappedParameter,
    follow,
    is_apart,
    is_paired,
    is_shared,
    lost,
    pairing,
    richest,
    varies,
)
from growmas.structure.analysis.outcomes import PairedChannels, Propagation
from growmas.structure.analysis.products import PRODUCTS, factors
from growmas.structure.analysis.propagation import (
    axis_argument,
    inputs_of,
    joins_along,
    operation,
    output_labels,
    output_shape,
)

OTHER_AXIS = "a layer reads along another axis"
_SCALED = (
    "scaled_dot_product_attention divides by the root of the number of channels, if it gets no "
    "scale="
)
_PLUMBING_BEFORE_A_PRODUCT = 5
_MOST_ENTRIES = 2**24
"""Larger parameters are not followed where they are used outside their layers."""


class Flow:
    """The links between the nodes of a graph.

    Attributes:
        order: All nodes, each after those it reads from.
        bound: Operation -> why its channels cannot change: they meet something outside the graph.
        unwrapped: Operation -> the parameters, used outside their layers, that it reads.
        passed: Layers that work on every one of the channels alike that lie along another axis,
            as a Linear does on every head; they hand these on, and their own cannot be followed.
        splits: Operation -> labels of an axis that it makes several axes of.
        attention: Operations in which queries meet keys, or weights values.
        meetings: Node -> where its channels meet those of queries, or of keys, one by one.
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        calls: Mapping[Any, Node],
        ways: Callable[[Node], LayerWays | None],
        leaf: Callable[[Tensor], tuple[str, bool]],
        notes: Notes,
    ) -> None:
        """Follow the channels.

        Args:
            nodes: All nodes.
            calls: Function of the autograd graph -> its node; a layer may have several.
            ways: Node -> how a layer takes part; None for an operation.
            leaf: Leaf of the autograd graph -> why channels cannot be followed into it, and
                True if they can all the same where it meets them.
            notes: What autograd does not show.
        """
        self._calls, self._notes = calls, notes
        self._leaf = leaf
        self._ways = {node: ways(node) for node in nodes}
        self._axis: dict[Node, int | str] = {
            node: way.axis for node, way in self._ways.items() if way and way.axis != ""
        }
        self._labels: dict[Node, Labels | str] = {}
        self._links: dict[tuple[Node, Node], Link] = {}
        self._parameters: dict[int, UnwrappedParameter] = {}
        self._only_parameters: dict[Node, str] = {}
        self._only_buffers: set[Node] = set()
        self.bound: dict[Node, str] = {}
        self.unwrapped: dict[Node, list[UnwrappedParameter]] = {}
        self.passed: set[Node] = set()
        self.splits: dict[Node, Labels] = {}
        self.attention: set[Node] = set()
        self.meetings: dict[Node, list[Meeting]] = {}
        functions: dict[Node, list[Any]] = {}
        for function, node in calls.items():
            functions.setdefault(node, []).append(function)
        # a layer that is called several times may read what follows from its own output
        again = {n for n in self._axis if len(functions.get(n, ())) > 1 and self._is_known(n)}
        self.order = tuple(inputs_first(self._ways, again))
        for node in (*(n for n in self.order if n not in again), *again):
            way = self._ways[node]
            if way is None:
                self._enter_operation(node)
            else:
                self._enter_layer(node, way, functions.get(node, []))

    def _is_known(self, node: Node) -> bool:
        return isinstance(self._axis[node], int)

    def link(self, first: Node, second: Node) -> Link:
        """Return the link between two neighbours."""
        return self._links.get((first, second), Link())

    def operands(self, node: Node) -> tuple[Node | None, ...]:
        """Return the nodes that an operation reads; None stands for a constant."""
        read = {index: operand.node for index, operand in self._operands(node.grad_fn)}
        return tuple(read.get(index) for index in range(len(inputs_of(node.grad_fn))))

    def channels(self, node: Node) -> tuple[bool, int | None]:
        """Return True if an operation joins channels, and how many it gives; None: not known."""
        labels = self._labels.get(node)
        if not isinstance(labels, np.ndarray):
            return False, None
        axes, function = varying(labels), node.grad_fn
        if len(axes) != 1 or labels.ndim != len(output_shape(function)):
            return False, None
        return joins_along(function, axes[0]), output_shape(function)[axes[0]]

    def labels_of(self, node: Node) -> Labels | None:
        """Return the labels of what an operation gives, before it is cut to pieces."""
        labels = self._labels.get(node)
        return labels if isinstance(labels, np.ndarray) else None

    def own_axis(self, node: Node) -> int | None:
        """Return the axis along which a layer gives channels of its own, if it is known."""
        axis = self._axis.get(node)
        return axis if isinstance(axis, int) else None

    def gives_channels(self, node: Node) -> bool:
        """Return True if the channels of the node's output can be followed."""
        return isinstance(self._axis.get(node), int) and node not in self.passed

    def _enter_layer(self, node: Node, way: LayerWays, functions: list[Any]) -> None:
        """Link a layer with what it reads: its first input, along its own axis."""
        for function in functions:
            operands = [
                operand
                for index, operand in self._operands(function, leaves=False)
                if operand.node is not None and way.operand in (None, index)
            ]
            for number, operand in enumerate(operands):
                labels = operand.labels
                if isinstance(labels, str):
                    link = Link(down=labels, up=labels)
                    if number == 0 and way.axis == "":
                        self._axis[node] = labels
                elif number:
                    why = "a layer reads it beside its input"
                    link = Link(down=why, up=why)
                else:
                    link = self._reading(node, way, labels, operand.shape, len(functions))
                self._add(operand.node, node, link)

    def _reading(
        self, node: Node, way: LayerWays, labels: Labels, shape: Shape, calls: int
    ) -> Link:
        """Pair the channels of a layer's input with those of its side that reads."""
        axis = self._axis_read(node, way, labels, shape)
        if isinstance(axis, str):
            return Link(down=axis, up=axis)
        others = tuple(a for a in varying(labels) if a != axis)
        if others and labels.shape[axis] == 1 and calls == 1 and self._keeps(node, shape, others):
            # as the gate of an ECA layer: each channel is mixed with its neighbours
            self.passed.add(node)
            self._labels[node] = labels
            return Link((None,), mixed=f"a layer runs over its channels ({way.name})")
        if others and axis == len(shape) - 1:
            kept, mapping = merged(labels, (axis,))
            if varying(kept) and calls == 1:
                self.passed.add(node)
                self._labels[node] = kept
                return Link((mapping,))
            return Link(down=OTHER_AXIS, up=OTHER_AXIS)
        if varying(labels) and labels.shape[axis] == 1:
            return Link(down=OTHER_AXIS, up=OTHER_AXIS)
        columns = np.arange(shape[axis] * way.spread, dtype=np.int64)
        if way.spread > 1:
            labels = labels.repeat(way.spread, axis)
        return Link((IndexMapping.between(labels, along(columns, axis, len(shape))),))

    def _keeps(self, node: Node, shape: Shape, axes: tuple[int, ...]) -> bool:
        """Return True if the output of a layer has the lengths of its input along some axes."""
        way = self._ways[node]
        out = output_shape(node.grad_fn)
        same = len(out) == len(shape) and all(out[axis] == shape[axis] for axis in axes)
        return same and way is not None and way.windows

    def _axis_read(self, node: Node, way: LayerWays, labels: Labels, shape: Shape) -> int | str:
        """Return the axis of its input along which a layer reads, counted from the front."""
        if way.axis == "":
            fitting = [a for a in varying(labels) if shape[a] == way.channels]
            if not fitting:
                fitting = [a for a, length in enumerate(shape) if length == way.channels]
            found = fitting[-1] - len(shape) if fitting else OTHER_AXIS
            self._axis.setdefault(node, found)
            axis = self._axis[node]
        else:
            axis = way.axis
        if isinstance(axis, str):
            return axis
        if not -len(shape) <= axis < len(shape):
            return OTHER_AXIS
        return axis % len(shape)

    def _enter_operation(self, node: Node) -> None:
        function = node.grad_fn
        name = operation(function)
        operands = list(self._operands(function))
        if name == "Cat":
            axis = axis_argument(function, "_saved_dim", len(output_shape(function)))
            alone = bool(operands) and all(operand.unwrapped for _, operand in operands)
            if alone:
                self._note_parameters(node, [operand for _, operand in operands])
            if alone or any(varies(o, axis) for _, o in operands):
                self._enter_concatenation(node, axis, dict(operands))
                return
        if name in PRODUCTS:
            steps, meets = factors(function, {i: (o.labels, o.shape) for i, o in operands})
            if meets:
                self.attention.add(node)
        else:
            steps = {i: follow(function, i, operand) for i, operand in operands}
        self._meet(node, [(operand, steps[i]) for i, operand in operands])
        paired = [(o, s) for i, o in operands if isinstance(s := steps[i], PairedChannels)]
        self._pair(paired, _SCALED if self._is_scaled(function) else "")
        labels = self._labels[node]
        if isinstance(labels, np.ndarray) and name in ("View", "UnsafeView", "ReshapeAlias"):
            read = [o.labels for _, o in operands if isinstance(o.labels, np.ndarray)]
            if read and len(varying(labels)) > len(varying(read[0])):
                self.splits[node] = labels.squeeze()

    def _meet(self, node: Node, steps: list[tuple[Operand, Propagation | str]]) -> None:
        """Bring the channels of the inputs of an operation together, entry by entry."""
        found = [(operand, step.labels) for operand, step in steps if isinstance(step, Propagation)]
        firm = [labels for operand, labels in found if not operand.unwrapped]
        if steps and all(operand.unwrapped for operand, _ in steps):
            self._note_parameters(node, [operand for operand, _ in steps])
            firm = [labels for _, labels in found]
        base = richest(firm)
        if base is None:
            reasons = [step for _, step in steps if isinstance(step, str)]
            why_not = self._labels[node] = (reasons or ["it is made without channels"])[0]
        else:
            self._labels[node], why_not = base, ""
        for operand, step in steps:
            if isinstance(step, Propagation) and base is not None:
                link = pairing(operand, step, base, operation(node.grad_fn))
                if operand.constant and step.labels is not base and not is_paired(link, base):
                    continue
            elif operand.constant:
                continue
            else:
                reason = step if isinstance(step, str) else why_not
                apart = base is not None and (
                    is_apart(operand.shape, base)
                    or (operation(node.grad_fn) in PRODUCTS and is_shared(operand.labels, base))
                )
                link = lost(reason, "" if apart else reason)
            self._attach(operand, node, link)

    def _is_scaled(self, function: Any) -> bool:
        """Return True if the number of channels says how a product of them is scaled."""
        given = function
        for _ in range(_PLUMBING_BEFORE_A_PRODUCT):
            given = next((g for g, _ in given.next_functions if g is not None), None)
            if given is None or given in self._notes.scaled:
                return given is not None
        return False

    def _pair(self, both: list[tuple[Operand, PairedChannels]], mixed: str) -> None:
        """Let the channels of queries and keys meet."""
        nodes = [operand.node for operand, _ in both]
        if len(both) < 2 or None in nodes:
            return
        meeting = Meeting((nodes[0], nodes[1]), both[1][1].labels)
        for node, (_, step) in zip(nodes, both, strict=True):
            places = np.arange(len(step.labels), dtype=np.int64)
            self._add(node, meeting, Link((IndexMapping(step.labels, places),), mixed=mixed))
            self.meetings.setdefault(node, []).append(meeting)

    def _note_parameters(self, node: Node, operands: list[Operand]) -> None:
        """Enter an operation that reads nothing but parameters and buffers."""
        self._only_parameters[node] = operands[0].unwrapped
        if all(operand.constant for operand in operands):
            self._only_buffers.add(node)

    def _enter_concatenation(self, node: Node, axis: int, operands: dict[int, Operand]) -> None:
        """Give the channels of all inputs new numbers, one input after the other."""
        constants = self._notes.constants.get(node.grad_fn, {})
        found = concatenated(node.grad_fn, axis, operands, constants, node in self._only_parameters)
        if found is None:
            why = "it is joined with several constants"
            self._meet(node, [(operand, why) for operand in operands.values()])
            return
        self._labels[node], links = found
        for index, link in links.items():
            self._attach(operands[index], node, link)

    def _attach(self, operand: Operand, node: Node, link: Link) -> None:
        """Enter the link from an operand, or what it means for the operation alone."""
        given = operand.node
        if isinstance(given, UnwrappedParameter):
            if link.mappings:
                given.outputs.append(node)
                self.unwrapped.setdefault(node, []).append(given)
                self._add(given, node, link)
            elif link.up:
                self.bound.setdefault(node, link.up)
        elif given is not None:
            self._add(given, node, link)
        elif link.up:
            self.bound.setdefault(node, link.up)

    def _operands(self, function: Any, leaves: bool = True) -> Iterator[tuple[int, Operand]]:
        """Give the inputs of a function that carry gradients, with their numbers."""
        for index, (given, number) in enumerate(inputs_of(function)):
            if given is None:
                continue
            if hasattr(given, "variable"):
                if leaves:
                    yield index, self._leaf_operand(given.variable)
                continue
            node, shape = self._calls.get(given), output_shape(given, number)
            only, constant = self._only_parameters.get(node, ""), node in self._only_buffers
            labels = self._labels_given(node, given, number, shape)
            yield index, Operand(node, shape, labels, only, constant)

    def _leaf_operand(self, leaf: Tensor) -> Operand:
        reason, followed = self._leaf(leaf)
        shape, constant = tuple(leaf.shape), followed and not isinstance(leaf, nn.Parameter)
        if not followed or leaf.numel() > _MOST_ENTRIES or 0 in shape:
            return Operand(None, shape, reason, constant=constant)
        node = self._parameters.setdefault(id(leaf), UnwrappedParameter(leaf))
        return Operand(node, shape, node.labels, reason, constant)

    def _labels_given(self, node: Node, function: Any, number: int, shape: Shape) -> Labels | str:
        """Return the labels of one output of a node, or why it has none."""
        if node in self._labels:
            labels = self._labels[node]
            if isinstance(labels, str) or node in self.passed:
                return labels
            return output_labels(function, number, labels)
        axis = self._axis.get(node, "it depends on itself")
        if isinstance(axis, str):
            return axis
        if not -len(shape) <= axis < len(shape):
            return OTHER_AXIS
        return along(np.arange(shape[axis], dtype=np.int64), axis, len(shape))

    def _add(self, first: Node, second: Node, link: Link) -> None:
        self._links[first, second] = self.link(first, second) + link
