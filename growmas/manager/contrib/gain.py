"""Growth by gain: fresh units where their weights would get the largest gradients."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from growmas.errors import PlanError
from growmas.manager.allocation import unit_cost
from growmas.manager.checks import check_number, check_parts, check_word, group_names
from growmas.manager.plans import cause_of
from growmas.manager.policy import Policy
from growmas.manager.situation import Loss, Moment, Situation, data_of
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

Per = Literal["parameters", "flops", "units"]
"""The cost by which gains are divided before they are compared."""


@dataclass(frozen=True, eq=False)
class Gains:
    """The gains of candidate units of one group, and of its living ones.

    Attributes:
        fresh: [r] squared gradient norms that the best fresh units would get, largest first.
        living: Mean squared gradient norm of the living units.
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
    """Measure what fresh units of each group could gain, from one backward pass per batch.

    With M = Σ δ xᵀ over the batches, where x is the input of the group's layer and δ the gradient
    at the output of its consumers, the outgoing weights of the j-th best fresh unit get a gradient
    of squared norm ℓ² σ_j². σ_j are the singular values of M and ℓ is the mean norm of the group's
    rows (GradMax, Evci et al. 2022; exact for a linear activation, about a quarter of it behind a
    ReLU). It is compared with ‖∂L/∂W_u‖², mean over living units u.

    Args:
        structure: The network; bit-identical afterwards.
        batches: Data of the task.
        loss: (model, batch) -> scalar.
        groups: The groups to measure, None for all; groups for which GradMax is not defined are
            skipped.

    Raises:
        PlanError: The loss is not a scalar, its gradients are not finite, there is no batch, or
            `structure` is something else.
    """
    check_parts({"structure": (structure, Structure)})
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
    """Add fresh units where they would learn fastest, before a task.

    Candidate j of a group qualifies if its gain is at least `threshold` times that of the group's
    mean living unit (see `candidate_gains`). Of all candidates that qualify, those with the
    largest gain for their cost are taken first, up to `most`. Needs
    `begin_task(name, batches, loss=...)`.

    Attributes:
        threshold: Smallest gain, in gains of a mean living unit, > 0.
        most: Largest number of fresh units over all groups.
        per: The cost by which a gain is divided before gains are compared: "parameters" or
            "flops" of one more unit of the group, or "units".
        protected: Groups that get none.
    """

    threshold: float = 0.25
    most: int = 64
    per: Per = "parameters"
    protected: tuple[str, ...] = ()

    moments: ClassVar[tuple[Moment, ...]] = ("begin", "step")

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        object.__setattr__(self, "protected", group_names("protected", self.protected))
        check_number("threshold", self.threshold, "a number > 0", lambda x: x > 0)
        check_number("most", self.most, "a whole number >= 1", lambda n: n >= 1, whole=True)
        check_word("per", self.per, get_args(Per))

    def propose(self, situation: Situation) -> Plan:
        """Return the plan for the task that is about to begin.

        Raises:
            PlanError: No data or no loss was given, or GradMax is defined for none of the groups.
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
        parts = ", ".join(
            f"{name} +{count} of {len(gains[name].fresh)} candidates, the last of gain "
            f"{least[name]:.3g}"
            for name, count in grow.items()
        )
        statistic = "gain of the last unit, over the group's mean living one"
        return Plan(
            grow=grow,
            reason=f"GrowByGain: gain at least {self.threshold:g}: {parts}",
            cause=cause_of(self, statistic, value=least, threshold=self.threshold),
        )

    def _cost(self, structure: Structure, name: str) -> int:
        """Return the cost of one more unit of a group."""
        if self.per == "units":
            return 1
        return unit_cost(structure, structure.groups[name], self.per)


def _scalar(value: object) -> Tensor:
    """Return the loss, refused unless it is a scalar with a graph."""
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        what = f"shape {list(value.shape)}" if isinstance(value, Tensor) else f"{value!r:.80}"
        raise PlanError(
            f"loss returned {what}: expected a scalar tensor with a gradient, such as "
            "F.cross_entropy(model(x), y)"
        )
    return value


def _best(
    gains: Mapping[str, Gains], costs: Mapping[str, int], threshold: float, most: int
) -> dict[str, int]:
    """Return how many candidates of each group are taken; of equal gains by group name."""
    candidates = [
        (-float(gain) / costs[name], name)
        for name, found in gains.items()
        for gain in found.fresh
        if found.living > 0 and gain >= threshold * found.living
    ]
    taken = [name for _, name in sorted(candidates)[:most]]
    return {name: taken.count(name) for name in gains if name in taken}


def _row_length(structure: Structure, group: UnitGroup) -> float:
    """Return the mean norm of the rows that produce the units."""
    producer = composition_of(structure.model, group).producer
    return float(producer.weight.detach().double().flatten(1).norm(dim=1).mean())


def _living(structure: Structure, group: UnitGroup, sums: list[Tensor]) -> float:
    """Return the mean squared gradient norm of the living units' outgoing weights."""
    total = torch.zeros(group.width, dtype=torch.float64)
    for place, gradient in zip(placements(structure.model, group, ["in"]), sums, strict=True):
        where = place.positions[:, 0].to(gradient.device)
        along = gradient.movedim(place.axis.dim, 0)[where].flatten(1)
        total += along.double().square().sum(1).cpu()
    return float(total.mean())
