"""GradMax: fresh units with the largest gradient (Evci et al., ICLR 2022, arXiv 2201.05125)."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from growmas.errors import PlanError, SurgeryError
from growmas.preserving import preserving
from growmas.structure.initialisation.composition import (
    check_calls,
    composition_of,
    gradients,
    obstacle,
    pair_gradient,
    recorded,
)
from growmas.structure.initialisation.newborns import Fill, Lineage, Newborns
from growmas.structure.units.placement import Placement, placements
from growmas.structure.units.plan import Plan
from growmas.structure.units.structure_like import StructureLike

Loss = Callable[[nn.Module, Any], Tensor]


class GradMax:
    """Initialise fresh units such that the gradient of their new weights is as large as possible.

    With x the input of the producer and δ the gradient at the output of the consumers, the
    gradient of a fresh unit depends on M = Σ δ xᵀ over the batches; for convolutions, on the
    gradient of the composed kernel. One side of a fresh unit is zero, which keeps the function;
    the other is a top singular vector of M, with the mean length of such vectors in the network.

    - `zero="columns"` (the default): the row of fresh unit j is ±v_j, the right singular vector;
      both signs are measured and the better one is taken. The gradient is maximal for a linear
      activation, and not zero for any activation.
    - `zero="rows"`, as in the paper: the column of fresh unit j is u_j, the left singular vector.
      The gradient is maximal, up to the factor f'(0), for every activation with f(0) = 0. But
      before a ReLU, whose slope at 0 is 0 in torch, such a unit would be dead for ever, so it is
      refused.

    A Linear may read the flattened feature maps of a Conv2d; pooling between them is taken for
    average pooling. Units beyond the rank of M start as with "zero_out"; biases start at zero. The
    gradient is that of the network in eval mode, after the rest of the plan.

    Example:
        >>> import torch, growmas
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
        >>> x, y = torch.rand(16, 4), torch.randint(2, (16,))
        >>> def loss(model, batch):
        ...     return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
        >>> structure = growmas.Structure(net, x)
        >>> _ = structure.apply(growmas.Plan(grow={"0": 2}), init=growmas.GradMax([(x, y)], loss))
    """

    def __init__(
        self, batches: Iterable[Any], loss: Loss, *, zero: Literal["columns", "rows"] = "columns"
    ) -> None:
        """Set the loss to be learnt.

        Args:
            batches: A few batches; they are kept.
            loss: (model, batch) -> scalar, as in training.
            zero: The side that starts at zero.

        Raises:
            PlanError: There is no batch, or `zero` is another word.
        """
        if zero not in ("columns", "rows"):
            raise PlanError(f"zero={zero!r}: expected 'columns' or 'rows'")
        self.batches = tuple(batches)
        if not self.batches:
            raise PlanError("GradMax needs at least one batch, got none")
        self.loss = loss
        self.zero = zero

    def prepare(self, structure: StructureLike, plan: Plan) -> Fill:
        """Refuse groups whose layers do not compose; the gradient is measured after the cut.

        Raises:
            PlanError: A group is not a Linear read by Linears, or a Conv2d read by Conv2ds and by
                Linears behind a flatten.
        """
        problems = []
        for name in plan.added:
            group = structure.groups[name]
            problem = obstacle(structure.model, group, self.zero)
            if not problem and len(plan.removed.get(name, ())) >= group.width:
                problem = "the plan removes all its units"
            problems += [f"{name!r}: {problem}"] if problem else []
        if problems:
            raise PlanError(
                "GradMax is not defined for " + "; ".join(problems) + "; use init='zero_out' there"
            )
        return self._fill

    def _fill(self, newborns: Newborns) -> Lineage:
        """Write the fresh entries.

        All columns of fresh units are still zero, so the new network has the gradients of the old.
        """
        counts = {}
        for name, matrix in self._matrices(newborns).items():
            left, values, right = torch.linalg.svd(matrix, full_matrices=False)
            rank = int((values > values[0] * 1e-7).sum())
            counts[name] = count = min(len(newborns.born[name]), rank)
            with torch.no_grad():
                if self.zero == "columns":
                    _write_rows(newborns, name, right[:count])
                else:
                    _write_columns(newborns, name, left[:, :count].T)
        if self.zero == "columns":
            self._choose_signs(newborns)
        else:
            self._check_alive(newborns, counts)
        return Lineage()

    def _matrices(self, newborns: Newborns) -> dict[str, Tensor]:
        """Return M of every group, [entries of all consumers' columns, entries of a row]."""
        model = newborns.model
        compositions = {
            name: composition_of(model, newborns.groups[name]) for name in newborns.born
        }
        found: dict[str, Tensor] = {}
        for batch in self.batches:
            with _measurable(model), recorded(compositions.values()) as (seen, given):
                loss = self.loss(model, batch)
                check_calls(compositions, seen, given)
                outputs = [calls[0] for calls in given.values()]
                deltas = dict(zip(given, gradients(loss, outputs), strict=True))
            for name, composition in compositions.items():
                x = seen[composition.producer][0]
                held = {
                    place.module: place.positions.shape[1]
                    for place in placements(model, newborns.groups[name], ["in"])
                }
                matrix = torch.cat(
                    [
                        pair_gradient(composition.producer, x, c, deltas.get(c), positions=held[c])
                        for c in composition.consumers
                    ]
                )
                found[name] = found[name] + matrix if name in found else matrix
        return {
            name: matrix * _old_entries(newborns, compositions[name].producer).to(matrix)
            for name, matrix in found.items()
        }

    def _gradient_norms(self, newborns: Newborns, name: str, role: Literal["in", "out"]) -> Tensor:
        """Return [k], the squared norm of the gradient of each fresh unit's columns or rows."""
        places = list(placements(newborns.model, newborns.groups[name], [role]))
        fresh = newborns.indices(name)
        tensors = [place.tensor for place in places]
        sums = [torch.zeros_like(tensor) for tensor in tensors]
        for batch in self.batches:
            with _measurable(newborns.model):
                parts = gradients(self.loss(newborns.model, batch), tensors)
            sums = [a + b for a, b in zip(sums, parts, strict=True)]
        total = torch.zeros(len(fresh), dtype=torch.float64)
        for place, gradient in zip(places, sums, strict=True):
            where = place.positions[fresh].to(gradient.device)
            along = gradient.movedim(place.axis.dim, 0)[where].reshape(len(fresh), -1)
            total += along.double().square().sum(1).cpu()
        return total

    def _choose_signs(self, newborns: Newborns) -> None:
        """Negate rows if that gives their columns a larger gradient; all are tried at once."""
        names = list(newborns.born)
        before = {name: self._gradient_norms(newborns, name, "in") for name in names}
        for name in names:
            _negate_rows(newborns, name, torch.ones_like(before[name], dtype=torch.bool))
        after = {name: self._gradient_norms(newborns, name, "in") for name in names}
        for name in names:
            _negate_rows(newborns, name, after[name] < before[name])

    def _check_alive(self, newborns: Newborns, counts: Mapping[str, int]) -> None:
        """Refuse fresh units whose rows get no gradient."""
        dead = [
            name
            for name, count in counts.items()
            if not bool(self._gradient_norms(newborns, name, "out")[:count].all())
        ]
        if dead:
            raise SurgeryError(
                f"GradMax(zero='rows'): fresh units of {', '.join(map(repr, dead))} would get no "
                "gradient, because the activation behind them has slope 0 at 0 (as ReLU has); "
                "use zero='columns'"
            )


def _old_entries(newborns: Newborns, producer: nn.Module) -> Tensor:
    """Return [entries of a row]: 0 where it would read fresh units of another group, else 1."""
    weight = producer.get_parameter("weight")
    mask = torch.ones(weight.shape[1:])
    for name in newborns.born:
        for place in placements(newborns.model, newborns.groups[name], ["in"]):
            if place.tensor is weight:
                where = place.positions[newborns.indices(name)].flatten()
                mask.index_fill_(place.axis.dim - 1, where, 0.0)
    return mask.flatten()


@contextmanager
def _measurable(model: nn.Module) -> Iterator[None]:
    """Set eval mode and a gradient for every parameter while the context lasts."""
    with preserving(model), torch.enable_grad():
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        yield


def _write_rows(newborns: Newborns, name: str, rows: Tensor) -> None:
    """Set the first fresh rows to `rows`, [n, entries], with the length of old ones; biases 0."""
    fresh = newborns.indices(name)
    for place in placements(newborns.model, newborns.groups[name], ["out"]):
        where = place.positions[fresh, 0].to(place.tensor.device)
        if place.axis.tensor == "weight":
            shaped = rows.view(len(rows), *place.tensor.shape[1:]) * _mean_length(place, len(fresh))
            place.tensor.index_copy_(0, where[: len(rows)], shaped.to(place.tensor))
        else:
            place.tensor.index_fill_(0, where, 0.0)


def _write_columns(newborns: Newborns, name: str, columns: Tensor) -> None:
    """Set the first fresh rows to 0 and their columns to `columns`, with the length of old ones."""
    group, fresh = newborns.groups[name], newborns.indices(name)
    for place in placements(newborns.model, group, ["out"]):
        where = place.positions[fresh, 0][: len(columns)].to(place.tensor.device)
        place.tensor.index_fill_(0, where, 0.0)
    places = list(placements(newborns.model, group, ["in"]))
    lengths = torch.stack([_mean_length(place, len(fresh)) for place in places])
    sizes = [place.tensor[:, 0].numel() * place.positions.shape[1] for place in places]
    for place, part in zip(places, torch.split(columns, sizes, dim=1), strict=True):
        held = place.positions.shape[1]
        where = place.positions[fresh][: len(part)].flatten().to(place.tensor.device)
        if place.tensor.dim() == 2:  # [units, outputs, positions]
            shaped = part.reshape(len(part), len(place.tensor), held)
            shaped = shaped.movedim(1, 0).flatten(1)
        else:
            shaped = part.reshape(len(part), len(place.tensor), *place.tensor.shape[2:])
            shaped = shaped.movedim(0, 1)
        place.tensor.index_copy_(1, where, (shaped * lengths.norm()).to(place.tensor))


def _mean_length(place: Placement, fresh: int) -> Tensor:
    """Return the mean norm of the old units' entries along the axis."""
    old = place.positions[:-fresh].to(place.tensor.device)
    along = place.tensor.detach().movedim(place.axis.dim, 0)[old]
    mean: Tensor = along.double().flatten(1).norm(dim=1).mean()
    return mean


def _negate_rows(newborns: Newborns, name: str, chosen: Tensor) -> None:
    fresh = [i for i, turn in zip(newborns.indices(name), chosen.tolist(), strict=True) if turn]
    with torch.no_grad():
        for place in placements(newborns.model, newborns.groups[name], ["out"]):
            where = place.positions[fresh, 0].to(place.tensor.device)
            negated = -place.tensor.index_select(place.axis.dim, where)
            place.tensor.index_copy_(place.axis.dim, where, negated)
