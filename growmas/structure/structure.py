"""A network that can be looked at as units, and changed unit by unit."""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from growmas.errors import PlanError, SurgeryError
from growmas.importance.batches import Forward
from growmas.structure.architecture import Architecture, layer_flops, operations_now
from growmas.structure.discovery import discover
from growmas.structure.edit import Edit
from growmas.structure.environment import recompile_after_edit, uncompiled, unwrapped
from growmas.structure.explain import Cost, Explanation, cost_after, explain
from growmas.structure.groups import UnitGroup, restored_groups, younger_units
from growmas.structure.inventory import Inventory
from growmas.structure.layer_info import LayerInfo, layer_info
from growmas.structure.newborns import Initialisation
from growmas.structure.opaque import float_tensors
from growmas.structure.plan import Plan
from growmas.structure.rehearsal import DryRun, Metrics, outputs_on, rehearse
from growmas.structure.saliency import consumer_saliency, unit_saliency
from growmas.structure.state import resize, structure_state
from growmas.structure.statistics import ActivationStatistics
from growmas.structure.surgery import cut, reordering, silenced
from growmas.structure.tracing import StructureForward, example_forward
from growmas.structure.transaction import Listener, Request, carry_out
from growmas.traceless import traceless


class Structure:
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

    Attributes:
        model: The network.
        example_inputs: What edits are verified on.
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
    ) -> None:
        """Find the units of `model`; the model is left bit-identical.

        Args:
            model: The network; a `torch.compile`d one is operated on underneath, and compiled
                anew after every edit.
            example_inputs: A tensor, a tuple of positional or a dict of keyword arguments, on
                which every layer runs. A few real samples make the verification of edits sharp.
            forward: `forward(model, example_inputs) -> output`, for models that take more than
                one call to run every layer, the heads of all tasks above all.
            ignore: Qualified names of layers that need not run.
            generator: CPU generator for the initialisation of fresh units; None takes torch's.

        Raises:
            SurgeryError: The analysis fails, some layer does not run, or the model is wrapped
                (DistributedDataParallel) or parametrised (weight_norm).
        """
        self._given = model
        self.model = model = unwrapped(model)
        self.example_inputs = example_inputs
        self.generator = generator
        self._forward = forward or example_forward
        with uncompiled(model):
            anatomy = discover(model, example_inputs, self._forward, ignore)
        self.fixed: Mapping[str, str] = MappingProxyType(anatomy.fixed)
        self._groups = anatomy.groups
        self._edges = anatomy.edges
        self._operations, self._flow = anatomy.operations, anatomy.flow
        self._counted: tuple[Mapping[str, UnitGroup], dict[str, int]] | None = None
        self._tasks: list[str] = []
        self._listeners: list[Listener] = []
        self._begun: list[Callable[[str], None]] = []
        self._views = 0

    @property
    def groups(self) -> Mapping[str, UnitGroup]:
        """Group name -> group, for every group that can shrink or grow."""
        return MappingProxyType(self._groups)

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
        """Index of the current task; 0 before any was begun."""
        return max(0, len(self._tasks) - 1)

    def begin_task(self, name: str) -> int:
        """Units born from now on belong to task `name`; returns its index.

        Raises:
            PlanError: A task of that name was begun before.
        """
        if name in self._tasks:
            raise PlanError(f"task {name!r} was begun before; give every task a name of its own")
        self._tasks.append(name)
        try:
            for listener in self._begun:
                listener(name)
        except BaseException:
            self._tasks.pop()
            raise
        return self.task

    def layers(self) -> tuple[LayerInfo, ...]:
        """Every layer with parameters, in the model's order, as it is now."""
        owner = {
            m.layer: g.name for g in self._groups.values() for m in g.members if m.side == "out"
        }
        return tuple(
            layer_info(name, module, owner.get(name))
            for name, module in self.model.named_modules()
            if module._parameters
        )

    def edges(self) -> tuple[tuple[str, str], ...]:
        """Data flow from layer to layer, by qualified name."""
        return self._edges

    def architecture(self, *, count_flops: bool = True) -> Architecture:
        """Layers and operations as they are now, and the data flow between them.

        Args:
            count_flops: False spares the forward pass that counting FLOPs takes after an edit;
                they are then None where they are not known from before.
        """
        known = self._counted is not None and self._counted[0] is self._groups
        if count_flops and not known:
            with uncompiled(self.model):
                self._counted = self._groups, layer_flops(self.model, self._run)
        flops = self._counted[1] if self._counted and (known or count_flops) else {}
        layers = tuple(
            dataclasses.replace(layer, flops=flops.get(layer.name)) for layer in self.layers()
        )
        operations = operations_now(self._operations, layers)
        return Architecture(layers, operations, self._flow, self.parameters, flops.get(""))

    def subscribe(
        self, listener: Listener, *, begun: Callable[[str], None] | None = None
    ) -> Callable[[], None]:
        """Call `listener(edit)` as the last step of every edit; returns how to stop that.

        A listener that raises undoes the edit. One that writes down what happened can give a
        context manager back: it is entered when the listener is called, and left when all
        listeners have been, with the exception if one of them undid the edit; so a database and
        the network agree.

        Args:
            listener: Is told of edits.
            begun: Is told the name of every task that begins; if it raises, the task has not
                begun.
        """
        self._listeners.append(listener)
        if begun is not None:
            self._begun.append(begun)

        def stop() -> None:
            self._listeners.remove(listener)
            if begun is not None:
                self._begun.remove(begun)

        return stop

    def saliency(
        self,
        omega: Mapping[str, Tensor],
        *,
        criterion: str = "penalty",
        which: str = "out",
        normalize: str | None = None,
        across: bool = False,
    ) -> dict[str, Tensor]:
        """How much every unit matters: group name -> [U], in the order of `unit_ids`.

        By default Σ Ω θ² over the weights that read the unit; see `unit_saliency` for the other
        criteria, weights and scales, and for the errors.
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
        """Which layers a unit matters to: group name -> layer -> [U], Σ Ω θ² over its weights.

        The layers that read a group add up to its `saliency`.

        Raises:
            PenaltyError: See `unit_saliency`.
        """
        return consumer_saliency(self.model, self._groups, omega)

    def plan(
        self,
        *,
        prune: Mapping[str, Sequence[int]] | None = None,
        grow: Mapping[str, int] | None = None,
        replace: Mapping[str, Sequence[int]] | None = None,
        reason: str = "",
        cause: Mapping[str, Any] | None = None,
    ) -> Plan:
        """A plan that `apply` refuses once any unit of its groups has come or gone; see `Plan`.

        Raises:
            PlanError: The plan does not fit the network; every problem is listed.
        """
        plan = Plan(prune or {}, grow or {}, replace or {}, reason, cause=cause or {})
        plan.check(self._groups, self.fixed)
        living = {name: self._groups[name].unit_ids for name in plan.groups}
        return dataclasses.replace(plan, fingerprint=living)

    def explain(self, plan: Plan) -> Explanation:
        """What `plan` would do to widths, parameters and FLOPs; print it with rich.

        Raises:
            PlanError: The plan does not fit the network; every problem is listed.
        """
        plan.check(self._groups, self.fixed)
        return explain(self.model, self._run, self._groups, plan)

    def cost(self, plan: Plan | None = None) -> Cost:
        """Parameters, FLOPs and units of the network, or of what `plan` would make of it.

        Raises:
            PlanError: The plan does not fit the network; every problem is listed.
        """
        plan = plan or Plan()
        plan.check(self._groups, self.fixed)
        return cost_after(self.model, self._run, self._groups, plan)

    def apply(
        self,
        plan: Plan,
        *,
        followers: Iterable[object] = (),
        init: str | Initialisation = "zero_out",
        calibrate: Iterable[Any] | None = None,
        calibrate_forward: Forward | None = None,
        reconstruct: Iterable[Any] | ActivationStatistics | None = None,
        reconstruct_forward: Forward | None = None,
        generator: torch.Generator | None = None,
        verify: bool = True,
    ) -> Edit:
        """Carry out `plan`: all of it, or nothing.

        The new network is verified on the example inputs: growth must leave the output as it was,
        and pruning must equal the old network with the doomed units silenced. If it does not, or
        if anything else fails, model, optimizers and followers are exactly as before.

        Parameters that change shape are new objects (`edit.replaced` maps old to new); gradients
        follow. Entries that survive are bit-identical.

        Args:
            plan: What to remove and what to add.
            followers: Optimizers, `MAS` objects, copies of the model such as `AveragedModel`,
                and anything with a method `follow(edit)`; their state is re-indexed alike, with
                fresh entries as the optimizer itself would start them. Schedulers and
                `GradScaler`s may be among them.
            init: "zero_out": fresh rows random, the columns that read them zero; "split" or
                `Split(...)`: twins of living units; `GradMax(batches, loss)`: rows that give the
                columns most gradient; or an object with a method `prepare`.
            calibrate: Unlabelled batches from which fresh BatchNorm channels get their running
                statistics; twins keep their parents'.
            calibrate_forward: (model, batch) -> output, for batches of another kind.
            reconstruct: Unlabelled batches, which are gone through several times, or
                `ActivationStatistics`, which follow the edit by themselves: what removed units
                did is folded, once the edit is verified, into weights and biases of the layers
                that read them (see `growmas.structure.reconstruction`). Batches repair better.
            reconstruct_forward: (model, batch) -> output, for batches of another kind.
            generator: CPU generator for fresh rows; None takes the structure's.
            verify: False leaves out the check on the example inputs, which costs two forward
                passes; for edits of a kind that passed it before.

        Returns:
            The edit, which can re-index anything else: `edit.reindex(name, tensor)`.

        Raises:
            PlanError: The plan does not fit; every problem is listed.
            SurgeryError: A follower cannot follow, a parameter has hooks, a layer cannot be
                reconstructed, or the verification failed.
            DataError: Reconstruction has no data, or bad data.
        """
        self._check_no_view()
        request = Request(
            plan,
            tuple(followers),
            init=init,
            calibrate=calibrate,
            calibrate_forward=calibrate_forward,
            reconstruct=reconstruct,
            reconstruct_forward=reconstruct_forward,
            generator=generator or self.generator,
            verify=verify,
        )
        plan.check(self._groups, self.fixed)
        inventory, listeners = Inventory(self.model), tuple(self._listeners)
        edit = carry_out(self, request, inventory, self._outputs, self._settle, listeners)
        recompile_after_edit(self._given, inventory)
        return edit

    def dry_run(
        self,
        plan: Plan,
        *,
        batches: Iterable[Any] | None = None,
        forward: Forward | None = None,
        metrics: Metrics | None = None,
        reconstruct: Iterable[Any] | ActivationStatistics | None = None,
        init: str | Initialisation = "zero_out",
    ) -> DryRun:
        """What `apply(plan)` would do to outputs and metrics; everything is as before afterwards.

        The plan is carried out on the network itself, verified, measured, and rolled back.

        Args:
            plan: The plan.
            batches: Inputs whose outputs are compared; None takes the example inputs.
            forward: (model, batch) -> output, for batches of another kind, also those to
                reconstruct from.
            metrics: Name -> function of the model, such as the accuracy of one head; called with
                the model in eval mode.
            reconstruct: See `apply`; the plan is then tried with and without.
            init: See `apply`.

        Raises:
            GrowmasError: Whatever `apply` would raise.
        """
        run = self._outputs if batches is None else outputs_on(self.model, batches, forward)
        options = {"init": init, "reconstruct_forward": forward}
        return rehearse(self, plan, run, metrics or {}, reconstruct, options)

    @contextmanager
    def view(self, task: int | str) -> Iterator[nn.Module]:
        """Answer as of a task: units born later are left out while the context lasts.

        Only units are left out; weights are as they are now, and pruned units stay gone. While
        the model runs, consumers of younger units read masked copies of their weights, through
        which gradients reach the parameters; between calls the parameters are in place. Views
        nest, and then leave out what either leaves out. The model itself is changed for the
        duration, so two threads must not hold different views of one model. A younger unit whose
        activation is NaN or infinite still shows, since 0 · NaN is NaN.

        Args:
            task: Index or name of a task.

        Raises:
            PlanError: No such task, or younger units that pass norms over all channels, which
                cannot be left out.
        """
        younger = self._younger_than(task)
        self._views += 1
        try:
            with silenced(self.model, self._groups.values(), younger):
                yield self.model
        finally:
            self._views -= 1

    def _check_no_view(self) -> None:
        if self._views:
            raise SurgeryError("this cannot be done inside a view: leave it first")

    def extract(self, task: int | str) -> nn.Module:
        """The network as of a task, as a plain, smaller copy of the model.

        It computes what `view(task)` computes; the model itself is not touched.

        Raises:
            PlanError: No such task, one in which a whole group was not born yet, or younger units
                that pass norms over all channels, which cannot be left out.
        """
        self._check_no_view()
        younger = self._younger_than(task)
        plan = Plan(prune={name: sorted(ids) for name, ids in younger.items() if ids})
        plan.check(self._groups, self.fixed)
        model = copy.deepcopy(self.model)
        inventory = Inventory(model)
        new = reordering(inventory, self._groups, plan, self.task)
        cut(inventory, self._groups.values(), new.sources, None)
        return model

    def state_dict(self) -> dict[str, Any]:
        """Tasks, groups, ids and sizes, as tensors and JSON values."""
        return structure_state(self.model, self._tasks, self._groups)

    def load_state_dict(self, state: Mapping[str, Any]) -> dict[nn.Parameter, nn.Parameter]:
        """Give the model the widths, and the units the ids, that `state_dict` recorded.

        Every tensor of the groups' layers is replaced by a fresh one of the recorded shape: load
        the model's own state dict next.

        Returns:
            Old parameter -> the parameter in its place.

        Raises:
            SurgeryError: The groups are not those of this model.
        """
        self._check_no_view()
        groups = restored_groups(self._groups, state["groups"])
        tasks = list(state["tasks"])
        incision = resize(self.model, self._groups, state)
        self._groups = groups
        self._tasks = tasks
        return dict(incision.swapped.values())

    def _younger_than(self, task: int | str) -> dict[str, set[int]]:
        if isinstance(task, str):
            if task not in self._tasks:
                known = ", ".join(map(repr, self._tasks)) or "none was begun"
                raise PlanError(f"no task {task!r}; tasks begun: {known}")
            task = self._tasks.index(task)
        if type(task) is not int or not 0 <= task <= self.task:
            raise PlanError(f"no task {task}; the tasks begun so far are 0 to {self.task}")
        return younger_units(self._groups, task)

    def _settle(self, groups: dict[str, UnitGroup]) -> None:
        self._groups = groups

    def _run(self, model: nn.Module) -> Any:
        return self._forward(model, self.example_inputs)

    def _outputs(self) -> list[Tensor]:
        with traceless(self.model), uncompiled(self.model), torch.no_grad():
            return float_tensors(self._run(self.model))
