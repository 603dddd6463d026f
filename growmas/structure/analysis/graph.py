"""torch-pruning's graph of a model: its layers and operations, and which reads which.

torch-pruning runs the model once, and reads the autograd graph of its outputs backward. Modules of
a type that it knows become single nodes, everything else one node for every operation:

    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))

    Conv2d -> Relu -> View -> Linear -> (output)

Nothing else of torch-pruning is used here. Which channels belong together is read from the shapes
and arguments that autograd recorded (see `propagation`): its own inference of shapes goes wrong
for channels along the last axis, and on some networks never returns.

The model must be traced as it is, which takes some care, and leaves no trace (see `preserving`):

- layers are single nodes of the autograd graph while they run (see `leaf_modules`), also those of
  types that torch-pruning does not know;
- all parameters require gradients, so that frozen ones are seen;
- floating-point inputs do too. They are not leaves, so that the model may write to them.
"""

import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch_pruning as tp
from torch import Tensor, nn
from torch_pruning.ops import OPTYPE

from growmas.batches import float_tensors
from growmas.errors import SurgeryError
from growmas.structure.analysis.attributes import Notes, tracked_attributes
from growmas.structure.analysis.leaf_modules import StructureForward, as_single_nodes
from growmas.structure.analysis.lengths import LengthUse, tracked_lengths
from growmas.structure.analysis.links import Node
from growmas.structure.layers.axes import axes_of, is_layer


@dataclass(frozen=True, eq=False)
class TracedGraph:
    """The nodes of a traced network.

    Attributes:
        nodes: Module, of the model or made by torch-pruning for an operation -> its node.
        calls: Function of the autograd graph -> its node; a layer may have several.
        outputs: The outputs of the forward pass.
        notes: Attributes of modules in the shapes of operations, and buffers that are joined.
        lengths: Lengths of one tensor in the shapes of others.
    """

    nodes: dict[Any, Node]
    calls: dict[Any, Node]
    outputs: list[Tensor]
    notes: Notes
    lengths: list[LengthUse]


def traced(model: nn.Module, example_inputs: Any, forward: StructureForward) -> TracedGraph:
    """Trace a model in eval mode whose parameters all require gradients.

    Raises:
        SurgeryError: No output depends on a parameter.
        Exception: Whatever the forward pass raises.
    """
    outputs: list[Tensor] = []
    notes = Notes()
    lengths: list[LengthUse] = []

    def run(model: nn.Module, inputs: Any) -> list[Tensor]:
        with tracked_attributes(model) as found, tracked_lengths() as read:
            outputs[:] = [t for t in float_tensors(forward(model, inputs)) if t.grad_fn]
        notes.uses.extend(found.uses)
        notes.constants.update(found.constants)
        notes.scaled.update(found.scaled)
        notes.counted.update(found.counted)
        lengths.extend(read)
        if not outputs:
            raise SurgeryError("no output depends on a parameter")
        return outputs

    graph = _Graph()
    with warnings.catch_warnings(), as_single_nodes(model, is_leaf) as calls:
        warnings.simplefilter("ignore")
        graph.build_dependency(
            model,
            watched(example_inputs),
            forward_fn=run,
            customized_pruners=_unknown_types(model),
            verbose=False,
        )
    functions = {node.grad_fn: node for node in graph.nodes.values()}
    functions.update({f: graph.nodes[module] for f, module in calls if module in graph.nodes})
    return TracedGraph(graph.nodes, functions, outputs, notes, lengths)


class _Graph(tp.DependencyGraph):  # type: ignore[misc]
    """torch-pruning's nodes, without its inference of shapes.

    Attention of torch is not a layer here: its operations say more.
    """

    def __init__(self) -> None:
        super().__init__()
        del self.REGISTERED_PRUNERS[OPTYPE.MHA]

    def _build_dependency(self, module2node: dict[Any, Node]) -> None:
        self.nodes = module2node
        self.module2node: dict[Any, Node] = {}


class _UnknownType(tp.BasePruningFunc):  # type: ignore[misc]
    """Makes torch-pruning take a layer type for a layer; it never cuts anything."""

    def prune_out_channels(self, layer: nn.Module, idxs: Any) -> nn.Module:
        return layer

    prune_in_channels = prune_out_channels

    def get_out_channels(self, layer: nn.Module) -> None:
        return None

    get_in_channels = get_out_channels


def _unknown_types(model: nn.Module) -> dict[type[nn.Module], _UnknownType]:
    """Return the layer types of the model that torch-pruning does not know itself."""
    kinds = {type(m) for m in model.modules() if is_leaf(m) and not _is_known(m)}
    return {kind: _UnknownType() for kind in kinds}


def is_leaf(module: nn.Module) -> bool:
    """Return True if a module is one node, however many operations it runs."""
    if is_layer(module):
        axes = axes_of(module)
        return axes is None or bool(axes.out or axes.into)
    return _is_known(module)


def _is_known(module: nn.Module) -> bool:
    """Return True if torch-pruning takes the module for a layer."""
    return tp.ops.module2type(module) not in (OPTYPE.ELEMENTWISE, OPTYPE.MHA)


def watched(inputs: Any) -> Any:
    """Return the inputs with floating-point tensors that show up in the autograd graph."""
    if isinstance(inputs, Tensor) and inputs.is_floating_point():
        return inputs.detach().clone().requires_grad_(True) * 1
    if isinstance(inputs, Mapping):
        return {key: watched(value) for key, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return tuple(watched(value) for value in inputs)
    return inputs


def unreached_parameters(model: nn.Module, outputs: list[Tensor]) -> dict[str, Tensor]:
    """Return the parameters that no output depends on, by qualified name."""
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
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.is_floating_point() and id(parameter) not in reached
    }


def inputs_first(nodes: Iterable[Node], sources: Collection[Node]) -> Iterator[Node]:
    """Give every node after those it reads from, except for those that count as sources."""
    seen: set[Node] = set()

    def inputs_of(node: Node) -> Iterator[Node]:
        return iter(() if node in sources else node.inputs)

    for start in nodes:
        stack = [(start, inputs_of(start))] if start not in seen else []
        seen.add(start)
        while stack:
            node, inputs = stack[-1]
            following = next((given for given in inputs if given not in seen), None)
            if following is None:
                stack.pop()
                yield node
            else:
                seen.add(following)
                stack.append((following, inputs_of(following)))
