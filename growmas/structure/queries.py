"""Questions that a structure answers about its network, without changing it."""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from growmas.batches import Forward, float_tensors
from growmas.preserving import preserving
from growmas.structure.analysis.architecture import Architecture, operations_now
from growmas.structure.analysis.discovery import discover
from growmas.structure.analysis.idle_layers import TAKES_NO_PART
from growmas.structure.analysis.tracing import StructureForward
from growmas.structure.analysis.wrappers import uncompiled
from growmas.structure.inspection.explain import Cost, Explanation, cost_after, explain
from growmas.structure.inspection.flops import FlopCount, sample_flops
from growmas.structure.inspection.latency import check_repeats, latencies
from growmas.structure.inspection.saliency import (
    Criterion,
    Scale,
    Which,
    consumer_saliency,
    unit_saliency,
)
from growmas.structure.reconstruction.statistics import ActivationStatistics
from growmas.structure.selection.budget import Target
from growmas.structure.selection.options import Options as SelectionOptions
from growmas.structure.selection.selection import Selection
from growmas.structure.surgery.memory_limit import check_memory
from growmas.structure.units.groups import UnitGroup, with_shared_positions
from growmas.structure.units.layer_info import LayerInfo, layer_infos
from growmas.structure.units.plan import Plan, check_is_plan
from growmas.structure.views.task_norms import TaskNorms


