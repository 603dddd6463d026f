"""Splitting: fresh units as twins of others (Net2Net, Chen et al., arXiv 1511.05641)."""

from collections.abc import Mapping, Sequence
from itertools import cycle, islice

import torch
from torch import Tensor, nn

from growmas.errors import PlanError, SurgeryError
from growmas.structure.initialisation.newborns import Fill, Lineage, Newborns
from growmas.structure.units.edit import AxisTransfer, transferred
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.placement import placements
from growmas.structure.units.plan import Plan
from growmas.structure.units.structure_like import StructureLike

Parents = Mapping[str, Mapping[int, int]]
"""Group name -> {new unit: the unit it is split from}."""


class SplitUnits:
    """Initialise fresh units as twins: the parent's rows, and an equal share of its columns.

    A parent with k twins keeps 1/(k+1) of its columns in every consumer, each twin gets the same,
    and norms are copied with their statistics, so the function stays. The importance in `MAS` is
    split alike: every twin has the parent's importance for its columns and 1/(k+1) of it for its
    rows, as a measurement would find. Parents are written to the history.

    Example:
        >>> import torch, growmas
        >>> from growmas.structure.initialisation.split import SplitUnits
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
        >>> structure = growmas.Structure(net, torch.rand(5, 4))
        >>> split = SplitUnits(parents={"0": [2, 2]})
        >>> structure.apply(growmas.Plan(grow={"0": 2}), init=split).parents
        {'0': {3: 2, 4: 2}}
    """

    def __init__(
        self,
        *,
        parents: Mapping[str, Sequence[int]] | None = None,
        saliency: Mapping[str, Tensor] | None = None,
        noise: float = 0.01,
    ) -> None:
        """Set which units to split.

        Args:
            parents: Group name -> one living unit for each fresh one; repeat a unit to split it
                more than once. In groups not named, the most salient units are split in turn.
            saliency: Group name -> [U], such as `structure.saliency(mas.omega)`. None takes the
                sum of squares of the weights that read a unit.
            noise: Size of the normal noise by which the columns of twins differ, relative to the
                parent's. Without it (0), equal twins would stay equal for ever. The noise sums to
                zero over the twins, so the function stays.
        """
        self.parents = dict(parents or {})
        self.saliency = saliency
        self.noise = noise

    def prepare(self, structure: StructureLike, plan: Plan) -> Fill:
        """Choose the parents.

        Raises:
            PlanError: A parent does not exist or is removed, or the numbers do not match.
        """
        problems = _parent_problems(self.parents, structure.groups, plan)
        problems += [
            f"{name!r} passes norms over all channels, where fresh units have an initialisation of "
            "their own: grow it in another plan, with init='zero_out'"
            for name in plan.added
            if structure.groups[name].residual
        ]
        if problems:
            raise PlanError("cannot split: " + "; ".join(problems))
        chosen = {
            name: tuple(self.parents.get(name) or self._most_salient(structure, plan, name))
            for name in plan.added
        }

        def fill(newborns: Newborns) -> Lineage:
            parents = {
                name: dict(zip(newborns.born[name], units, strict=True))
                for name, units in chosen.items()
            }
            transfers = twin_transfers(newborns.model, newborns.groups, parents)
            write_twins(newborns, transfers, self.noise)
            return Lineage(parents, transfers)

        return fill

    def _most_salient(self, structure: StructureLike, plan: Plan, name: str) -> list[int]:
        saliency = self.saliency
        if saliency is None:
            parameters = structure.model.named_parameters()
            saliency = structure.saliency({n: torch.ones_like(p) for n, p in parameters})
        group, removed = structure.groups[name], plan.removed.get(name, ())
        if name not in saliency or len(saliency[name]) != group.width:
            raise PlanError(
                f"cannot split: saliency of {name!r}: expected {group.width} numbers, "
                f"got {len(saliency[name]) if name in saliency else 'none'}"
            )
        order = saliency[name].argsort(descending=True, stable=True).tolist()
        units = [group.unit_ids[i] for i in order if group.unit_ids[i] not in removed]
        if not units:
            raise PlanError(f"cannot split: the plan removes all units of {name!r}")
        return list(islice(cycle(units), plan.added[name]))


