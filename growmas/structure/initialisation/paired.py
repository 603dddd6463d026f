"""Paired newborns: units with the same rows, whose columns add up to zero."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from growmas.errors import PlanError
from growmas.structure.initialisation.newborns import Fill, Lineage, Newborns
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.placement import Placement, placements
from growmas.structure.units.plan import Plan
from growmas.structure.units.structure_like import StructureLike

ALIKE = 0.1
"""Relative distance of their rows up to which mates still do the same."""

_FAN_IN_VARIANCE = 3.0
"""U(−1/√n, 1/√n), the default start of a layer that reads n units, has the variance 1/(3n)."""


class Paired:
    """Initialise fresh units as mates: one row for both, and the columns +v and −v.

    Mates compute the same, so what they add to their consumers cancels and the function stays, in
    train mode too; with dropout between, in eval mode only, because it masks mates differently.
    Unlike fresh units with zero columns, both sides get a gradient at the first step.

    - The row is drawn as for "zero_out" and scaled to the mean length of the living units' rows,
      for every producer by itself, with the bias by the same factor.
    - v ~ N(0, s²) for every consumer by itself, with s = r · √(U/(U + k)), where r is the root
      mean square of the entries that read the U living units, and k units are fresh.
    - Of an odd number, the last three share a row; their columns are (vᵢ − v̄) · √(3/2).
    - A single fresh unit starts as with "zero_out".

    The mates are in `Edit.mates`. A manager prunes mates together as long as their rows are alike
    (within a tenth of their length), because one alone would leave its columns without a
    counterpart.

    Example:
        >>> import torch, growmas
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
        >>> structure = growmas.Structure(net, torch.rand(5, 4))
        >>> edit = structure.apply(growmas.Plan(grow={"0": 2}), init=growmas.Paired())
        >>> edit.mates
        {'0': ((3, 4),)}
        >>> bool((net[2].weight[:, 3] == -net[2].weight[:, 4]).all())
        True
    """

    def prepare(self, structure: StructureLike, plan: Plan) -> Fill:
        """Refuse units that cannot cancel each other.

        Raises:
            PlanError: A group passes norms over all channels, or one axis of a tied tensor both
                makes its units and reads them.
        """
        problems = [
            f"{name!r}: {problem}"
            for name in plan.added
            if (problem := _obstacle(structure.model, structure.groups[name]))
        ]
        if problems:
            raise PlanError(
                "fresh units cannot start in pairs: "
                + "; ".join(problems)
                + "; use init='zero_out' there, for instance init={'group': 'zero_out'}"
            )
        return fill_paired


def fill_paired(newborns: Newborns) -> Lineage:
    """Write the columns of every group first, then the mates' rows over all groups.

    A row that reads fresh units of another group reads their columns, so mates get the same.
    """
    mates = {name: families(units) for name, units in newborns.born.items()}
    with torch.no_grad():
        for name, units in mates.items():
            _write_columns(newborns, name, units)
        for name, units in mates.items():
            _write_rows(newborns, name, units)
    return Lineage(mates={name: units for name, units in mates.items() if units})


def families(units: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return the units in twos, the last three of an odd number together; one alone has no mate."""
    count = len(units)
    if count < 2:
        return ()
    pairs = (count - 3) // 2 if count % 2 else count // 2
    rest = [tuple(units[2 * pairs :])] if count % 2 else []
    return (*((units[2 * i], units[2 * i + 1]) for i in range(pairs)), *rest)


