"""What a unit that is not there yet would gain: the gradient that its weights would get."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from growmas.errors import PlanError
from growmas.manager.allocation import unit_cost
from growmas.manager.checks import check_number, group_names
from growmas.manager.plans import cause_of
from growmas.manager.situation import Loss, Moment, Policy, Situation, data_of
from growmas.preserving import preserving
from growmas.structure import Plan, Structure, UnitGroup
from growmas.structure.initialisation.composition import (
    check_calls,
    composition_of,
    gradients,
    obstacle,
    pair_gradient,
    recorded,
)
from growmas.structure.units.placement import placements


@dataclass(frozen=True, eq=False)
class Gains:
    """What candidate units of one group would gain.

    Attributes:
        fresh: [r] squared gradient norms that the best fresh units would get, largest first.
        living: Mean of the same over the units that are there.
    """

    fresh: Tensor
    living: float


def candidate_gains(
    structure: Structure,
    batches: Iterable[Any],
    loss: Loss,
    *,
    groups: Iterable[UnitGroup] | None = None,
) -> dict[str, Gains]:
    """What fresh units could gain, group by group, from one backward pass a batch.

    With M = Σ δ xᵀ over the batches, x what the layer of a group reads and δ the gradient at what
    its readers give out, the outgoing weights of the j-th best fresh unit get a gradient of
    squared norm ℓ² σ_j², where σ_j are the singular values of M and ℓ is the mean length of the
    group's rows (GradMax, Evci et al. 2022; for a linear activation exactly, behind a ReLU about
    a quarter). It is compared with ‖∂L/∂W_u‖², mean over living units u.

    Args:
        structure: The network; bit-identical afterwards.
        batches: Data of the task.
        loss: (model, batch) -> scalar.
        groups: Those of interest; groups for which GradMax is not defined are left out.

    Raises:
        PlanError: The loss is no scalar, or its gradients are not finite; or there is no batch.
    """
    model = structure.model
    chosen = structure.groups.values() if groups is None else groups
    fitting = {g.name: g for g in chosen if not obstacle(model, g, "columns")}
    sites = {name: composition_of(model, group) for name, group in fitting.items()}
    matrices: dict[str, Tensor] = {}
    columns = {
        name: [place.tensor for place in placements(model, group, ["in"])]
        for name, group in fitting.items()
    }
    sums = {name: [torch.zeros_like(t) for t in tensors] for name, tensors in columns.items()}
    for batch in batches if sites else ():
        with preserving(model), torch.enable_grad():
            for parameter in model.parameters():
                parameter.requires_grad_(True)
            with recorded(sites.values()) as (seen, given):
                value = _scalar(loss(model, batch))
                check_calls(sites, seen, given)
            outputs = {layer: calls[0] for layer, calls in given.items()}
            flat = [tensor for tensors in columns.values() for tensor in tensors]
            found = gradients(value, [*outputs.values(), *flat])
        deltas = dict(zip(outputs, found, strict=False))
        rest = iter(found[len(outputs) :])
        for name, site in sites.items():
            sums[name] = [total + next(rest).detach() for total in sums[name]]
            x = seen[site.producer][0]
            parts = [pair_gradient(site.producer, x, c, deltas.get(c)) for c in site.consumers]
            matrices[name] = matrices.get(name, 0) + torch.cat(parts)
    if sites and not matrices:
        raise PlanError("GrowByGain: there is no batch to measure gradients on: give at least one")
    bad = [name for name, matrix in matrices.items() if not matrix.isfinite().all()]
    if bad:
        raise PlanError(
            f"GrowByGain: the loss's gradient at {', '.join(map(repr, bad))} is NaN or infinite; "
            "look at the batches and at the loss"
        )
    return {
        name: Gains(
            _row_length(structure, fitting[name]) ** 2 * torch.linalg.svdvals(matrix).square(),
            _living(structure, fitting[name], sums[name]),
        )
        for name, matrix in matrices.items()
    }


@dataclass(frozen=True)
class GrowByGain(Policy):
    """Fresh units where they would learn fastest, before a task is learnt.

    Candidate j of a group is worth having if its gain is at least `threshold` times that of the
    group's mean living unit (see `candidate_gains`). Of all such candidates those with the
    largest gain for their cost are taken first, up to `most`. Needs
    `begin_task(name, batches, loss=...)`.

    Attributes:
        threshold: > 0, in gains of a mean living unit.
        most: Most fresh units over all groups.
        per: What a gain is divided by before gains are compared: "parameters" or "flops" of one
            more unit of the group, or "units".
        protected: Groups that get none.
    """

    threshold: float = 0.25
    most: int = 64
    per: str = "parameters"
    protected: tuple[str, ...] = ()

    moments: ClassVar[tuple[Moment, ...]] = ("begin", "step")

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        object.__setattr__(self, "protected", group_names("protected", self.protected))
        check_number("threshold", self.threshold, "a number > 0", lambda x: x > 0)
        check_number("most", self.most, "a whole number >= 1", lambda n: n >= 1, whole=True)
        if self.per not in ("parameters", "flops", "units"):
            raise PlanError(f"per={self.per!r}: expected 'parameters', 'flops' or 'units'")

    def propose(self, situation: Situation) -> Plan:
        """The plan for the task about to begin.

        Raises:
            PlanError: There is no data or loss, or GradMax is defined for none of the groups.
        """
        if situation.first:
            return Plan()
        batches = data_of(situation, "GrowByGain", "measures gradients on the new task")
        if situation.loss is None:
            raise PlanError(
                "GrowByGain measures gradients of the new task's loss, but has none: give "
                "loss=function of (model, batch)"
            )
        structure, groups = situation.structure, tuple(situation.growable(self.protected))
        gains = candidate_gains(structure, batches, situation.loss, groups=groups)
        if groups and not gains:
            why = "; ".join(
                f"{g.name!r}: {obstacle(structure.model, g, 'columns')}" for g in groups
            )
            raise PlanError(f"GrowByGain: gains are not defined for any group ({why})")
        grow = _best(gains, {n: self._cost(structure, n) for n in gains}, self.threshold, self.most)
        least = {
            name: float(gains[name].fresh[count - 1]) / gains[name].living
            for name, count in grow.items()
        }
        said = ", ".join(
            f"{name} +{count} of {len(gains[name].fresh)} candidates, the last of gain "
            f"{least[name]:.3g}"
            for name, count in grow.items()
        )
        statistic = "gain of the last unit, over the group's mean living one"
        return Plan(
            grow=grow,
            reason=f"GrowByGain: gain at least {self.threshold:g}: {said}",
            cause=cause_of(self, statistic, value=least, threshold=self.threshold),
        )

    def _cost(self, structure: Structure, name: str) -> int:
        if self.per == "units":
            return 1
        return unit_cost(structure, structure.groups[name], self.per)


def _scalar(value: object) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        what = f"shape {list(value.shape)}" if isinstance(value, Tensor) else f"{value!r:.80}"
        raise PlanError(f"loss gave {what}: expected a scalar that gradients can be taken of")
    return value


def _best(
    gains: Mapping[str, Gains], costs: Mapping[str, int], threshold: float, most: int
) -> dict[str, int]:
    """The candidates above the threshold with the largest gain for their cost."""
    candidates = [
        (-float(gain) / costs[name], name)
        for name, found in gains.items()
        for gain in found.fresh
        if found.living > 0 and gain >= threshold * found.living
    ]
    taken = [name for _, name in sorted(candidates)[:most]]
    return {name: taken.count(name) for name in gains if name in taken}


def _row_length(structure: Structure, group: UnitGroup) -> float:
    """Mean norm of the rows that make the units."""
    producer = composition_of(structure.model, group).producer
    return float(producer.weight.detach().double().flatten(1).norm(dim=1).mean())


def _living(structure: Structure, group: UnitGroup, sums: list[Tensor]) -> float:
    """Mean squared norm of the gradient of the living units' outgoing weights."""
    total = torch.zeros(group.width, dtype=torch.float64)
    for place, gradient in zip(placements(structure.model, group, ["in"]), sums, strict=True):
        where = place.positions[:, 0].to(gradient.device)
        along = gradient.movedim(place.axis.dim, 0)[where].flatten(1)
        total += along.double().square().sum(1).cpu()
    return float(total.mean())