def twin_transfers(
    model: nn.Module, groups: Mapping[str, UnitGroup], parents: Parents
) -> dict[str, tuple[AxisTransfer, ...]]:
    """Return the entries of parents and twins as transfers: tensor name -> transfers.

    Args:
        model: The network after the edit.
        groups: The groups after the edit.
        parents: Group name -> {new unit: the unit it is split from}.

    Raises:
        SurgeryError: The uses of a tied tensor would be split differently.
    """
    names = {
        id(tensor): name
        for named in (model.named_parameters(), model.named_buffers())
        for name, tensor in named
    }
    found: dict[str, dict[tuple[str, int], AxisTransfer]] = {}
    for group_name, by_unit in parents.items():
        group = groups[group_name]
        units = [*dict.fromkeys(by_unit.values()), *by_unit]
        origins = [by_unit.get(unit, unit) for unit in units]
        shares = torch.tensor([1 / origins.count(o) for o in origins], dtype=torch.float64)
        to, of = group.indices(units), group.indices(origins)
        for place in placements(model, group):
            share = shares.repeat_interleave(place.positions.shape[1])
            one = torch.ones_like(share)
            value, importance = (share, one) if place.axis.role == "in" else (one, share)
            transfer = AxisTransfer(
                place.axis.dim,
                place.positions[to].flatten(),
                place.positions[of].flatten(),
                value,
                importance,
            )
            name = names[id(place.tensor)]
            known = found.setdefault(name, {}).setdefault((group_name, transfer.dim), transfer)
            if not (torch.equal(known.to, transfer.to) and torch.equal(known.value, value)):
                raise SurgeryError(f"{name!r} is tied, and its uses would be split differently")
    return {name: tuple(transfers.values()) for name, transfers in found.items()}


def write_twins(
    newborns: Newborns, transfers: Mapping[str, tuple[AxisTransfer, ...]], noise: float
) -> None:
    """Write the entries of parents and twins into the network's tensors."""
    model = newborns.model
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for name, along in transfers.items():
            tensors[name].copy_(transferred(tensors[name], along, "value"))
        for name, along in transfers.items():
            for transfer in along if noise else ():
                if bool((transfer.value != 1).any()):
                    _add_noise(tensors[name], transfer, noise, newborns.generator)


def _add_noise(
    tensor: Tensor, transfer: AxisTransfer, noise: float, generator: torch.Generator | None
) -> None:
    """Add noise to the columns of twins; it sums to zero over each parent and its twins."""
    to, of = transfer.to.to(tensor.device), transfer.of.to(tensor.device)
    columns = tensor.index_select(transfer.dim, to).movedim(transfer.dim, 0)
    drawn = torch.randn(columns.shape, generator=generator, dtype=torch.float64)
    drawn *= noise * columns.double().square().mean().sqrt().cpu()
    _, family, sizes = torch.unique(of.cpu(), return_inverse=True, return_counts=True)
    sums = torch.zeros(len(sizes), *drawn.shape[1:], dtype=drawn.dtype)
    sums.index_add_(0, family, drawn)
    means = sums / sizes.view(-1, *[1] * (drawn.dim() - 1))
    columns = columns + (drawn - means[family]).to(columns)
    tensor.index_copy_(transfer.dim, to, columns.movedim(0, transfer.dim))


def _parent_problems(
    parents: Mapping[str, Sequence[int]], groups: Mapping[str, UnitGroup], plan: Plan
) -> list[str]:
    problems = []
    for name, units in parents.items():
        count = plan.added.get(name, 0)
        if len(units) != count:
            problems.append(f"{name!r} grows by {count} units but has {len(units)} parents")
        living = groups[name].unit_ids if name in groups else ()
        removed = plan.removed.get(name, ())
        for unit in dict.fromkeys(units):
            if unit not in living:
                problems.append(f"{name!r} has no unit {unit!r}")
            elif unit in removed:
                problems.append(f"unit {unit} of {name!r} is removed by the same plan")
    return problems


Split = SplitUnits
"""The former name of `SplitUnits`; `growmas.data.Split` is a part of a data set."""