class StructureQueries:
    """The units of a model, read-only; `StructureTasks` adds views and `Structure` surgery.

    Attributes:
        model: The network.
        example_inputs: Inputs on which every layer runs.
        fixed: Groups that cannot change, with the reason.
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any,
        forward: StructureForward,
        ignore: Iterable[str],
    ) -> None:
        """Find the units of `model`, with the arguments of `Structure`."""
        self.model = model
        self.example_inputs = example_inputs
        self._forward = forward
        with uncompiled(model):
            anatomy = discover(model, example_inputs, forward, ignore)
        self.fixed: Mapping[str, str] = MappingProxyType(anatomy.fixed)
        self._groups = {name: with_shared_positions(g) for name, g in anatomy.groups.items()}
        self._edges = anatomy.edges
        self._operations, self._flow = anatomy.operations, anatomy.flow
        self._counted: tuple[Mapping[str, UnitGroup], Mapping[str, int]] | None = None
        self._tasks: list[str] = []
        self._resumed: int | None = None
        self._heads: dict[str, UnitGroup] = {}
        self._norms = TaskNorms(model)

    def __repr__(self) -> str:
        size = f"{self.parameters:,} parameter{'' if self.parameters == 1 else 's'}"
        lines = [f"{type(self).__name__} of {type(self.model).__name__}, {size}"]
        names = max(map(len, self._groups), default=0)
        widths = [f"{group.width:,} {group.kind}" for group in self._groups.values()]
        column = max(map(len, widths), default=0)
        for group, width in zip(self._groups.values(), widths, strict=True):
            said = (
                f"{group.abilities}; refused: {group.refused}" if group.refused else group.abilities
            )
            lines.append(f"  {group.name:<{names}}  {width:<{column}}  {_short(said)}")
        lines += _fixed_lines(self.fixed)
        return "\n".join(lines)

    @property
    def groups(self) -> Mapping[str, UnitGroup]:
        """Group name -> group, for every group that can shrink or grow."""
        return MappingProxyType(self._groups)

    @property
    def heads(self) -> Mapping[str, UnitGroup]:
        """Layer name -> its classes with the task of their birth, for every head that has grown."""
        return MappingProxyType(self._heads)

    @property
    def norms(self) -> Mapping[str, tuple[str, ...]]:
        """Name of a task -> names of the tensors that are stored for its view."""
        names = self._tasks or ["0"]
        return {names[task]: tuple(kept) for task, kept in self._norms.tasks.items()}

    @property
    def kept_for_views(self) -> int:
        """Number of entries of the tensors that are stored for views."""
        return sum(t.numel() for kept in self._norms.tasks.values() for t in kept.values())

    @property
    def parameters(self) -> int:
        """Number of parameters of the model."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks begun so far."""
        return tuple(self._tasks)

    @property
    def task(self) -> int:
        """Index of the newest task, to which units born now belong; 0 before any was begun."""
        return max(0, len(self._tasks) - 1)

    @property
    def resumed(self) -> str | None:
        """Name of the task that is learnt again (`begin_task`); None while a new one is learnt."""
        return None if self._resumed is None else self._tasks[self._resumed]

    def layers(self) -> tuple[LayerInfo, ...]:
        """Return every layer with parameters, in the model's order, as it is now."""
        return layer_infos(self.model, self._groups)

    def edges(self) -> tuple[tuple[str, str], ...]:
        """Return the data flow from layer to layer, as pairs of qualified names."""
        return self._edges

    def architecture(self, *, count_flops: bool = True) -> Architecture:
        """Return layers and operations as they are now, and the data flow between them.

        Args:
            count_flops: False skips the forward pass that counts FLOPs after an edit; they are
                then None unless they were counted before.
        """
        known = self._counted is not None and self._counted[0] is self._groups
        if count_flops and not known:
            with uncompiled(self.model):
                self._counted = self._groups, self._count(self.model).layers
        flops = self._counted[1] if self._counted and (known or count_flops) else {}
        layers = tuple(
            dataclasses.replace(layer, flops=flops.get(layer.name)) for layer in self.layers()
        )
        operations = operations_now(self._operations, layers)
        return Architecture(layers, operations, self._flow, self.parameters, flops.get(""))

    def saliency(
        self,
        omega: Mapping[str, Tensor],
        *,
        criterion: Criterion = "penalty",
        which: Which = "out",
        normalize: Scale | None = None,
        across: bool = False,
    ) -> dict[str, Tensor]:
        """Return the importance of every unit: group name -> [U], in the order of `unit_ids`.

        The default is Σ Ω θ² over the weights that read the unit. `unit_saliency` documents the
        other criteria, weights and scales, and the errors.
        """
        return unit_saliency(
            self.model,
            self._groups,
            omega,
            criterion=criterion,
            which=which,
            normalize=normalize,
            across=across,
        )

    def consumers(self, omega: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return how much units matter to each layer: group name -> layer -> [U].

        The value is Σ Ω θ² over the layer's weights that read the unit; summed over the layers
        that read a group it is the group's `saliency`.

        Raises:
            PenaltyError: Ω does not fit the model, as for `unit_saliency`.
        """
        return consumer_saliency(self.model, self._groups, omega)

    def select(
        self,
        batches: Iterable[Any] | ActivationStatistics,
        *,
        ratio: float | Mapping[str, float] | None = None,
        widths: Mapping[str, int] | None = None,
        flops: float | None = None,
        parameters: float | None = None,
        groups: Iterable[str] | None = None,
        protected: Iterable[str] = (),
        keep: Mapping[str, Sequence[int]] | None = None,
        omega: Mapping[str, Tensor] | None = None,
        weight: float = 0.0,
        guard: float | None = None,
        round_to: int | Mapping[str, int] = 1,
        forward: Forward | None = None,
        reason: str = "",
    ) -> Plan:
        """Return a plan that removes the units that the layers that read them can do without.

        The choice is greedy, one unit after the other, by the error that the least squares
        prediction of what the readers gave would make, see `growmas.structure.selection`. Apply
        it with `reconstruct=batches`, which puts that prediction into the readers. The predicted
        relative errors are in `plan.cause["predicted_error"]`, group name -> layer -> error, and
        are shown by `explain` and `dry_run`; units are named in the order of their removal.

        Args:
            batches: Unlabelled data, or statistics; about 1,000 images suffice.
            ratio: Share of the units of every group to remove, rounded down; or by group name.
            widths: Numbers of units to leave, by group name; other groups lose none.
            flops: FLOPs to leave, a share as a float or a number of one sample's as an int. Every
                group loses the same share of its units.
            parameters: The same for parameters.
            groups: Names of the groups to choose from; None for all that shrink and whose readers
                can be refitted. `plan.cause["skipped"]` has the reasons of others.
            protected: Names of groups that lose none.
            keep: Ids of units that stay, by group name.
            omega: Importance by parameter name, such as `mas.omega`, for `weight` and `guard`.
            weight: What counts in the choice is error + weight · saliency / Σ saliency.
            guard: The fewest units that carry this share of a group's saliency stay, so that what
                an old task needs is not removed.
            round_to: The channels that stay are a multiple, for all groups or by name.
            forward: (model, batch) -> output, for batches of another kind.
            reason: Why, for the history.

        Raises:
            PlanError: None or several of the four targets, one that cannot be reached, or an
                option that does not fit.
            DataError: There is no data, or bad data, or all inputs of a layer are constant.
        """
        selection = Selection(
            self.model, self._groups, self.fixed, lambda: self._run(self.model), self.cost
        )
        options = SelectionOptions(
            groups=None if groups is None else _names(groups),
            protected=_names(protected),
            keep={} if keep is None else keep,
            saliency={} if omega is None else self.saliency(omega),
            weight=weight,
            guard=guard,
            round_to=round_to,
            forward=forward,
            reason=reason,
        )
        with uncompiled(self.model):
            return selection.plan(batches, Target(ratio, widths, flops, parameters), options)

    def plan(
        self,
        *,
        prune: Mapping[str, Sequence[int]] | None = None,
        grow: Mapping[str, int] | None = None,
        replace: Mapping[str, Sequence[int]] | None = None,
        reason: str = "",
        cause: Mapping[str, Any] | None = None,
        approximate: bool = False,
        round_to: int | Mapping[str, int] = 1,
    ) -> Plan:
        """Return a plan that `apply` refuses once the units of its groups have changed.

        Raises:
            PlanError: The plan does not fit the network; every problem is listed.
        """
        plan = Plan(
            prune or {},
            grow or {},
            replace or {},
            reason,
            cause=cause or {},
            approximate=approximate,
            round_to=round_to,
        )
        plan = self._check(plan)
        living = {name: self._groups[name].unit_ids for name in plan.groups}
        return dataclasses.replace(plan, fingerprint=living)

    def explain(self, plan: Plan, *, latency: int = 0) -> Explanation:
        """Return the change of widths, parameters and FLOPs by `plan`, which rich can print.

        Args:
            plan: The plan.
            latency: Number of forward passes of the example inputs to time, before and after the
                plan in turn, for the median of each; 0 measures none. 20 is a good number.

        Raises:
            PlanError: The plan does not fit the network; every problem is listed.
        """
        timed = self._timed(latency)
        plan = self._check(plan)
        return explain(self.model, self._count, self._groups, plan, timed)

    def cost(self, plan: Plan | None = None) -> Cost:
        """Return parameters, FLOPs and units of the network as it is, or as `plan` would leave it.

        FLOPs are those of one sample, see `Explanation`.

        Raises:
            PlanError: The plan does not fit the network; every problem is listed.
        """
        plan = Plan() if plan is None else plan
        plan = self._check(plan)
        return cost_after(self.model, self._count, self._groups, plan)

    def _check(self, plan: Plan) -> Plan:
        """Refuse a plan that does not fit; return it with widths rounded as it says."""
        check_is_plan(plan)
        plan.check(self._groups, self.fixed)
        plan = plan.rounded(self._groups)
        check_memory(self.model, self._groups, plan)
        return plan

    def _timed(self, repeats: int) -> Callable[[Sequence[nn.Module]], list[float]] | None:
        """Return a function that measures latencies, or None for no repeats."""
        check_repeats(repeats)
        return (lambda models: latencies(models, self._run, repeats)) if repeats else None

    def _count(self, model: nn.Module) -> FlopCount:
        return sample_flops(model, self.example_inputs, self._forward)

    def _run(self, model: nn.Module) -> Any:
        return self._forward(model, self.example_inputs)

    def _outputs(self) -> list[Tensor]:
        with preserving(self.model), uncompiled(self.model), torch.no_grad():
            return float_tensors(self._run(self.model))


def _fixed_lines(fixed: Mapping[str, str]) -> list[str]:
    """Return what to print of layers that cannot change: equal reasons once."""
    if not fixed:
        return []
    lines = [f"  and {len(fixed)} fixed; structure.fixed has the reasons"]
    counted = Counter(_without_names(reason) for reason in fixed.values())
    shown = [(reason, count) for reason, count in counted.most_common(_REASONS) if count > 1]
    lines += [f"    {count} layers: {_short(reason)}" for reason, count in shown]
    idle = [name for name, reason in fixed.items() if reason == TAKES_NO_PART]
    if len(idle) == 1:
        lines.append(f"    {idle[0]}: {_short(TAKES_NO_PART)}")
    return lines


def _without_names(reason: str) -> str:
    """Return a reason in which names and numbers are left out, so that equal ones are equal."""
    unquoted = re.sub(r"'[^']*'", "…", reason)
    return re.sub(r"\d[\d.e-]*", "…", re.sub(r"changing \S+", "changing …", unquoted))


def _short(text: str) -> str:
    return text if len(text) <= 90 else text[:89] + "…"


_REASONS = 5
"""Most reasons that the representation of a structure prints."""


def _names(given: Iterable[str] | str) -> tuple[str, ...]:
    """Return names as a tuple; a single one becomes a tuple of one."""
    return (given,) if isinstance(given, str) else tuple(given)