def balanced(family: int, shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
    """Draw [family, *shape] of mean 0 over the family and variance 1, in float64."""
    if family == 2:
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
        return torch.stack([drawn, -drawn])
    drawn = torch.randn((family, *shape), generator=generator, dtype=torch.float64)
    centred: Tensor = (drawn - drawn.mean(0)) * (family / (family - 1)) ** 0.5
    return centred


def still_mates(model: nn.Module, group: UnitGroup, family: Sequence[int]) -> bool:
    """Return True if all of a family are alive and their rows are alike.

    Args:
        model: The network.
        group: Their group.
        family: Ids of units that were born as mates.
    """
    if not set(family) <= set(group.unit_ids):
        return False
    distances, lengths = torch.zeros(()), torch.zeros(())
    for place in _distinct(model, group, "out"):
        rows = units_first(place, group.indices(family)).float().flatten(1).cpu()
        distances = distances + (rows - rows.mean(0)).square().sum(1).max()
        lengths = lengths + rows.mean(0).square().sum()
    return bool(distances <= ALIKE**2 * lengths)


def _write_columns(newborns: Newborns, name: str, mates: tuple[tuple[int, ...], ...]) -> None:
    group, born = newborns.groups[name], newborns.indices(name)
    living = [i for i in range(group.width) if i not in set(born)]
    for place in _distinct(newborns.model, group, "in"):
        entries = units_first(place, range(group.width))
        size = _column_size(entries, living) * (len(living) / group.width) ** 0.5
        if not living:
            size = (_FAN_IN_VARIANCE * place.tensor[0].numel()) ** -0.5
        for family in mates:
            drawn = balanced(len(family), entries.shape[1:], newborns.generator)
            write_units(place, group.indices(family), drawn * size)


def _column_size(entries: Tensor, living: Sequence[int]) -> float:
    """Return the root mean square of the living units' entries; 0 for none."""
    return float(entries[living].double().square().mean().sqrt()) if living else 0.0


def _write_rows(newborns: Newborns, name: str, mates: tuple[tuple[int, ...], ...]) -> None:
    group, born = newborns.groups[name], newborns.indices(name)
    living = [i for i in range(group.width) if i not in set(born)]
    factors: dict[tuple[str, int], Tensor] = {}
    for place in _distinct(newborns.model, group, "out"):
        entries = units_first(place, range(group.width))
        lengths = entries.double().flatten(1).norm(dim=1)
        mean = lengths[living].mean() if living else torch.zeros(())
        for number, family in enumerate(mates):
            first, *_ = group.indices(family)
            factor = mean / lengths[first]
            if place.tensor.dim() == 1:  # a bias is scaled with the row that it belongs to
                factor = factors.get((place.layer, number), torch.ones(()))
            elif not (torch.isfinite(factor) and factor > 0):
                factor = torch.ones(())
            else:
                factors.setdefault((place.layer, number), factor)
            row = entries[first].double() * factor
            write_units(place, group.indices(family), row.expand(len(family), *row.shape))


def units_first(place: Placement, units: Sequence[int]) -> Tensor:
    """Return the entries of units, [units, positions, ...], as a copy."""
    where = place.positions[list(units)]
    along = place.tensor.detach().movedim(place.axis.dim, 0)
    entries: Tensor = along[where.to(place.tensor.device)]
    return entries


def write_units(place: Placement, units: Sequence[int], entries: Tensor) -> None:
    """Write the entries of units, [units, positions, ...], into the tensor."""
    where = place.positions[list(units)].flatten().to(place.tensor.device)
    flat = entries.flatten(0, 1).movedim(0, place.axis.dim)
    place.tensor.index_copy_(place.axis.dim, where, flat.to(place.tensor))


def _distinct(model: nn.Module, group: UnitGroup, role: str) -> list[Placement]:
    """Return the placements of a role; a tied tensor, which several layers use, comes once."""
    found: dict[tuple[int, int, bytes], Placement] = {}
    for place in placements(model, group):
        if place.axis.role == role:
            key = (id(place.tensor), place.axis.dim, place.positions.numpy().tobytes())
            found.setdefault(key, place)
    return list(found.values())


def _obstacle(model: nn.Module, group: UnitGroup) -> str:
    """Return the reason why fresh units of a group cannot start in pairs; empty if they can."""
    if group.residual:
        return (
            "its units pass norms over all channels, where fresh units have an initialisation of "
            "their own"
        )
    roles: dict[tuple[int, int], set[str]] = {}
    layers: dict[tuple[int, int], str] = {}
    for place in placements(model, group, ("out", "in")):
        key = (id(place.tensor), place.axis.dim)
        roles.setdefault(key, set()).add(place.axis.role)
        layers[key] = f"{place.layer}.{place.axis.tensor}"
    tied: Mapping[str, None] = {layers[k]: None for k, both in roles.items() if len(both) > 1}
    return "".join(
        f"{name!r} is tied, so that the same entries make its units and read them"
        for name in list(tied)[:1]
    )
