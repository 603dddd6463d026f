"""torch-pruning's graph of a model, made and read without leaving a trace in the model."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Any

import numpy as np
import torch_pruning as tp
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_pruning.ops import OPTYPE

from growmas.errors import SurgeryError
from growmas.structure.analysis.architecture import Operation
from growmas.structure.analysis.flow import Flow, Node, Raw
from growmas.structure.analysis.leaf_modules import float_tensors, opaque
from growmas.structure.analysis.propagation import Relation, operation
from growmas.structure.analysis.residual import Point
from growmas.structure.layers.axes import Side, axes_of, is_registered, why_fixed
from growmas.structure.units.plan import AT_THE_OUTPUT

StructureForward = Callable[[nn.Module, Any], Any]

Pairs = NDArray[np.int64]
Codes = NDArray[np.int64]
"""Pairs as single numbers, channel × _STEP + position, sorted and each once."""

_STEP = 2**32

Way = tuple[Relation | None, bool]
"""A relation, None for one by one, and whether it is gone backward."""


@dataclass(frozen=True)
class Walk:
    """What moves when all output channels of a layer do.

    Attributes:
        touched: (layer, side) -> [n, 2] int64, (root channel, position) for every position that
            moves, sorted; the root comes first. What keeps channels apart has only "out".
        obstacle: Why it cannot move, or nothing.
        raw: The same for parameters used outside their layers, by qualified name.
        why_raw: Why such a parameter holds the channels fast where it cannot be followed.
        points: All it meets on the way, what gives before what reads.
    """

    touched: dict[tuple[nn.Module, Side], Pairs]
    obstacle: str
    raw: dict[str, Pairs]
    why_raw: str
    points: tuple[Point, ...]


def example_forward(model: nn.Module, example_inputs: Any) -> Any:
    """Call `model` on a tensor, a tuple of positional or a dict of keyword arguments."""
    if isinstance(example_inputs, Mapping):
        return model(**example_inputs)
    if isinstance(example_inputs, tuple | list):
        return model(*example_inputs)
    return model(example_inputs)


class DependencyTrace:
    """What moves with the output channels of a layer.

    Attributes:
        outputs: The outputs of the traced forward pass, with their graph.
    """

    def __init__(self, model: nn.Module, example_inputs: Any, forward: StructureForward) -> None:
        """Trace `model`, whose parameters all require gradients, in eval mode.

        Raises:
            SurgeryError: The forward pass or the analysis fails.
        """
        self._names = {module: name for name, module in model.named_modules()}
        self._parameters = {id(p): name for name, p in model.named_parameters()}
        self._owners = {
            f"{prefix}.{name}" if prefix else name: module
            for prefix, module in model.named_modules()
            for name in module._parameters
        }
        self.outputs: list[Tensor] = []
        graph = _Graph()
        try:
            with warnings.catch_warnings(), opaque(model, _is_layer) as calls:
                warnings.simplefilter("ignore")
                graph.build_dependency(
                    model,
                    _watched(example_inputs),
                    forward_fn=lambda model, inputs: self._run(model, inputs, forward),
                    customized_pruners=_strangers(model),
                    verbose=False,
                )
            self._nodes = graph.nodes
            functions = {node.grad_fn: node for node in self._nodes.values()}
            functions.update({f: self._nodes[m] for f, m in calls if m in self._nodes})
            self._ends = {functions.get(output.grad_fn) for output in self.outputs}
            self._flow = Flow(self._nodes.values(), functions, self._along, self._why_leaf)
        except Exception as error:
            raise SurgeryError(
                f"the network could not be analysed on its example inputs: {error}. "
                "They must be what the model is called with: a tensor, a tuple of positional or "
                "a dict of keyword arguments; or pass forward=lambda model, inputs: ..."
            ) from error

    def has(self, module: nn.Module) -> bool:
        """Whether the module ran."""
        return module in self._nodes

    def walk(self, root: nn.Module, width: int) -> Walk:
        """Follow the output channels of `root` to everything that moves with them.

        The walk goes on only where new positions appear, and positions never leave the tensors
        they lie in, so it ends on every graph.
        """
        start = np.arange(width, dtype=np.int64) * (_STEP + 1)
        known: dict[tuple[Node, Side], Codes] = {}
        stack: list[tuple[Node, Side, Codes]] = [(self._nodes[root], "out", start)]
        obstacles: dict[str, None] = {}
        while stack:
            node, side, codes = stack.pop()
            fresh = _new(codes, known.get((node, side)))
            if not len(fresh):
                continue
            known[node, side] = _union(fresh, known.get((node, side)))
            for neighbour, its_side, ways, obstacle in self._neighbours(node, side):
                if obstacle:
                    obstacles[obstacle] = None
                stack += [(neighbour, its_side, _moved(fresh, way)) for way in ways]
        touched = {
            (node.module, side): _pairs(codes)
            for (node, side), codes in known.items()
            if node.module in self._names
        }
        raw = {
            self._parameters[id(node.tensor)]: _pairs(codes)
            for (node, _), codes in known.items()
            if isinstance(node, Raw)
        }
        why_raw = next(map(self._why_raw, raw), "")
        return Walk(touched, next(iter(obstacles), ""), raw, why_raw, self._points(set(known)))

    def edges(self) -> tuple[tuple[str, str], ...]:
        """Data flow from layer to layer, through operations that are not layers of the model."""
        edges: dict[tuple[str, str], None] = {}
        for module, node in self._nodes.items():
            if module not in self._names:
                continue
            stack, seen = list(node.outputs), set()
            while stack:
                following = stack.pop()
                if following in seen:
                    continue
                seen.add(following)
                if following.module in self._names:
                    edges[self._names[module], self._names[following.module]] = None
                else:
                    stack.extend(following.outputs)
        order = {name: position for position, name in enumerate(self._names.values())}
        return tuple(sorted(edges, key=lambda edge: (order[edge[0]], order[edge[1]])))

    def operations(self) -> tuple[Operation, ...]:
        """What data flow through beside the layers, in the order of the flow."""
        labels = self._labels()
        widths = {name: _width(module) for module, name in self._names.items()}
        found = []
        for node, label in labels.items():
            if node.module not in self._names:
                sources = tuple(dict.fromkeys(self._sources(node, labels)))
                joins, channels = self._flow.channels(node)
                bare = Operation(label, self._kind(node), sources, joins, 1)
                before = bare.width(widths)
                factor = channels // before if before and channels else None
                found.append(replace(bare, factor=factor))
                widths[label] = channels
        return tuple(found)

    def flow(self) -> tuple[tuple[str, str], ...]:
        """Data flow between layers and operations, by name."""
        labels = self._labels()
        edges = ((source, labels[n]) for n in labels for source in self._sources(n, labels))
        return tuple(dict.fromkeys(edges))

    def _labels(self) -> dict[Node, str]:
        """Names of layers and, of the kind and a number, of operations; none for plumbing."""
        taken = set(self._names.values())
        labels = {}
        for node in self._flow.order:
            if node.module in self._names:
                labels[node] = self._names[node.module]
            elif self._kind(node) not in _PLUMBING:
                kind = self._kind(node).lower()
                numbers = (f"{kind}_{number}" for number in count(1))
                labels[node] = next(name for name in chain([kind], numbers) if name not in taken)
                taken.add(labels[node])
        return labels

    def _kind(self, node: Node) -> str:
        """What an operation does; "Input" for what `_watched` multiplied by one."""
        kind = operation(node.grad_fn).removesuffix("WithIndices")
        leaves = [getattr(given, "variable", None) for given, _ in node.grad_fn.next_functions]
        return "Input" if kind == "Mul" and leaves and self._is_input(leaves[0]) else kind

    def _is_input(self, leaf: Tensor | None) -> bool:
        return leaf is not None and id(leaf) not in self._parameters

    def _sources(self, node: Node, labels: Mapping[Node, str]) -> Iterator[str]:
        """Names of what a node reads, plumbing left out."""
        stack, seen = list(reversed(node.inputs)), set()
        while stack:
            given = stack.pop()
            if given in labels:
                yield labels[given]
            elif given not in seen:
                seen.add(given)
                stack.extend(reversed(given.inputs))

    def _neighbours(
        self, node: Node, side: Side
    ) -> Iterator[tuple[Node, Side, tuple[Way, ...], str]]:
        """Where channels on one side of a node come from or go to: node, side, ways, obstacle."""
        two_sided = self._two_sided(node)
        if side == "out" or not two_sided:
            if node in self._ends:
                yield node, side, (), AT_THE_OUTPUT
            for following in dict.fromkeys(node.outputs):
                link = self._flow.link(node, following)
                its_side: Side = "in" if self._two_sided(following) else "out"
                yield following, its_side, tuple((r, False) for r in link.relations), link.down
        if side == "in" or not two_sided:
            if node in self._flow.joined:
                yield node, side, (), self._flow.joined[node]
            for given in dict.fromkeys([*node.inputs, *self._flow.raws.get(node, ())]):
                link = self._flow.link(given, node)
                yield given, "out", tuple((r, True) for r in link.relations), link.up

    def _points(self, known: set[tuple[Node, Side]]) -> tuple[Point, ...]:
        """What a walk met, what gives before what reads."""
        raws = dict.fromkeys(node for node, _ in known if isinstance(node, Raw))
        return tuple(
            self._point(node, known)
            for node in (*raws, *self._flow.order)
            if (node, "out") in known or (node, "in") in known
        )

    def _point(self, node: Node, known: set[tuple[Node, Side]]) -> Point:
        def key(given: Node | None) -> Node | None:
            return given if (given, "out") in known else None

        sides = ((node, "out") in known, (node, "in") in known)
        if isinstance(node, Raw):
            return Point(node, self._parameters[id(node.tensor)], None, "", *sides, ())
        if node.module in self._names:
            given = tuple(key(given) for given in node.inputs)
            return Point(node, self._names[node.module], axes_of(node.module), "", *sides, given)
        given = tuple(key(given) for given in self._flow.operands(node))
        return Point(node, "", None, operation(node.grad_fn), *sides, given)

    def _two_sided(self, node: Node) -> bool:
        """Whether the node makes new channels of those it reads."""
        axes = axes_of(node.module) if node.module in self._names else None
        return axes is not None and bool(axes.into)

    def _along(self, node: Node) -> int | str | None:
        if node.module not in self._names:
            return None
        axes, name = axes_of(node.module), self._names[node.module]
        if axes is None:
            return f"it touches {name!r}: {why_fixed(node.module)}"
        if axes.along is not None:
            return axes.along
        return -1 if axes.into else ""

    def _why_leaf(self, leaf: Tensor) -> tuple[str, bool]:
        name = self._parameters.get(id(leaf))
        if name is None:
            return "it is joined with the input of the network", False
        return self._why_raw(name), axes_of(self._owners[name]) is None

    def _why_raw(self, name: str) -> str:
        owner = self._owners[name]
        known = is_registered(type(owner)) or next(owner.children(), None) is not None
        kind = type(owner).__name__
        hint = "" if known else f"; register_layer or register_norm says what a {kind} does"
        return f"it moves with {name!r}, a parameter used outside its layer{hint}"

    def _run(self, model: nn.Module, inputs: Any, forward: StructureForward) -> list[Tensor]:
        self.outputs = [t for t in float_tensors(forward(model, inputs)) if t.requires_grad]
        if not self.outputs:
            raise SurgeryError("no output depends on a parameter")
        return self.outputs


class _Graph(tp.DependencyGraph):  # type: ignore[misc]
    """torch-pruning's nodes, without its inference of shapes.

    Shapes and positions are those that autograd recorded (see `flow`); the recursive search for
    them would be wrong for channels along the last axis, and on some networks never return.
    """

    def _build_dependency(self, module2node: dict[Any, Node]) -> None:
        self.nodes = module2node
        self.module2node: dict[Any, Node] = {}


_PLUMBING = frozenset({
    "Alias", "AsStrided", "Clone", "Expand", "Permute", "Reshape", "ReshapeAlias", "Select",
    "Slice", "Split", "SplitWithSizes", "Squeeze", "T", "ToCopy", "Transpose", "Unbind", "Unsafe",
    "UnsafeSplit", "UnsafeView", "Unsqueeze", "View",
})  # fmt: skip
"""Operations that only reorder, copy or cut out entries."""


def _width(module: nn.Module) -> int | None:
    axes = axes_of(module)
    return axes.channels(module, "out") if axes else None


def _watched(inputs: Any) -> Any:
    """The inputs, with floating-point tensors made to show up in the autograd graph."""
    if isinstance(inputs, Tensor) and inputs.is_floating_point():
        # not a leaf, so that the model may write to it
        return inputs.detach().clone().requires_grad_(True) * 1
    if isinstance(inputs, Mapping):
        return {key: _watched(value) for key, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return tuple(_watched(value) for value in inputs)
    return inputs


def _pairs(codes: Codes) -> Pairs:
    return np.stack([codes // _STEP, codes % _STEP], axis=1)


def _moved(codes: Codes, way: Way) -> Codes:
    """The positions that move at the other end of a link."""
    relation, backward = way
    if relation is None:
        return codes
    positions = codes % _STEP
    rows, found = relation.backward(positions) if backward else relation.forward(positions)
    moved: Codes = np.unique(codes[rows] // _STEP * _STEP + found)
    return moved


def _new(codes: Codes, known: Codes | None) -> Codes:
    """Those of `codes` that are not known yet."""
    if known is None:
        return codes
    if codes is known or np.array_equal(codes, known):
        return codes[:0]
    return np.setdiff1d(codes, known, assume_unique=True)


def _union(fresh: Codes, known: Codes | None) -> Codes:
    return fresh if known is None else np.union1d(fresh, known)


class _Stranger(tp.BasePruningFunc):  # type: ignore[misc]
    """Makes torch-pruning take a layer type for a layer; it never cuts anything."""

    def prune_out_channels(self, layer: nn.Module, idxs: Any) -> nn.Module:
        return layer

    prune_in_channels = prune_out_channels

    def get_out_channels(self, layer: nn.Module) -> None:
        return None

    get_in_channels = get_out_channels


def _strangers(model: nn.Module) -> dict[type[nn.Module], _Stranger]:
    """The layer types of the model that torch-pruning does not know itself."""
    kinds = {type(m) for m in model.modules() if _is_layer(m) and not _is_known(m)}
    return {kind: _Stranger() for kind in kinds}


def _is_layer(module: nn.Module) -> bool:
    """Whether a module is one node to us, however many operations it runs."""
    if is_registered(type(module)):
        axes = axes_of(module)
        return axes is None or bool(axes.out or axes.into)
    return _is_known(module)


def _is_known(module: nn.Module) -> bool:
    """Whether torch-pruning takes the module for a layer."""
    return bool(tp.ops.module2type(module) != OPTYPE.ELEMENTWISE)


def unused_layers(model: nn.Module, outputs: list[Tensor]) -> set[str]:
    """Qualified names of the layers with parameters that no output depends on."""
    reached: set[int] = set()
    stack: list[Any] = [output.grad_fn for output in outputs]
    seen: set[Any] = set(stack)
    while stack:
        function = stack.pop()
        reached.add(id(getattr(function, "variable", None)))
        for following, _ in function.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                stack.append(following)
    return {
        name.rpartition(".")[0] or name
        for name, parameter in model.named_parameters()
        if parameter.is_floating_point() and id(parameter) not in reached
    }
