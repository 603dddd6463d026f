"""Selection: the units that the layers that read them can best do without, over all groups."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from growmas.errors import DataError, PlanError
from growmas.structure.inspection.explain import Cost
from growmas.structure.reconstruction.consumers import WIDE, Consumer, consumers_of
from growmas.structure.reconstruction.statistics import ActivationStatistics
from growmas.structure.selection.budget import (
    Share,
    Target,
    counts_by_ratio,
    counts_by_widths,
    fewest,
    ratio_steps,
)
from growmas.structure.selection.elimination import Elimination
from growmas.structure.selection.options import Options
from growmas.structure.selection.readings import Group, readings
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.plan import Plan, unknown_group
from growmas.structure.units.rounding import units_of


class Selection:
    """Chooses the units to remove from a network.

    Args:
        model: The network.
        groups: Its groups.
        fixed: Groups that cannot change, with the reason.
        run: Runs the network on example inputs.
        cost: Returns the cost that a plan would leave.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: Mapping[str, UnitGroup],
        fixed: Mapping[str, str],
        run: Callable[[], Any],
        cost: Callable[[Plan], Cost],
    ) -> None:
        self._model, self._groups, self._fixed = model, groups, fixed
        self._run, self._cost = run, cost

    def plan(
        self, source: Iterable[Any] | ActivationStatistics, target: Target, options: Options
    ) -> Plan:
        """Return the plan, with predicted errors in its cause.

        Raises:
            PlanError: The target cannot be reached, or an option does not fit.
            DataError: No data, bad data, or layers whose inputs are constant.
        """
        if source is None:
            raise DataError(
                "select needs unlabelled data: select(batches, ratio=0.5); without data, rank "
                "units by structure.saliency(omega)"
            )
        options.check(self._groups, self._fixed)
        readers, skipped = self._readers(source, target, options)
        groups = {name: self._groups[name] for name in readers}
        target.check(groups, lambda name: self._unknown(name, skipped))
        allowed = {name: self._allowed(group, options) for name, group in groups.items()}
        counts = self._counts(target, groups, allowed, options)
        skipped |= _too_coarse(groups, counts, options.round_to)
        chosen = [Group(groups[name], readers[name]) for name, count in counts.items() if count]
        removed, errors = {}, {}
        for group, found in readings(self._model, chosen, source, options.forward, self._run):
            name = group.units.name
            elimination = _elimination(group, found)
            extra = _extra(options, name)
            indices = []
            for _ in range(counts[name]):
                index = elimination.cheapest(allowed[name], extra)
                elimination.remove(index)
                allowed[name][index] = False
                indices.append(index)
            removed[name] = [group.units.unit_ids[index] for index in indices]
            errors[name] = dict(zip(found, elimination.errors, strict=True))
        return Plan(
            prune={name: removed[name] for name in counts if name in removed},
            reason=options.reason or _reason(removed, errors),
            cause=_cause(errors, skipped),
        )

    def _readers(
        self, source: Iterable[Any] | ActivationStatistics, target: Target, options: Options
    ) -> tuple[dict[str, Sequence[Consumer]], dict[str, str]]:
        """Return the groups to choose from with the layers that read them, and why not others."""
        wanted = list(self._groups if options.groups is None else options.groups)
        if options.groups is None and isinstance(target.widths, Mapping):
            wanted = [name for name in target.widths if name in self._groups]
        skipped = {n: self._groups[n].no_shrink for n in wanted if self._groups[n].no_shrink}
        wanted = [n for n in wanted if n not in skipped and n not in {*options.protected}]
        found = consumers_of(self._model, {name: self._groups[name] for name in wanted})
        unseen = source.skipped if isinstance(source, ActivationStatistics) else {}
        for name in wanted:
            reasons = (
                (c.layer, _reason_against(c, self._groups[name], unseen)) for c in found[name]
            )
            problems = [f"{layer!r} reads it: {reason}" for layer, reason in reasons if reason]
            if problems or not found[name]:
                skipped[name] = "; ".join(problems) or "no layer reads its units as a product"
        return {name: found[name] for name in wanted if name not in skipped}, skipped

    def _unknown(self, name: str, skipped: Mapping[str, str]) -> str:
        if name in skipped:
            return f"units of {name!r} cannot be chosen: {skipped[name]}"
        if name in self._groups:
            return f"group {name!r} is not among those to choose from (groups=, protected=)"
        return unknown_group(name, self._groups, self._fixed)

    def _allowed(self, group: UnitGroup, options: Options) -> Tensor:
        """Return [U] bool, the units that may go."""
        allowed = ~group.mask({*options.keep.get(group.name, ())})
        if options.guard is not None:
            allowed &= ~_guarded(options.saliency[group.name], options.guard)
        return allowed

    def _counts(
        self,
        target: Target,
        groups: Mapping[str, UnitGroup],
        allowed: Mapping[str, Tensor],
        options: Options,
    ) -> dict[str, int]:
        """Return how many units go from each group."""
        most = {name: int(allowed[name].sum()) for name in groups}

        def counts(ratio: Share) -> dict[str, int]:
            return counts_by_ratio(groups, ratio, most, options.round_to)

        if target.widths is not None:
            return counts_by_widths(groups, target.widths, most, options.round_to)
        if target.ratio is not None:
            return counts(target.ratio)
        name = "flops" if target.flops is not None else "parameters"
        wanted = getattr(target, name)

        def cost(plan: Plan) -> int:
            found = self._cost(plan)
            return found.counted_flops() if name == "flops" else found.parameters

        before = cost(Plan())
        limit = wanted * before if isinstance(wanted, float) else wanted

        def left(numbers: Mapping[str, int]) -> int:
            prune = {n: groups[n].unit_ids[:count] for n, count in numbers.items() if count}
            return cost(Plan(prune=prune))

        found = fewest(ratio_steps(groups), counts, lambda numbers: left(numbers) <= limit)
        if found is None:
            least = left(counts(1.0)) if groups else before
            raise PlanError(
                f"{name}={wanted!r}: {before:,} {name} cannot become fewer than {least:,} "
                f"({least / before:.3f} of them) by removing units; ask for more, or choose from "
                "more groups"
            )
        return found


