"""A model that somebody else changes: looked at now and again, never touched."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from growmas.structure.analysis.architecture import (
    Architecture,
    Operation,
    layer_flops,
    operations_now,
)
from growmas.structure.analysis.discovery import discover
from growmas.structure.analysis.tracing import StructureForward, example_forward
from growmas.structure.analysis.wrappers import uncompiled, unwrapped
from growmas.structure.inspection.saliency import Which, consumer_saliency, unit_saliency
from growmas.structure.layers.axes import LayerAxes, axes_of
from growmas.structure.units.groups import Member, UnitGroup
from growmas.structure.units.layer_info import layer_info
from growmas.structure.units.placement import placements


@dataclass(frozen=True)
class External:
    """What somebody else did to a model between two looks.

    Attributes:
        born: Group name -> ids of the units that came.
        died: Group name -> ids of the units that went.
        known: Names of the groups whose survivors were told by their values. Of the others only
            the number is known, and those that stood last are taken for the ones that went.
    """

    born: dict[str, tuple[int, ...]] = field(default_factory=dict)
    died: dict[str, tuple[int, ...]] = field(default_factory=dict)
    known: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.born or self.died)


@dataclass(frozen=True)
class _Look:
    """What was seen: groups with ids, a value of each unit, operations and data flow.

    `next_ids` has groups that are gone, too, in case one of that name comes back.
    """

    groups: dict[str, UnitGroup]
    values: dict[str, list[float]]
    operations: tuple[Operation, ...] = ()
    flow: tuple[tuple[str, str], ...] = ()
    next_ids: Mapping[str, int] = field(default_factory=dict)


class Observed:
    """The units of a model as others leave it.

    With example inputs the groups are those of `Structure`; without, every layer with output
    channels of its own is a group, data flow and FLOPs are not known, and a unit's importance is
    Σ Ω θ² over the weights that make it.

    Attributes:
        model: The network.
        tasks: None; tasks are named at their snapshots.
        task: 0.
    """

    tasks: tuple[str, ...] = ()
    task = 0

    def __init__(
        self, model: nn.Module, example_inputs: Any = None, forward: StructureForward | None = None
    ) -> None:
        """Look at `model`.

        Raises:
            SurgeryError: With example inputs: see `Structure`.
        """
        self.model = unwrapped(model)
        self._inputs = example_inputs
        self._forward = forward or example_forward
        self._seen = self._look()

    @property
    def groups(self) -> Mapping[str, UnitGroup]:
        """Group name -> group, as last looked at."""
        return self._seen.groups

    @contextmanager
    def looking(self) -> Iterator[External]:
        """Look again: what has changed since, which is forgotten if the context fails."""
        before = self._seen
        self._seen, change = _matched(before, self._look())
        try:
            yield change
        except BaseException:
            self._seen = before
            raise

    def architecture(self, *, count_flops: bool = True) -> Architecture:
        """Layers, operations and data flow as they are now; see `Structure.architecture`."""
        flops: dict[str, int] = {}
        if count_flops and self._inputs is not None:
            with uncompiled(self.model):
                flops = layer_flops(self.model, lambda m: self._forward(m, self._inputs))
        owner = {
            m.layer: g.name for g in self.groups.values() for m in g.members if m.side == "out"
        }
        layers = tuple(
            replace(layer_info(name, module, owner.get(name)), flops=flops.get(name))
            for name, module in self.model.named_modules()
            if module._parameters
        )
        operations = operations_now(self._seen.operations, layers)
        parameters = sum(p.numel() for p in self.model.parameters())
        return Architecture(layers, operations, self._seen.flow, parameters, flops.get(""))

    def saliency(self, omega: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """How much every unit matters, [U] by group name."""
        which: Which = "in" if self._inputs is None else "out"
        return unit_saliency(self.model, self.groups, omega, which=which)

    def consumers(self, omega: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Which layers a unit matters to; nothing where the data flow is not known."""
        if self._inputs is None:
            return {}
        return consumer_saliency(self.model, self.groups, omega)

    def subscribe(
        self, listener: Callable[[Any], Any], *, begun: Callable[[str], None] | None = None
    ) -> Callable[[], None]:
        """Nothing is told; there is nobody who would."""
        return lambda: None

    def _look(self) -> _Look:
        if self._inputs is None:
            groups = {
                name: _layer_group(name, module, axes)
                for name, module in self.model.named_modules()
                if (axes := axes_of(module)) is not None and axes.produces
            }
            return _Look(groups, _values(self.model, groups))
        with uncompiled(self.model):
            found = discover(self.model, self._inputs, self._forward)
        values = _values(self.model, found.groups)
        return _Look(found.groups, values, found.operations, found.flow)


def _layer_group(name: str, module: nn.Module, axes: LayerAxes) -> UnitGroup:
    width = axes.channels(module, "out")
    member = Member(name, "out", torch.arange(width).unsqueeze(1), (1,), axes)
    return UnitGroup(name, axes.unit, tuple(range(width)), (0,) * width, (member,), width)


def _values(model: nn.Module, groups: Mapping[str, UnitGroup]) -> dict[str, list[float]]:
    """A value of each unit that cutting other layers leaves alone: a bias, or a norm's gain."""
    found = {}
    for name, group in groups.items():
        for place in placements(model, group, ("out", "norm")):
            if place.tensor.dim() == 1 and place.positions.shape[1] == 1:
                found[name] = place.tensor.detach()[place.positions[:, 0]].tolist()
                break
    return found


def _matched(before: _Look, now: _Look) -> tuple[_Look, External]:
    """The groups as they are now with the ids of those who survived, and who came and went."""
    groups: dict[str, UnitGroup] = {}
    born: dict[str, tuple[int, ...]] = {}
    died = {name: g.unit_ids for name, g in before.groups.items() if name not in now.groups}
    known = []
    for name, group in now.groups.items():
        old = before.groups.get(name)
        kept, told = _survivors(old, group, before.values.get(name), now.values.get(name))
        first = old.next_id if old else before.next_ids.get(name, 0)
        fresh = tuple(range(first, first + group.width - len(kept)))
        groups[name] = replace(group, unit_ids=(*kept, *fresh), next_id=first + len(fresh))
        gone = tuple(unit for unit in (old.unit_ids if old else ()) if unit not in {*kept})
        if fresh:
            born[name] = fresh
        if gone:
            died[name] = gone
            known += [name] * told
    next_ids = {**before.next_ids, **{name: g.next_id for name, g in before.groups.items()}}
    return replace(now, groups=groups, next_ids=next_ids), External(born, died, tuple(known))


def _survivors(
    old: UnitGroup | None,
    group: UnitGroup,
    before: list[float] | None,
    now: list[float] | None,
) -> tuple[tuple[int, ...], bool]:
    """Ids of the old units that are there still, and whether their values told."""
    if old is None:
        return (), False
    if group.width < old.width and before and now and len({*before}) == len(before):
        place = {value: index for index, value in enumerate(before)}
        found = [place.get(value, -1) for value in now]
        if found == sorted(found) and found[0] >= 0:
            return tuple(old.unit_ids[index] for index in found), True
    return old.unit_ids[: group.width], False
