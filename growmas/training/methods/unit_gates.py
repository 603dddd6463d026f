"""Gates of units: a learnable mask for each task over the hidden units of a network.

A worked example. Units whose gate is shut are not seen by the layers that read them:

    >>> import growmas
    >>> net = torch.nn.Sequential(
    ...     torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    >>> structure = growmas.Structure(net, torch.rand(4, 2))
    >>> gates = UnitGates(structure, tasks=2, generator=torch.Generator().manual_seed(0))
    >>> with gates.open({"0": torch.tensor([1.0, 0.0, 0.5])}):
    ...     columns = net[2].weight     # between calls, the network has its own weights
    >>> gates.factors({"0": torch.tensor([1.0, 0.0, 0.5])})["2.weight"].tolist()
    [[0.0, 1.0, 0.5]]
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from growmas.structure import Structure
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.placement import Placement, placements
from growmas.structure.views.overrides import Override, overridden

_TOLERANCE = 1e-5


class UnitGates:
    """A number for each task and hidden unit, whose sigmoid opens or shuts the unit.

    A unit is shut where it is read: the columns of all layers that read it are multiplied by its
    gate, so that it makes no difference which activation lies between. Groups of units are those
    of the structure. A group has gates if units of it can be left out: if, with all of its gates
    shut, the output does not depend on the weights that make them, which is tried. Channels of a
    residual path through LayerNorm, which mixes them, have none.

    Args:
        structure: The units of the network.
        tasks: Number of tasks.
        generator: CPU generator of the initial numbers, which are standard normal.

    Attributes:
        numbers: Group name -> e [tasks, U], leaves with gradient.
    """

    def __init__(self, structure: Structure, *, tasks: int, generator: torch.Generator) -> None:
        self._structure = structure
        self._device = next(structure.model.parameters()).device
        self.numbers: dict[str, Tensor] = {}
        for name, group in structure.groups.items():
            if _can_be_shut(structure, group):
                first = torch.randn(tasks, group.width, generator=generator)
                self.numbers[name] = first.to(self._device).requires_grad_()

    def of(self, task: int, scale: float) -> dict[str, Tensor]:
        """Return a = sigmoid(scale · e) of a task, group name -> [U], with gradient."""
        return {name: (scale * e[task]).sigmoid() for name, e in self.numbers.items()}

    def until(self, tasks: int, scale: float) -> dict[str, Tensor]:
        """Return the largest gate of each unit over the first tasks, 0 without any."""
        with torch.no_grad():
            return {
                name: (scale * e[:tasks]).sigmoid().amax(0) if tasks else torch.zeros_like(e[0])
                for name, e in self.numbers.items()
            }

    def open(self, gates: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """Let the network see its units through gates while the context lasts.

        Args:
            gates: Group name -> [U].
        """
        factors: dict[tuple[str, str], list[tuple[Placement, Tensor]]] = {}
        for name, gate in gates.items():
            for place in self._places(name, "in"):
                key = (place.layer, place.axis.tensor)
                factors.setdefault(key, []).append((place, gate))
        return overridden(
            self._structure.model, {key: _columns(parts) for key, parts in factors.items()}
        )

    def factors(self, taken: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return 1 − min(a of the unit made, a of the unit read) for each entry of a parameter.

        Inputs of the network and units without gates count as a = 1, so an entry between two of
        them has the factor 0.

        Args:
            taken: Group name -> a [U].
        """
        parameters = dict(self._structure.model.named_parameters())
        least = {name: torch.ones_like(p) for name, p in parameters.items()}
        along: dict[tuple[str, int], Tensor] = {}
        for name, gate in taken.items():
            for place in self._places(name, "out", "norm", "in"):
                qualified = f"{place.layer}.{place.axis.tensor}"
                if qualified in parameters:
                    key = (qualified, place.axis.dim)
                    ones = along.setdefault(key, _ones_along(place))
                    along[key] = _filled(ones, place, gate.detach())
        for (qualified, dim), values in along.items():
            shape = [-1 if d == dim else 1 for d in range(least[qualified].dim())]
            least[qualified] = torch.minimum(least[qualified], values.view(shape))
        return {name: 1 - each for name, each in least.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the numbers, by group."""
        return {"numbers": {name: e.detach() for name, e in self.numbers.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        for name, e in state["numbers"].items():
            self.numbers[name] = e.to(self._device).clone().requires_grad_()

    def _places(self, name: str, *roles: Any) -> list[Placement]:
        return [*placements(self._structure.model, self._structure.groups[name], roles)]


def _ones_along(place: Placement) -> Tensor:
    tensor = place.tensor
    return torch.ones(tensor.shape[place.axis.dim], dtype=tensor.dtype, device=tensor.device)


def _filled(values: Tensor, place: Placement, gate: Tensor) -> Tensor:
    """Return values along an axis with the gate of each unit at all of its positions."""
    positions = place.positions.to(values.device)
    spread = gate.to(values)[:, None].expand_as(positions)
    return values.index_put((positions.flatten(),), spread.flatten())


def _columns(parts: list[tuple[Placement, Tensor]]) -> Override:
    """Return an override that multiplies a weight by gates along the axes where it reads units."""

    def gated(weight: Tensor) -> Tensor:
        for place, gate in parts:
            factor = _filled(_ones_along(place), place, gate)
            shape = [-1 if d == place.axis.dim else 1 for d in range(weight.dim())]
            weight = weight * factor.view(shape)
        return weight

    return gated


@torch.no_grad()
def _can_be_shut(structure: Structure, group: UnitGroup) -> bool:
    """Return True if the output does not depend on units of a group that nothing reads."""
    model = structure.model
    read = [*placements(model, group, ["in"])]
    made = [*placements(model, group, ["out", "norm"])]
    if group.no_shrink or not read or not made:
        return False
    shut = torch.zeros(group.width)
    changes: dict[tuple[str, str], list[Override]] = {}
    for place in made:
        changes.setdefault((place.layer, place.axis.tensor), []).append(_moved(place))
    outputs = []
    for moved in (False, True):
        overrides = dict(changes) if moved else {}
        for place in read:
            key = (place.layer, place.axis.tensor)
            overrides[key] = [*overrides.get(key, []), _columns([(place, shut)])]
        chained = {key: _chain(each) for key, each in overrides.items()}
        with overridden(model, chained):
            outputs.append(structure._outputs())
    return all(
        torch.allclose(one, other, rtol=_TOLERANCE, atol=_TOLERANCE)
        for one, other in zip(*outputs, strict=True)
    )


def _moved(place: Placement) -> Override:
    """Return an override that changes the entries by which units are made."""

    def moved(weight: Tensor) -> Tensor:
        where = place.positions.flatten().to(weight.device)
        return weight + torch.zeros_like(weight).index_fill(place.axis.dim, where, 0.5)

    return moved


def _chain(overrides: list[Override]) -> Override:
    def chained(weight: Tensor) -> Tensor:
        for override in overrides:
            weight = override(weight)
        return weight

    return chained
