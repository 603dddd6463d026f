"""A traced network: which layers read which, and what moves with the channels of a layer.

A worked example, from the autograd graph to what `discovery` needs:

    >>> import torch
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    >>> from growmas.batches import example_forward
    >>> trace = DependencyTrace(net, torch.rand(5, 1, 4, 4), example_forward)

Traced are two layers, the input, and two operations, of which the flatten only reorders entries.

    >>> trace.edges()
    (('0', '3'),)
    >>> [(operation.name, operation.sources, operation.factor) for operation in trace.operations()]
    [('input', (), None), ('relu', ('0',), 1)]

A walk from the two channels of the convolution says where they arrive (see `walk`): at its own
rows, and at eight columns of the linear layer, four to each.

    >>> walk = trace.walk(net[0], width=2)
    >>> {(trace.names[layer], side): found.tolist() for (layer, side), found in walk.layers.items()}
    {('0', 'out'): [0, 1], ('3', 'in'): [0, 0, 0, 0, 1, 1, 1, 1]}
    >>> trace.walk(net[3], width=3).obstacle
    'it reaches the output of the network'

`discovery` makes a group of two channels of the first, whose positions in '3' are [[0, 1, 2, 3],
[4, 5, 6, 7]], and an entry of `fixed` of the second.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain, count
from typing import Any

import numpy as np
from torch import Tensor, nn

from growmas.errors import SurgeryError
from growmas.structure.analysis.architecture import Operation
from growmas.structure.analysis.attributes import number_of
from growmas.structure.analysis.fitness import why_not_analysed
from growmas.structure.analysis.flow import Flow
from growmas.structure.analysis.functional import FunctionalLayer, functional_layers
from growmas.structure.analysis.graph import traced
from growmas.structure.analysis.leaf_modules import StructureForward as StructureForward
from growmas.structure.analysis.links import LayerWays, Node, UnwrappedParameter
from growmas.structure.analysis.propagation import operation
from growmas.structure.analysis.reached import AttributeAlong, Reached
from growmas.structure.analysis.residual import Point
from growmas.structure.analysis.ties import tied_sides
from growmas.structure.analysis.walk import NodeSide, Walk, Walker, parameters_reached
from growmas.structure.layers.axes import axes_of, class_name, is_registered, why_fixed

PLUMBING = frozenset({
    "Alias", "AsStrided", "Clone", "Expand", "Permute", "Reshape", "ReshapeAlias", "Select",
    "Slice", "Split", "SplitWithSizes", "Squeeze", "T", "ToCopy", "Transpose", "Unbind", "Unsafe",
    "UnsafeSplit", "UnsafeView", "Unsqueeze", "View",
})  # fmt: skip
"""Operations that only reorder, copy or cut out entries."""


class DependencyTrace:
    """A traced network.

    Attributes:
        names: Module of the model -> its qualified name.
        outputs: The outputs of the traced forward pass, with their graph.
    """

    def __init__(self, model: nn.Module, example_inputs: Any, forward: StructureForward) -> None:
        """Trace `model`, whose parameters all require gradients, in eval mode.

        Raises:
            SurgeryError: The forward pass or the analysis fails.
        """
        self.names: dict[nn.Module, str] = {module: name for name, module in model.named_modules()}
        held = (*model.named_parameters(), *model.named_buffers())
        self._parameters = {id(tensor): name for name, tensor in held}
        self._owners = {
            f"{prefix}.{name}" if prefix else name: module
            for prefix, module in model.named_modules()
            for name in (*module._parameters, *module._buffers)
        }
        try:
            graph = traced(model, example_inputs, forward)
            self._nodes, self.outputs = graph.nodes, graph.outputs
            functional = functional_layers(self._nodes.values(), model, graph.notes.constants)
            self.names |= functional
            self._nodes |= {
                layer: node for node in self._nodes.values() if (layer := node.module) in functional
            }
            self._uses = [(use, graph.calls.get(use.function)) for use in graph.notes.uses]
            self._lengths, self._counted = graph.lengths, graph.notes.counted
            self._calls = graph.calls
            self._flow = Flow(
                self._nodes.values(),
                graph.calls,
                self._ways,
                self._why_leaf,
                graph.notes,
            )
            two_sided = {node: self._is_two_sided(node) for node in self._nodes.values()}
            ends = {graph.calls.get(output.grad_fn) for output in self.outputs}
            self._ties = tied_sides(self.names)
            self._walker = Walker(self._flow, ends, two_sided, self._tied_nodes())
        except Exception as error:
            raise SurgeryError(why_not_analysed(error, model, example_inputs, forward)) from error

    def _tied_nodes(self) -> dict[NodeSide, tuple[NodeSide, ...]]:
        """Return the ties between layers that ran."""
        return {
            (self._nodes[module], side): tuple(
                (self._nodes[other], its_side) for other, its_side in others if self.has(other)
            )
            for (module, side), others in self._ties.items()
            if self.has(module)
        }

    def has(self, module: nn.Module) -> bool:
        """Return True if the module ran."""
        return module in self._nodes

    def gives_channels(self, module: nn.Module) -> bool:
        """Return True if the channels of the layer's own that it gives can be followed."""
        return self._flow.gives_channels(self._nodes[module])

    def passes(self, module: nn.Module) -> bool:
        """Return True if a layer hands channels on that lie along another axis than its own."""
        return self._nodes[module] in self._flow.passed

    def walk(self, root: nn.Module, width: int) -> Reached:
        """Follow the output channels of `root` to everything that moves with them."""
        walk = self._walker.walk(self._nodes[root], width)
        layers = {
            at: found
            for at, found in walk.layers().items()
            if at[0] in self.names and self._is_layer(self._nodes[at[0]])
        }
        layers |= {
            tied: found
            for at, found in layers.items()
            for tied in self._ties.get(at, ())
            if not self.has(tied[0]) and self.names[tied[0]] != self.names[at[0]]
        }
        held = parameters_reached(walk)
        parameters = {self._parameters[id(node.tensor)]: found for node, found in held.items()}
        factors = {self._parameters[id(node.tensor)] for node in held if self._is_factor(node)}
        why = next(map(self.why_unwrapped, parameters), "")
        lengths = () if walk.obstacle else tuple(enumerate(self._lengths))
        return Reached(
            layers,
            {(node.module, side): places for (node, side), places in walk.reads.items()},
            parameters,
            frozenset(factors),
            walk.together,
            walk.splits,
            walk.obstacle,
            walk.mixed,
            walk.stuck,
            walk.why_stuck,
            why,
            () if walk.obstacle else tuple(self._attributes(walk)),
            self._counted,
            walk.heads,
            partial(self._points, walk),
            frozenset(
                number
                for number, use in lengths
                if self._lies_along(walk, use.source, use.source_axis, use.dimensions)
            ),
            frozenset(
                number
                for number, use in lengths
                if self._lies_along(walk, use.function, use.axis, None)
            ),
        )

    def _is_factor(self, node: UnwrappedParameter) -> bool:
        """Return True if something else than a sum or a concatenation reads a parameter."""
        stack, seen = [*node.outputs], set()
        while stack:
            following = stack.pop()
            kind = operation(following.grad_fn)
            if kind not in PLUMBING | {"Add", "Sub", "Cat"}:
                return True
            if kind in PLUMBING and following not in seen:
                seen.add(following)
                stack.extend(following.outputs)
        return False

    def _lies_along(self, walk: Walk, function: Any, axis: int, dimensions: int | None) -> bool:
        """Return True if channels that were reached lie along an axis of what a node gives."""
        node = self._calls.get(function)
        if node is None or (node, "out") not in walk.reached:
            return False
        labels = self._flow.labels_of(node)
        if labels is not None:
            return axis < labels.ndim and labels.shape[axis] > 1
        own = self._flow.own_axis(node)
        return own is not None and dimensions is not None and own % dimensions == axis

    def _attributes(self, walk: Walk) -> Iterator[AttributeAlong]:
        for use, node in self._uses:
            found = walk.reached.get((node, "out"))
            labels = self._flow.labels_of(node) if found is not None else None
            if found is None or labels is None or use.axis >= labels.ndim:
                continue
            padded = np.append(found, -1)  # the label −1, and those that were not reached
            held = padded[np.where(labels < len(found), labels, -1)]
            if labels.shape[use.axis] > 1:
                if use.start is not None:
                    length = number_of(use.module, use.name, use.entry)
                    held = held.take(range(use.start, use.start + length), use.axis)
                yield AttributeAlong(use.module, use.name, held, use.axis, use.entry)

    def edges(self) -> tuple[tuple[str, str], ...]:
        """Return the data flow from layer to layer, through operations that are not layers."""
        edges: dict[tuple[str, str], None] = {}
        for module, node in self._nodes.items():
            if module not in self.names:
                continue
            stack, seen = list(node.outputs), set()
            while stack:
                following = stack.pop()
                if following in seen:
                    continue
                seen.add(following)
                if following.module in self.names:
                    edges[self.names[module], self.names[following.module]] = None
                else:
                    stack.extend(following.outputs)
        order = {name: position for position, name in enumerate(self.names.values())}
        return tuple(sorted(edges, key=lambda edge: (order[edge[0]], order[edge[1]])))

    def operations(self) -> tuple[Operation, ...]:
        """Return the operations that are not layers, in the order of the data flow."""
        labels = self._labels()
        widths = {name: _width(module) for module, name in self.names.items()}
        found = []
        for node, label in labels.items():
            if node.module not in self.names:
                sources = tuple(dict.fromkeys(self._sources(node, labels)))
                joins, channels = self._flow.channels(node)
                bare = Operation(label, self._kind(node), sources, joins, 1)
                before = bare.width(widths)
                factor = channels // before if before and channels else None
                found.append(replace(bare, factor=factor))
                widths[label] = channels
        return tuple(found)

    def flow(self) -> tuple[tuple[str, str], ...]:
        """Return the data flow between layers and operations, by name."""
        labels = self._labels()
        edges = ((source, labels[n]) for n in labels for source in self._sources(n, labels))
        return tuple(dict.fromkeys(edges))

    def why_unwrapped(self, name: str) -> str:
        """Return why a parameter used outside its layer holds channels fast."""
        owner = self._owners[name]
        known = is_registered(type(owner)) or next(owner.children(), None) is not None
        hint = f"; register_layer or register_norm says what a {class_name(owner)} does"
        kind = "parameter" if name.rpartition(".")[2] in owner._parameters else "buffer"
        return f"it moves with {name!r}, a {kind} used outside its layer{'' if known else hint}"

    def _labels(self) -> dict[Node, str]:
        """Name layers and, by kind and number, operations other than plumbing."""
        taken = set(self.names.values())
        labels = {}
        for node in self._flow.order:
            if node.module in self.names:
                labels[node] = self.names[node.module]
            elif self._kind(node) not in PLUMBING:
                kind = self._kind(node).lower()
                numbers = (f"{kind}_{number}" for number in count(1))
                labels[node] = next(name for name in chain([kind], numbers) if name not in taken)
                taken.add(labels[node])
        return labels

    def _kind(self, node: Node) -> str:
        """Name what an operation does; "Input" for what `graph.watched` multiplied by one."""
        kind = operation(node.grad_fn).removesuffix("WithIndices")
        leaves = [getattr(given, "variable", None) for given, _ in node.grad_fn.next_functions]
        return "Input" if kind == "Mul" and leaves and self._is_input(leaves[0]) else kind

    def _is_input(self, leaf: Tensor | None) -> bool:
        return leaf is not None and id(leaf) not in self._parameters

    def _sources(self, node: Node, labels: Mapping[Node, str]) -> Iterator[str]:
        """Give the names of what a node reads, plumbing left out."""
        stack, seen = list(reversed(node.inputs)), set()
        while stack:
            given = stack.pop()
            if given in labels:
                yield labels[given]
            elif given not in seen:
                seen.add(given)
                stack.extend(reversed(given.inputs))

    def _points(self, walk: Walk) -> tuple[Point, ...]:
        """Return what a walk met, what gives before what reads."""
        known = set(walk.reached)
        parameters = dict.fromkeys(n for n, _ in known if isinstance(n, UnwrappedParameter))
        return tuple(
            self._point(node, known)
            for node in (*parameters, *self._flow.order)
            if (node, "out") in known or (node, "in") in known
        )

    def _point(self, node: Node, known: set[NodeSide]) -> Point:
        def key(given: Node | None) -> Node | None:
            return given if (given, "out") in known else None

        sides = ((node, "out") in known, (node, "in") in known)
        if isinstance(node, UnwrappedParameter):
            return Point(node, self._parameters[id(node.tensor)], None, "", *sides, ())
        if self._is_layer(node):
            given = tuple(key(given) for given in node.inputs)
            return Point(node, self.names[node.module], axes_of(node.module), "", *sides, given)
        given = tuple(key(given) for given in self._flow.operands(node))
        name = self.names.get(node.module) or operation(node.grad_fn)
        return Point(node, "", None, name, *sides, given)

    def _is_layer(self, node: Node) -> bool:
        """Return True if the node takes part with channels of its own."""
        return node not in self._flow.passed and self._ways(node) is not None

    def _is_two_sided(self, node: Node) -> bool:
        """Return True if the node makes new channels of those it reads."""
        axes = axes_of(node.module) if node.module in self.names else None
        return axes is not None and bool(axes.into)

    def _ways(self, node: Node) -> LayerWays | None:
        if node.module not in self.names:
            return None
        axes, name = axes_of(node.module), self.names[node.module]
        if axes is None:
            return LayerWays(f"it touches {name!r}: {why_fixed(node.module)}")
        if not axes.out and not axes.into:
            return None  # such as a PReLU with one slope: an operation
        windows = isinstance(node.module, nn.modules.conv._ConvNd)
        if axes.into:
            operand = node.module.operand if isinstance(node.module, FunctionalLayer) else None
            along = -1 if axes.along is None else axes.along
            return LayerWays(along, name, windows, operand=operand)
        axis: int | str = "" if axes.along is None else axes.along
        channels = axes.channels(node.module, "out") // axes.spread
        return LayerWays(axis, name, windows, channels, axes.spread)

    def _why_leaf(self, leaf: Tensor) -> tuple[str, bool]:
        name = self._parameters.get(id(leaf))
        if name is None:
            return "it is joined with the input of the network", False
        return self.why_unwrapped(name), axes_of(self._owners[name]) is None


def _width(module: nn.Module) -> int | None:
    axes = axes_of(module)
    return axes.channels(module, "out") if axes else None
