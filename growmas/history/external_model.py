"""A model that other code prunes or grows: scanned at every snapshot, never changed here."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from growmas.batches import example_forward
from growmas.structure.analysis.architecture import Architecture, Operation, operations_now
from growmas.structure.analysis.discovery import discover
from growmas.structure.analysis.leaf_modules import StructureForward
from growmas.structure.analysis.wrappers import uncompiled, unwrap_model
from growmas.structure.inspection.flops import sample_flops
from growmas.structure.inspection.saliency import Which, consumer_saliency, unit_saliency
from growmas.structure.layers.axes import LayerAxes, axes_of
from growmas.structure.units.groups import Member, UnitGroup
from growmas.structure.units.layer_info import layer_info
from growmas.structure.units.placement import placements


@dataclass(frozen=True)
class ExternalChange:
    """Units that other code added to and removed from a model between two scans.

    Attributes:
        born: Group name -> ids of the units added.
        died: Group name -> ids of the units removed.
        recognised: Names of the groups whose remaining units were recognised by their values. Of
            the others only the number is known, and the last units count as removed.
    """

    born: dict[str, tuple[int, ...]] = field(default_factory=dict)
    died: dict[str, tuple[int, ...]] = field(default_factory=dict)
    recognised: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.born or self.died)


@dataclass(frozen=True)
class _Scan:
    """State of a model: groups with ids, a value of each unit, operations and data flow.

    `next_ids` also has groups that were removed, in case one of that name comes back.
    """

    groups: dict[str, UnitGroup]
    values: dict[str, list[float]]
    operations: tuple[Operation, ...] = ()
    flow: tuple[tuple[str, str], ...] = ()
    next_ids: Mapping[str, int] = field(default_factory=dict)


class ExternalModel:
    """The units of a model that other code changes.

    With example inputs the groups are those of `Structure`. Without them, every layer with output
    channels of its own is a group, data flow and FLOPs are unknown, and a unit's importance is
    Σ Ω θ² over its incoming weights.

    Attributes:
        model: The network.
        tasks: Always empty; tasks are named at their snapshots.
        task: Always 0.
    """

    tasks: tuple[str, ...] = ()
    task = 0

    def __init__(
        self, model: nn.Module, example_inputs: Any = None, forward: StructureForward | None = None
    ) -> None:
        """Scan `model`.

        Raises:
            SurgeryError: If the model cannot be analysed on the example inputs.
        """
        self.model = unwrap_model(model)
        self._inputs = example_inputs
        self._forward: StructureForward = forward or example_forward
        self._scan = self._scan_model()

    @property
    def groups(self) -> Mapping[str, UnitGroup]:
        """Group name -> group, as last scanned."""
        return self._scan.groups

    @contextmanager
    def rescanned(self) -> Iterator[ExternalChange]:
        """Scan the model again and yield what changed; keep the old scan if the context fails."""
        before = self._scan
        self._scan, change = _match_units(before, self._scan_model())
        try:
            yield change
        except BaseException:
            self._scan = before
            raise

    def architecture(self, *, count_flops: bool = True) -> Architecture:
        """Return the current layers, operations and data flow, as `Structure.architecture` does."""
        flops: Mapping[str, int] = {}
        if count_flops and self._inputs is not None:
            with uncompiled(self.model):
                flops = sample_flops(self.model, self._inputs, self._forward).layers
        owner = {
            m.layer: g.name for g in self.groups.values() for m in g.members if m.side == "out"
        }
        layers = tuple(
            replace(layer_info(name, module, owner.get(name)), flops=flops.get(name))
            for name, module in self.model.named_modules()
            if module._parameters
        )
        operations = operations_now(self._scan.operations, layers)
        parameters = sum(p.numel() for p in self.model.parameters())
        return Architecture(layers, operations, self._scan.flow, parameters, flops.get(""))

    def saliency(self, omega: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the importance of every unit, [U] by group name."""
        which: Which = "in" if self._inputs is None else "out"
        return unit_saliency(self.model, self.groups, omega, which=which)

    def consumers(self, omega: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return each layer's part of the importance; empty where the data flow is unknown."""
        if self._inputs is None:
            return {}
        return consumer_saliency(self.model, self.groups, omega)

    def subscribe(
        self, listener: Callable[[Any], Any], *, begun: Callable[[str], None] | None = None
    ) -> Callable[[], None]:
        """Accept a listener and never call it: this model does not report its changes."""
        return lambda: None

    def _scan_model(self) -> _Scan:
        if self._inputs is None:
            groups = {
                name: _layer_group(name, module, axes)
                for name, module in self.model.named_modules()
                if (axes := axes_of(module)) is not None and axes.produces
            }
            return _Scan(groups, _values(self.model, groups))
        with uncompiled(self.model):
            found = discover(self.model, self._inputs, self._forward)
        values = _values(self.model, found.groups)
        return _Scan(found.groups, values, found.operations, found.flow)


def _layer_group(name: str, module: nn.Module, axes: LayerAxes) -> UnitGroup:
    width = axes.channels(module, "out")
    member = Member(name, "out", torch.arange(width).unsqueeze(1), (1,), axes)
    return UnitGroup(name, axes.unit, tuple(range(width)), (0,) * width, (member,), width)


def _values(model: nn.Module, groups: Mapping[str, UnitGroup]) -> dict[str, list[float]]:
    """Return a value per unit that pruning other layers does not change: bias or norm gain."""
    found = {}
    for name, group in groups.items():
        for place in placements(model, group, ("out", "norm")):
            if place.tensor.dim() == 1 and place.positions.shape[1] == 1:
                found[name] = place.tensor.detach()[place.positions[:, 0]].tolist()
                break
    return found


def _match_units(before: _Scan, now: _Scan) -> tuple[_Scan, ExternalChange]:
    """Give units of the new scan their ids, and return it with the units added and removed."""
    groups: dict[str, UnitGroup] = {}
    born: dict[str, tuple[int, ...]] = {}
    died = {name: g.unit_ids for name, g in before.groups.items() if name not in now.groups}
    recognised = []
    for name, group in now.groups.items():
        old = before.groups.get(name)
        kept, by_value = _remaining(old, group, before.values.get(name), now.values.get(name))
        first = old.next_id if old else before.next_ids.get(name, 0)
        fresh = tuple(range(first, first + group.width - len(kept)))
        groups[name] = replace(group, unit_ids=(*kept, *fresh), next_id=first + len(fresh))
        gone = tuple(unit for unit in (old.unit_ids if old else ()) if unit not in {*kept})
        if fresh:
            born[name] = fresh
        if gone:
            died[name] = gone
            recognised += [name] * by_value
    next_ids = {**before.next_ids, **{name: g.next_id for name, g in before.groups.items()}}
    return replace(now, groups=groups, next_ids=next_ids), ExternalChange(
        born, died, tuple(recognised)
    )


def _remaining(
    old: UnitGroup | None,
    group: UnitGroup,
    before: list[float] | None,
    now: list[float] | None,
) -> tuple[tuple[int, ...], bool]:
    """Return the ids of the old units that remain, and True if their values identified them."""
    if old is None:
        return (), False
    if group.width < old.width and before and now and len({*before}) == len(before):
        position = {value: index for index, value in enumerate(before)}
        found = [position.get(value, -1) for value in now]
        if found == sorted(found) and found[0] >= 0:
            return tuple(old.unit_ids[index] for index in found), True
    return old.unit_ids[: group.width], False
