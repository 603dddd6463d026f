"""A network that can be looked at as units, and changed unit by unit."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from growmas.batches import Forward
from growmas.errors import PlanError
from growmas.structure.analysis.tracing import StructureForward, example_forward
from growmas.structure.analysis.wrappers import recompile_after_edit, unwrapped
from growmas.structure.followers.followers import as_followers, check_followers
from growmas.structure.initialisation.initialisation import Init
from growmas.structure.initialisation.newborns import Initialisation
from growmas.structure.inspection.dry_run import DryRun, Metrics, dry_run, outputs_on
from growmas.structure.queries import StructureFacts
from growmas.structure.reconstruction.statistics import ActivationStatistics
from growmas.structure.surgery.heads import Start, head_of, narrowed, plan_of, widen_head
from growmas.structure.surgery.memory_limit import check_room
from growmas.structure.surgery.state import check_is_state, resize, structure_state
from growmas.structure.surgery.tensor_swap import cut, reordering
from growmas.structure.surgery.transaction import Listener, Request, carry_out, tell
from growmas.structure.units.edit import Edit
from growmas.structure.units.groups import UnitGroup, restored_groups, task_index, younger_units
from growmas.structure.units.inventory import Inventory
from growmas.structure.units.plan import Plan
from growmas.structure.views.held import Views
from growmas.structure.views.overrides import overridden, unit_masks


class Structure(StructureFacts):
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
        super().__init__(unwrapped(model), example_inputs, forward or example_forward, ignore)
        self.generator = generator
        self._given = model
        self._listeners: list[Listener] = []
        self._begun: list[Callable[[str], None]] = []
        self._views = Views()

    def begin_task(self, name: str) -> int:
        """Units born from now on belong to task `name`; returns its index.

        Raises:
            PlanError: A task of that name was begun before, or it is no name.
            SurgeryError: A view is held.
        """
        self._views.check_none()
        if not isinstance(name, str) or not name:
            raise PlanError(f"task {name!r}: expected a name, such as 'digits 4/5'")
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

    @property
    def viewed(self) -> bool:
        """Whether a view is held, so that nothing may be changed."""
        return bool(self._views)

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
        self._views.check_none()
        request = Request(
            plan,
            (self._norms, *as_followers(followers)),  # first: a follower may look at a view
            init=init,
            calibrate=calibrate,
            calibrate_forward=calibrate_forward,
            reconstruct=reconstruct,
            reconstruct_forward=reconstruct_forward,
            generator=generator or self.generator,
            verify=verify,
        )
        self._check(plan)
        inventory, listeners = Inventory(self.model), tuple(self._listeners)
        with torch.inference_mode(False):  # parameters made inside could never be trained
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
        init: Init | Initialisation = "zero_out",
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
        return dry_run(self, plan, run, metrics or {}, reconstruct, options)

    def grow_head(
        self,
        layer: str,
        classes: int,
        *,
        followers: Iterable[object] = (),
        init: str = "zero",
        bias: float | None = None,
        generator: torch.Generator | None = None,
        verify: bool = True,
    ) -> Edit:
        """Give one shared head rows for new classes: all of it, or nothing.

        Unlike the units of a group, which no plan may add where they reach the output, the output
        becomes wider: old logits stay as they are, verified on the example inputs, and the new
        ones follow them. Views of earlier tasks give the logits of the classes of then alone;
        call it after `begin_task`, so that the classes belong to the new task.

        Args:
            layer: Qualified name of the head, a Linear or a convolution.
            classes: How many to add.
            followers: See `apply`.
            init: Fresh rows, bias included: "zero", so that new logits start at 0 whatever the
                input, and learn at once; or "uniform", the layer's own default, which is small.
            bias: The bias of fresh rows; None leaves it to `init`. A negative one keeps new
                classes from winning where all old logits are low, until they are learnt.
            generator: CPU generator for "uniform"; None takes the structure's.
            verify: See `apply`.

        Returns:
            The edit, in which no units are born: a class is no unit.

        Raises:
            PlanError: The layer is no head, or another argument does not fit.
            SurgeryError: A follower cannot follow, or the verification failed.
        """
        self._views.check_none()
        plan = plan_of(layer, classes)
        start = Start(init, bias, generator or self.generator)
        head = self._heads.get(layer) or head_of(self.model, layer, self._groups)
        check_room(self.model, {layer: head}, plan)
        followers = (self._norms, *as_followers(followers))
        check_followers(followers, self.model)
        inventory, listeners = Inventory(self.model), tuple(self._listeners)
        with torch.inference_mode(False):
            edit = widen_head(
                self,
                head,
                plan,
                start,
                inventory,
                outputs=self._outputs if verify else None,
                settle=self._settle_head,
                tell=lambda edit: tell(followers, listeners, edit, self.model),
            )
        recompile_after_edit(self._given, inventory)
        return edit

    def remember_norms(self, task: int | str | None = None, *, affine: bool = False) -> None:
        """Let a task's view have the running statistics that the norms have now.

        Call it when a task has been learnt; `StructuralManager.end_task` does. Otherwise what
        later tasks do to BatchNorm's running statistics shows in the views of earlier ones. What
        is remembered follows every edit by itself and is part of `state_dict`. Without norms that
        have running statistics there is nothing to remember, and nothing happens.

        Args:
            task: Index or name of a task; None takes the current one.
            affine: Remember the norms' weight and bias as well. They are then constants in the
                view: no gradient and no importance reaches those of the model.

        Raises:
            PlanError: No such task.
        """
        index = self.task if task is None else task_index(self._tasks, task)
        self._norms.remember(index, affine=affine)

    def forget_norms(self, task: int | str) -> None:
        """Let the norms in a task's view be those of today again.

        Raises:
            PlanError: No such task.
        """
        self._norms.forget(task_index(self._tasks, task))

    @contextmanager
    def view(self, task: int | str) -> Iterator[nn.Module]:
        """Answer as of a task: units born later are left out while the context lasts.

        Weights are as they are now, and pruned units stay gone. Norms have the running statistics
        that were remembered for the task (`remember_norms`), those of today where none were; in
        train mode they normalise by the batch, and their own statistics move, as without a view.
        A head that grew gives the logits of the classes of then.

        While the model runs, masked copies stand in for the weights that read younger units,
        through which gradients reach the parameters; between calls the parameters are in place.
        Without gradients a copy is made once and kept until the context ends or the parameter is
        changed in place (by an optimizer, or under `no_grad`; not through `.data`).

        Views nest: the network is then as of the earliest. The model itself is changed for the
        duration: threads may share one view, all of them with gradients or all without, and a
        second thread that asks for a view of its own is refused. A younger unit whose activation
        is NaN or infinite still shows, since 0 · NaN is NaN.

        Args:
            task: Index or name of a task.

        Raises:
            PlanError: No such task, or younger units that pass norms over all channels, which
                cannot be left out.
            SurgeryError: Another thread holds a view.
        """
        index = task_index(self._tasks, task)
        younger = younger_units(self._groups, index)
        with self._views.held(index):
            makers = {
                **unit_masks(self.model, self._groups.values(), younger),
                **narrowed(self._heads, index),
                **self._norms.overrides(index, lambda: self._views.earliest == index),
            }
            with overridden(self.model, makers):
                yield self.model

    def extract(self, task: int | str) -> nn.Module:
        """The network as of a task, as a plain, smaller copy of the model.

        It computes what `view(task)` computes; the model itself is not touched.

        Raises:
            PlanError: No such task, one in which a whole group was not born yet, or younger units
                that pass norms over all channels, which cannot be left out.
        """
        self._views.check_none()
        index = task_index(self._tasks, task)
        younger = younger_units(self._groups, index)
        plan = Plan(prune={name: sorted(ids) for name, ids in younger.items() if ids})
        plan.check(self._groups, self.fixed)
        model = copy.deepcopy(self.model)
        inventory = Inventory(model)
        everything = {**self._groups, **self._heads}
        classes = younger_units(self._heads, index)
        later = Plan(prune={name: sorted(ids) for name, ids in {**younger, **classes}.items()})
        new = reordering(inventory, everything, later, self.task)
        incision = cut(inventory, everything.values(), new.sources, None)
        self._norms.write(index, model, incision.changes)
        return model

    def state_dict(self) -> dict[str, Any]:
        """Tasks, groups, heads, ids, sizes and norms, as tensors and JSON values."""
        state = structure_state(self.model, self._tasks, self._groups, self._heads)
        return {**state, "view_norms": self._norms.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> dict[nn.Parameter, nn.Parameter]:
        """Give the model the widths, and the units the ids, that `state_dict` recorded.

        Every tensor of the groups' layers is replaced by a fresh one of the recorded shape: load
        the model's own state dict next.

        Returns:
            Old parameter -> the parameter in its place.

        Raises:
            SurgeryError: The groups, or the norms that are remembered, are not those of this model.
            PlanError: A head that grew is no head of this model.
        """
        self._views.check_none()
        check_is_state(state)
        groups = restored_groups(self._groups, state["groups"])
        first = {name: head_of(self.model, name, self._groups) for name in state.get("heads", {})}
        heads = restored_groups(first, state.get("heads", {}))
        tasks = list(state["tasks"])
        incision = resize(self.model, {**self._groups, **first}, state)
        self._norms.load_state_dict(state.get("view_norms", {}))
        self._groups, self._heads = groups, heads
        self._tasks = tasks
        return dict(incision.swapped.values())

    def _settle(self, groups: dict[str, UnitGroup]) -> None:
        self._groups = groups

    def _settle_head(self, layer: str, head: UnitGroup | None) -> None:
        kept = {name: known for name, known in self._heads.items() if name != layer}
        self._heads = kept if head is None else {**kept, layer: head}
