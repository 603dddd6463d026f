"""Discovery: from a model to its groups of units; looking changes nothing.

A worked example: two layers that are added up, and one that reads the sum.

    >>> import torch
    >>> from torch import nn
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.a, self.b, self.c = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(3, 2)
    ...     def forward(self, x):
    ...         return self.c((self.a(x) + self.b(x)).relu())
    >>> found = discover(Net(), torch.rand(5, 4), lambda model, x: model(x))

The graph of one forward pass (`graph`) has the nodes a, b, Add, Relu and c. Each hands on channels
(`flow`, `propagation`). Layers are taken one after the other. A walk from `a` (`walk`) goes down
to the columns of `c` and, at the sum, up to the rows of `b`: these three sides are one group, so
`b` is not walked from again. A walk from `c` reaches the output of the network.

    >>> group = found.groups["a"]
    >>> {(m.layer, m.side): m.positions.tolist() for m in group.members}
    {('a', 'out'): [[0], [1], [2]], ('b', 'out'): [[0], [1], [2]], ('c', 'in'): [[0], [1], [2]]}
    >>> found.fixed
    {'c': 'it reaches the output of the network'}

What the channels of a group pass on their way says what the group can do: the norms among them
whether it can grow (`residual`), and channels that meet whether several are one unit
(`unit_positions`). Every layer with parameters ends up in a group, or in `fixed` with a reason.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from growmas.errors import SurgeryError
from growmas.preserving import preserving
from growmas.structure.analysis.architecture import Operation
from growmas.structure.analysis.coupling import Lengths, coupled
from growmas.structure.analysis.differentiable import (
    buffers_in_the_graph,
    buffers_outside_layers,
    require_gradients,
)
from growmas.structure.analysis.fitness import check_materialised
from growmas.structure.analysis.functional import FunctionalLayer
from growmas.structure.analysis.grouping import laid_out_group, unit_groups
from growmas.structure.analysis.idle_layers import TAKES_NO_PART, idle_layers
from growmas.structure.analysis.reached import Reached
from growmas.structure.analysis.tracing import DependencyTrace, StructureForward
from growmas.structure.layers.asked_once import asking_once
from growmas.structure.layers.axes import Side, axes_of, class_name, is_registered, why_fixed
from growmas.structure.layers.layouts import layouts_of
from growmas.structure.layers.weight_norms import why_parametrised, with_originals
from growmas.structure.units.groups import UnitGroup

LayerSide = tuple[str, Side]


@dataclass(frozen=True)
class Analysis:
    """Result of the analysis.

    Attributes:
        groups: Groups that can shrink or grow, by name, in the order of the model's layers.
        fixed: Layers that can do neither, by name, each with the reason.
        edges: Data flow from layer to layer, by qualified name.
        operations: The operations that are not layers.
        flow: Data flow between layers and operations.
    """

    groups: dict[str, UnitGroup]
    fixed: dict[str, str]
    edges: tuple[tuple[str, str], ...]
    operations: tuple[Operation, ...]
    flow: tuple[tuple[str, str], ...]


def discover(
    model: nn.Module, example_inputs: Any, forward: StructureForward, ignore: Iterable[str] = ()
) -> Analysis:
    """Find the groups of units of `model` on its example inputs; the model is left as it was.

    Layouts registered for a module come first; all other groups come from the traced graph.

    Args:
        model: The network.
        example_inputs: Inputs on which every layer, the heads of all tasks too, runs.
        forward: (model, example_inputs) -> output.
        ignore: Qualified names of layers that need not run.

    Raises:
        SurgeryError: The forward pass fails, or a layer that does not take part in it could not be
            kept in step, see `idle_layers`.
    """
    check_materialised(model)
    with asking_once():
        return _analysis(model, example_inputs, forward, set(ignore))


def _analysis(
    model: nn.Module, example_inputs: Any, forward: StructureForward, ignore: set[str]
) -> Analysis:
    with preserving(model), torch.enable_grad():
        require_gradients(model)
        trace = _trace(model, example_inputs, forward)
        idle = idle_layers(model, trace.outputs, ignore)
    found = _Found(model, trace)
    found.take_layouts()
    found.take_walks()
    found.fixed |= {name: TAKES_NO_PART for name in idle if name not in found.fixed}
    found.name_the_rest()
    groups = _in_order(coupled(found.groups, found.lengths), found.names)
    return Analysis(groups, found.fixed, trace.edges(), trace.operations(), trace.flow())


def _trace(model: nn.Module, example_inputs: Any, forward: StructureForward) -> DependencyTrace:
    """Trace a model with its buffers in the graph; without them if it does not run like that."""
    buffers = buffers_outside_layers(model)
    if buffers:
        try:
            with preserving(model), buffers_in_the_graph(buffers):
                return DependencyTrace(model, example_inputs, forward)
        except SurgeryError:
            pass
    return DependencyTrace(model, example_inputs, forward)


class _Found:
    """Groups as they are found.

    Attributes:
        names: Module -> its qualified name.
        groups: Groups that can change.
        fixed: Names of those that cannot, with the reason.
        laid_out: Sides of layers that layouts, or parameters outside layers, hold.
        given: Sides of layers that need no walk of their own any more.
        held: Layer -> the layer whose walk has met it, and why its channels cannot change.
        lengths: Group -> lengths that the code reads from its channels, and gives to them.
    """

    def __init__(self, model: nn.Module, trace: DependencyTrace) -> None:
        self.names = trace.names
        self.groups: dict[str, UnitGroup] = {}
        self.fixed: dict[str, str] = {}
        self.laid_out: set[LayerSide] = set()
        self.given: set[LayerSide] = set()
        self.held: dict[str, tuple[str, str]] = {}
        self.lengths: dict[str, Lengths] = {}
        self._model = model
        self._trace = trace

    def take_layouts(self) -> None:
        """Make groups of the layouts that are registered for modules."""
        for module, name in self.names.items():
            for layout in layouts_of(module):
                group = laid_out_group(self._model, name, layout)
                self.laid_out |= {(member.layer, member.side) for member in group.members}
                self._file(group)
        self.given = set(self.laid_out)

    def take_walks(self) -> None:
        """Walk from every layer that gives channels and is not part of a group yet."""
        for module, name in self.names.items():
            axes = axes_of(module)
            if not self._trace.has(module) or (name, "out") in self.given:
                continue
            reason = why_not_resized(module)
            if reason:
                self.fixed[name] = reason
            elif axes is not None and axes.produces:
                if not self._trace.gives_channels(module):
                    self.fixed[name] = "other channels pass it along another axis than its own"
                    continue
                reached = self._trace.walk(module, axes.channels(module, "out"))
                self._take(module, name, reached)

    def _take(self, module: nn.Module, name: str, reached: Reached) -> None:
        touched = {(self.names[layer], side): layer for layer, side in reached.layers}
        self.given |= set(touched)
        reason = self._obstacle(reached)
        if reason:
            self.fixed[name] = reason
            self._hold((layer for layer, _ in touched), name, reason)
            return
        groups = unit_groups(self._model, name, module, reached, self.names, self.laid_out)
        if not groups:
            self.fixed[name] = reached.why_stuck
        for group in groups:
            self.laid_out |= {
                (member.layer, member.side)
                for member in group.members
                if (member.layer, member.side) not in touched
            }
            self.lengths[group.name] = Lengths(reached.gives_lengths, reached.takes_lengths)
            self._file(group)

    def _obstacle(self, reached: Reached) -> str:
        """Return why the channels cannot change at all, or nothing."""
        if reached.obstacle:
            return reached.obstacle
        for module, side in reached.layers:
            name, reason = self.names[module], why_not_resized(module)
            if reason:
                return f"it touches {name!r}: {reason}"
            if (name, side) in self.laid_out:
                return f"the layout of another group holds the channels of {name!r}"
        if not reached.reads and not any(side == "in" for _, side in reached.layers):
            return reached.why_stuck or "no layer reads it"
        return ""

    def name_the_rest(self) -> None:
        """Enter every other layer with parameters into `fixed`."""
        in_groups = {layer for group in self.groups.values() for layer in group.layers}
        for module, name in self.names.items():
            if not module._parameters or name in in_groups or name in self.fixed:
                continue
            prefix = f"{name}." if name else ""
            if all(prefix + key in self.fixed for key in module._parameters):
                continue
            if isinstance(module, ParametrizationList):
                continue  # part of a layer, which is there
            axes = axes_of(module)
            if axes is not None and not (axes.out or axes.into):
                self.fixed[name] = "it has one parameter for all channels, which does not change"
            elif axes is None and is_registered(type(module)):
                self.fixed[name] = why_fixed(module)
            elif axes is None:
                self.fixed[name] = self._why_unwrapped(module, name)
            elif self._trace.has(module) and self._trace.passes(module):
                self.fixed[name] = (
                    "it works along another axis than that of the channels, on all of them alike"
                )
            else:
                self.fixed[name] = self._why_neighbour(name)

    def _why_unwrapped(self, module: nn.Module, name: str) -> str:
        held = ", ".join(repr(each) for each in module._parameters)
        return f"a {class_name(module)} uses {held} outside any layer; {why_fixed(module)}"

    def _hold(self, layers: Iterable[str], root: str, reason: str) -> None:
        for layer in layers:
            self.held.setdefault(layer, (root, reason))

    def _why_neighbour(self, name: str) -> str:
        """Return the reason of the layer whose channels a layer hands on."""
        before = [first for first, second in self._trace.edges() if second == name]
        for each in (name, *before):
            if each in self.held:
                self.held.setdefault(name, self.held[each])
                root, reason = self.held[each]
                return f"its channels are those of {root!r}, which cannot change: {reason}"
        return "it reads the input of the network, or channels that cannot change"

    def _file(self, group: UnitGroup) -> None:
        if group.no_shrink and group.no_grow and not group.approximate:
            self.fixed[group.name] = group.no_grow
            self._hold(group.layers, group.name, group.no_grow)
        else:
            self.groups[group.name] = group


def why_not_resized(module: nn.Module) -> str:
    """Return why a layer cannot be resized, or nothing."""
    why = why_parametrised(module)
    if why:
        return why
    axes = axes_of(module)
    if axes is None:
        return why_fixed(module)
    if isinstance(module, FunctionalLayer):
        return ""
    axes = with_originals(module, axes)[""]
    for name in dict.fromkeys(axis.tensor for axis in (*axes.out, *axes.into)):
        held = name in module._parameters or name in module._buffers
        if not held and getattr(module, name, None) is not None:
            return f"its {name} is computed, and not a parameter of its own"
    return ""


def _in_order(groups: dict[str, UnitGroup], names: Mapping[nn.Module, str]) -> dict[str, UnitGroup]:
    order = {name: position for position, name in enumerate(names.values())}
    return dict(sorted(groups.items(), key=lambda item: order[item[1].members[0].layer]))