def _reason_against(consumer: Consumer, group: UnitGroup, unseen: Mapping[str, str]) -> str:
    """Return why a consumer tells nothing about the units of a group; empty if it does."""
    if consumer.wide and group.width > WIDE:
        return f"it reads {group.width} units, more than {WIDE}; rank them by structure.saliency"
    return consumer.problem or unseen.get(consumer.layer, "")


def _too_coarse(
    groups: Mapping[str, UnitGroup],
    counts: Mapping[str, int],
    round_to: int | Mapping[str, int],
) -> dict[str, str]:
    """Return the groups that lose nothing because no smaller width is a multiple."""
    found = {}
    for name, group in groups.items():
        multiple = round_to.get(name, 1) if isinstance(round_to, Mapping) else round_to
        if counts.get(name) == 0 and group.width <= units_of(group, multiple) > 1:
            found[name] = (
                f"no multiple of round_to={multiple} is below its {group.width} {group.kind}"
            )
    return found


def _elimination(group: Group, found: Mapping[str, Any]) -> Elimination:
    layers = ", ".join(repr(consumer.layer) for consumer in group.consumers)
    name = group.units.name
    if not found:
        raise DataError(
            f"no sample reached {layers}, which read {name!r}: select needs at least one batch "
            "with one sample that goes through one of them"
        )
    elimination = Elimination(list(found.values()))
    if not elimination.informed:
        raise DataError(
            f"the input of {layers} is constant on these batches, so that nothing tells the units "
            f"of {name!r} apart: give more than one sample, and data on which they vary, or leave "
            f"the group out, protected=({name!r},)"
        )
    return elimination


def _guarded(saliency: Tensor, share: float) -> Tensor:
    """Return [U] bool, the fewest units that together have a share of the saliency."""
    values, order = saliency.double().cpu().sort(descending=True)
    before = values.cumsum(0) - values
    kept = torch.zeros(len(values), dtype=torch.bool)
    kept[order] = (before < share * values.sum()) & (values > 0)
    return kept


def _extra(options: Options, name: str) -> Tensor | None:
    """Return [U], what saliency adds to the costs."""
    if not options.weight:
        return None
    saliency = options.saliency[name].double().cpu()
    total = float(saliency.sum())
    return options.weight * saliency / total if total > 0 else None


def _reason(removed: Mapping[str, Sequence[int]], errors: Mapping[str, Mapping[str, float]]) -> str:
    worst = max((max(by.values()) for by in errors.values()), default=0.0)
    count = sum(map(len, removed.values()))
    return f"select: {count} units that readers miss least, predicted error up to {worst:.1%}"


def _cause(errors: Mapping[str, Mapping[str, float]], skipped: Mapping[str, str]) -> dict[str, Any]:
    return {
        "policy": "select",
        "statistic": "predicted relative error of the layers that read the units",
        "value": {name: max(by.values()) for name, by in errors.items()},
        "predicted_error": {name: dict(by) for name, by in errors.items()},
        **({"skipped": dict(skipped)} if skipped else {}),
    }
