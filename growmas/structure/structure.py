"""The units of a network, and the edits that add and remove them."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import nn

from growmas.batches import Forward, example_forward
from growmas.structure.analysis.leaf_modules import StructureForward
from growmas.structure.analysis.wrappers import recompile_after_edit, unwrap_model
from growmas.structure.followers.followers import as_followers, check_followers
from growmas.structure.followers.stale import note_replaced
from growmas.structure.initialisation.initialisation import Init
from growmas.structure.initialisation.newborns import Initialisation
from growmas.structure.inspection.check import refusals
from growmas.structure.inspection.dry_run import DryRun, Metrics, dry_run, outputs_on
from growmas.structure.reconstruction.statistics import ActivationStatistics
from growmas.structure.surgery.heads import HeadStart, head_of, plan_of, widen_head
from growmas.structure.surgery.memory_limit import check_memory
from growmas.structure.surgery.renewals import Renewing
from growmas.structure.surgery.transaction import Settle, Site
from growmas.structure.surgery.unit_edit import Options, edit_units
from growmas.structure.surgery.verification import RefusedError
from growmas.structure.tasks import StructureTasks
from growmas.structure.units.edit import Edit
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.inventory import Inventory
from growmas.structure.units.plan import Plan


class Structure(StructureTasks):
    """The units of a model, and the surgery on them.

    The model is changed in place and stays the user's own: unmodified modules, with tensors of
    other shapes. Units are numbered at birth and never renumbered.

    Example:
        >>> import torch, growmas
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> structure = growmas.Structure(net, torch.zeros(1, 4))
        >>> edit = structure.apply(growmas.Plan(prune={"0": [3, 5]}, grow={"0": 4}))
        >>> structure.groups["0"].unit_ids
        (0, 1, 2, 4, 6, 7, 8, 9, 10, 11)
        >>> net[0].out_features
        10
        >>> structure
        Structure of Sequential, 72 parameters
          0  10 neurons  shrinks and grows
          and 1 fixed; structure.fixed has the reasons

    Attributes:
        model: The network.
        example_inputs: Inputs on which edits are verified.
        fixed: Groups that cannot change, with the reason.
        generator: Randomness of fresh units.
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any,
        *,
        forward: StructureForward | None = None,
        ignore: Iterable[str] = (),
        generator: torch.Generator | None = None,
        check: bool = False,
    ) -> None:
        """Find the units of `model`, which is left bit-identical.

        Args:
            model: The network. Of a `torch.compile`d one the original is changed, and compiled
                again after every edit.
            example_inputs: A tensor, a tuple of positional or a dict of keyword arguments, on
                which every layer runs. A few real samples make the verification of edits sharp.
            forward: `forward(model, example_inputs) -> output`, for models that need more than
                one call to run every layer, such as the heads of all tasks.
            ignore: Qualified names of layers that need not run, although others of the same list,
                or layers with the same tensors, do. Other layers that do not run are only noted in
                `fixed`.
            generator: CPU generator for the initialisation of fresh units; None takes torch's.
            check: True tries every ability of every group once, see `check`: what is then listed
                as growing grows.

        Raises:
            SurgeryError: The forward pass or the analysis fails, a head does not run, or the model
                is wrapped (DistributedDataParallel).
        """
        super().__init__(unwrap_model(model), example_inputs, forward or example_forward, ignore)
        self.generator = generator
        self._given = model
        if check:
            self.check()

    def apply(
        self,
        plan: Plan,
        *,
        followers: Iterable[object] = (),
        init: Init | Initialisation = "zero_out",
        calibrate: Iterable[Any] | None = None,
        calibrate_forward: Forward | None = None,
        reconstruct: Iterable[Any] | ActivationStatistics | None = None,
        reconstruct_forward: Forward | None = None,
        generator: torch.Generator | None = None,
        verify: bool = True,
    ) -> Edit:
        """Carry out `plan`: all of it, or nothing.

        The new network is verified on the example inputs: growth must leave the output as it was,
        and pruning must equal the old network with the removed units masked. If it does not, or
        if anything else fails, model, optimizers and followers are exactly as before.

        Parameters that change shape are new objects (`edit.replaced` maps old to new); gradients
        follow. Entries that survive are bit-identical.

        Args:
            plan: The units to remove and to add.
            followers: Optimizers, `MAS` objects, copies of the model such as `AveragedModel`,
                and anything with a method `follow(edit)`; their state is re-indexed too, with
                fresh entries as the optimizer itself would start them. Schedulers and
                `GradScaler`s may be among them.
            init: "zero_out": fresh rows random, the columns that read them zero; "paired" or
                `Paired()`: fresh units in twos whose columns cancel, so that both sides learn at
                once; "split" or `SplitUnits(...)`: twins of living units; `GradMax(batches,
                loss)`: rows that give the columns most gradient; an object with a method
                `prepare`; or a dict of these by group.
            calibrate: Unlabelled batches from which fresh BatchNorm channels get their running
                statistics; twins keep their parents'.
            calibrate_forward: (model, batch) -> output, for batches of another kind.
            reconstruct: Unlabelled batches, which are read several times, or
                `ActivationStatistics`, which follow the edit by themselves: what removed units
                did is folded, once the edit is verified, into weights and biases of the layers
                that read them (see `growmas.structure.reconstruction`). Batches repair better.
            reconstruct_forward: (model, batch) -> output, for batches of another kind.
            generator: CPU generator for fresh rows; None takes the structure's.
            verify: False skips the check on the example inputs, which costs two forward passes;
                for edits of a kind that passed it before.

        Returns:
            The edit, which can re-index anything else: `edit.reindex(name, tensor)`.

        Raises:
            PlanError: The plan does not fit; every problem is listed.
            SurgeryError: A follower cannot follow, a parameter has hooks, a layer cannot be
                reconstructed, or the verification failed.
            DataError: Reconstruction has no data, or bad data.
        """
        options = Options(
            init=init,
            calibrate=calibrate,
            calibrate_forward=calibrate_forward,
            reconstruct=reconstruct,
            reconstruct_forward=reconstruct_forward,
            generator=generator or self.generator,
        )
        with self._views.changing:
            self._views.check_none()
            plan = self._check(plan)
            try:
                return self._operate(
                    lambda site: edit_units(self, plan, options, site),
                    followers,
                    groups=self._groups,
                    changed=plan.groups,
                    settle=self._settle,
                    verify=verify,
                )
            except RefusedError as error:
                self._note_refusal(plan, error)
                raise

    def renew(
        self,
        units: Mapping[str, Sequence[int]],
        *,
        followers: Iterable[object] = (),
        reason: str = "",
        cause: Mapping[str, Any] | None = None,
        paired: bool = True,
        generator: torch.Generator | None = None,
    ) -> Edit:
        """Replace units in place by fresh ones: the cheap edit at constant width.

        Parameters stay the same objects. Rows and columns are drawn from the layers' default, in
        families of mates. Columns are as large as living ones, rows have the geometric mean of the
        default length and the living one. Optimizer state is that of new entries (pass a `Warmup`
        for Adam, too).
        The first renewal of a group is verified on the example inputs. Listeners, and so the
        history, hear of renewals in batches: at the next other edit, task or snapshot.

        Args:
            units: Group name -> ids of the units to replace.
            followers: As for `apply`.
            reason: A few words, for the history; `cause` is for programs, see `Plan`.
            cause: JSON values by name.
            paired: False gives every fresh unit columns of zero, and rows of the default length.
            generator: CPU generator; None takes the structure's.

        Raises:
            PlanError: A unit does not exist, or a group cannot be renewed.
            SurgeryError: A follower cannot follow, a view is held, or the verification failed.
        """
        plan = Plan(replace=units, reason=reason, cause=cause or {})
        with self._views.changing:
            self._views.check_none()
            plan.check(self._groups, self.fixed)
            if self._renewals.must_tell(plan):
                self.tell()
            everyone = (self._norms, *as_followers(followers))
            followers = everyone if self._norms.tasks else everyone[1:]
            look = (self.model, self._groups, self.task, self._outputs, self._settle)
            at = Renewing(*look, followers, generator or self.generator, paired)
            with torch.inference_mode(False):
                return self._renewals.renew(at, plan)

    def check(self) -> Mapping[str, str]:
        """Try every ability of every group once, and move what fails to `fixed`.

        The network is as before afterwards. Groups are tried in parts, such that for any two of
        them one part has the first and not the second: growing and shrinking 70 groups takes 8
        trials each, of two forward passes, and some more for each surprise.

        Returns:
            Group name -> why it cannot grow or shrink, of what failed.
        """
        self._views.check_none()
        found = refusals(self)
        fixed = dict(self.fixed)
        for name in {**found.growing, **found.shrinking, **found.approximating}:
            group = self._groups[name]
            changed = dataclasses.replace(
                group,
                no_grow=found.growing.get(name, group.no_grow),
                no_shrink=found.shrinking.get(name, group.no_shrink),
                approximate=group.approximate and name not in found.approximating,
            )
            self._groups = {**self._groups, name: changed}
            if not (changed.can_grow or changed.can_shrink or changed.approximate):
                del self._groups[name]
                why = found.approximating.get(name, changed.no_grow)
                fixed |= {layer: why for layer in group.layers if layer not in fixed}
                fixed[name] = why
        held = {layer for group in self._groups.values() for layer in group.layers}
        self.fixed = MappingProxyType(
            {
                name: reason
                for name, reason in fixed.items()
                if name in self.fixed or name not in held
            }
        )
        return {**found.approximating, **found.shrinking, **found.growing}

    def _note_refusal(self, plan: Plan, error: RefusedError) -> None:
        """Let a group that alone was refused say so."""
        if len(plan.groups) == 1:
            (name,) = plan.groups
            group = dataclasses.replace(self._groups[name], refused=str(error))
            self._groups = {**self._groups, name: group}

    def dry_run(
        self,
        plan: Plan,
        *,
        batches: Iterable[Any] | None = None,
        forward: Forward | None = None,
        metrics: Metrics | None = None,
        reconstruct: Iterable[Any] | ActivationStatistics | None = None,
        init: Init | Initialisation = "zero_out",
        latency: int = 0,
    ) -> DryRun:
        """Measure what `apply(plan)` would do to outputs and metrics, and change nothing.

        The plan is carried out on the network itself, verified, measured, and rolled back.

        Args:
            plan: The plan.
            batches: Inputs whose outputs are compared; None takes the example inputs.
            forward: (model, batch) -> output, for batches of another kind, also those to
                reconstruct from.
            metrics: Name -> function of the model, such as the accuracy of one head; called with
                the model in eval mode.
            reconstruct: Batches or statistics as for `apply`; the plan is then tried with and
                without.
            init: The start of fresh units, as for `apply`.
            latency: Number of forward passes of the example inputs to time, for the median; 0
                measures none.

        Raises:
            GrowmasError: The plan, or an argument, is one that `apply` would refuse.
        """
        run = self._outputs if batches is None else outputs_on(self.model, batches, forward)
        options = {"init": init, "reconstruct_forward": forward}
        timed = self._timed(latency)
        return dry_run(
            self,
            plan,
            run,
            metrics or {},
            reconstruct,
            options,
            (lambda model: timed([model])[0]) if timed else None,
        )

    def grow_head(
        self,
        layer: str,
        classes: int,
        *,
        followers: Iterable[object] = (),
        init: Literal["zero", "uniform"] = "zero",
        bias: float | None = None,
        generator: torch.Generator | None = None,
        verify: bool = True,
    ) -> Edit:
        """Add rows for new classes to a head that all tasks share: all of them, or nothing.

        A plan cannot add units that reach the output. Here the output becomes wider: old logits
        stay as they are, verified on the example inputs, and the new ones follow them. Views of
        earlier tasks return only the logits of the classes of their time; call it after
        `begin_task`, so that the classes belong to the new task.

        Args:
            layer: Qualified name of the head, a Linear or a convolution.
            classes: How many to add.
            followers: As for `apply`.
            init: Fresh rows, bias included: "zero", so that new logits start at 0 whatever the
                input, and learn at once; or "uniform", the layer's own default, which is small.
            bias: The bias of fresh rows; None leaves it to `init`. A negative one keeps new
                classes from winning where all old logits are low, until they are learnt.
            generator: CPU generator for "uniform"; None takes the structure's.
            verify: False skips the check on the example inputs.

        Returns:
            The edit, in which no units are born: a class is not a unit.

        Raises:
            PlanError: The layer is not a head, or another argument does not fit.
            SurgeryError: A follower cannot follow, or the verification failed.
        """
        with self._views.changing:
            self._views.check_none()
            plan = plan_of(layer, classes)
            start = HeadStart(init, bias, generator or self.generator)
            head = self._heads.get(layer) or head_of(self.model, layer, self._groups)
            check_memory(self.model, {layer: head}, plan)
            return self._operate(
                lambda site: widen_head(head, plan, start, site),
                followers,
                groups={**self._heads, layer: head},
                changed=[layer],
                settle=self._settle_heads,
                verify=verify,
            )

    def _operate(
        self,
        edit: Callable[[Site], Edit],
        followers: Iterable[object],
        *,
        groups: Mapping[str, UnitGroup],
        changed: Iterable[str],
        settle: Settle,
        verify: bool,
    ) -> Edit:
        """Check the followers, run an edit, and let compiled code be compiled again."""
        self.tell()
        everyone = (self._norms, *as_followers(followers))  # first: a follower may look at a view
        check_followers(everyone, self.model)
        site = Site(
            model=self.model,
            inventory=Inventory(self.model, {x for n in changed for x in groups[n].layers}),
            groups=groups,
            task=self.task,
            outputs=self._outputs if verify else None,
            settle=settle,
            followers=everyone,
            listeners=tuple(self._listeners),
        )
        with torch.inference_mode(False):  # parameters made inside could never be trained
            made = edit(site)
        recompile_after_edit(self._given, site.inventory)
        note_replaced(made.swapped)
        return made

    def _settle(self, groups: dict[str, UnitGroup]) -> Callable[[], None]:
        before, self._groups = self._groups, groups
        return lambda: setattr(self, "_groups", before)

    def _settle_heads(self, heads: dict[str, UnitGroup]) -> Callable[[], None]:
        before, self._heads = self._heads, heads
        return lambda: setattr(self, "_heads", before)
