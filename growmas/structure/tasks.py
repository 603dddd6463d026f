"""The tasks of a structure, and the network as of each of them."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from growmas.errors import PlanError, SurgeryError
from growmas.rollback import restored_on_error
from growmas.structure.layers.gains import fold_gains
from growmas.structure.queries import StructureQueries
from growmas.structure.surgery.heads import head_of, narrowed
from growmas.structure.surgery.renewal import Entries, renewal_obstacle
from growmas.structure.surgery.renewals import Renewals
from growmas.structure.surgery.row_lengths import keep_weights
from growmas.structure.surgery.state import check_is_state, resize, structure_state
from growmas.structure.surgery.tensor_swap import reordering, swap_tensors
from growmas.structure.surgery.transaction import Listener
from growmas.structure.units.duplicate import duplicate
from growmas.structure.units.groups import restored_groups, task_index, younger_units
from growmas.structure.units.inventory import Inventory
from growmas.structure.units.plan import Plan
from growmas.structure.views.held import Views
from growmas.structure.views.overrides import overridden, unit_masks
from growmas.structure.views.unit_constants import UnitConstant, check_constants, constants_of
from growmas.suggestion import suggestion


class StructureTasks(StructureQueries):
    """Tasks, views, and the state for a checkpoint; `Structure` adds the edits."""

    def __init__(self, *args: Any) -> None:
        """Find the units of a model; see `Structure`."""
        super().__init__(*args)
        self._views = Views()
        self._listeners: list[Listener] = []
        self._begun: list[Callable[[str], None]] = []
        self._renewals = Renewals()

    def begin_task(self, name: str) -> int:
        """Begin task `name`, to which units born from now on belong; return its index.

        A task of an earlier name is resumed: it is learnt again under its name and index. Tasks and
        units stay as they are, and units born meanwhile belong to the newest task. The norms, gains
        and biases that were stored for its view are put back into the model, which its view then
        reads, until `remember_norms` stores them again; those of the task that is left are stored,
        unless they have been.

        Units born after a resumed task learn on its data too, unless it is learnt within its view.
        The view leaves them out all the same, so what they learn does not show in its answers:
        train with ``structure.view(name)`` around the forward pass, as `TaskFreeLearner` does.

        Raises:
            PlanError: The name is not a text.
            SurgeryError: A view is held.
        """
        self._views.check_none()
        self.tell()
        if not isinstance(name, str) or not name or not _encodes(name):
            raise PlanError(f"task {name!r}: expected a name, such as 'digits 4/5'")
        before, left = (self._tasks, self._resumed), self._learnt
        known = name in self._tasks
        self._resumed = self._tasks.index(name) if known else None
        self._tasks = self._tasks if known else [*self._tasks, name]
        try:
            for listener in self._begun:
                listener(name)
        except BaseException:
            self._tasks, self._resumed = before
            raise
        if left != self._learnt and (known or before[1] is not None):
            self._norms.leave(left)
        if known:
            self._norms.resume(self._learnt)
        return self._learnt

    @property
    def _learnt(self) -> int:
        """Index of the task that is being learnt: the newest, or the one that was resumed."""
        return self.task if self._resumed is None else self._resumed

    @property
    def viewed(self) -> bool:
        """True while a view is held, during which nothing may be changed."""
        return bool(self._views)

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """Functions that are called with every edit, see `subscribe`."""
        return tuple(self._listeners)

    @contextmanager
    def restored_on_error(self) -> Iterator[None]:
        """Keep other threads from changing the network; after an exception, restore it.

        Restored are the model with its tensors, the units, tasks and stored norms, and the random
        numbers of torch and of the structure.
        """
        self.tell()
        generators = [torch.default_generator, getattr(self, "generator", None)]
        parts = (each for each in generators if each is not None)
        with self._views.changing, restored_on_error(*parts, self.model, self, self._norms):
            yield

    @contextmanager
    def unchanging(self) -> Iterator[None]:
        """Keep other threads from changing the network, while its state is read."""
        with self._views.changing:
            yield

    def subscribe(
        self, listener: Listener, *, begun: Callable[[str], None] | None = None
    ) -> Callable[[], None]:
        """Call `listener(edit)` as the last step of every edit; return a function that stops it.

        A listener that raises undoes the edit. A listener that writes to a database may return a
        context manager: it is entered at once and left after all listeners have been called, with
        the exception if one of them undid the edit, so that database and network agree.

        Args:
            listener: Called with every edit.
            begun: Called with the name of every task that begins or is resumed (`resumed` then
                has its name); if it raises, the task has not begun.
        """
        self.tell()  # of what was before, to those who listened then
        self._listeners.append(listener)
        if begun is not None:
            self._begun.append(begun)

        def stop() -> None:
            self._listeners.remove(listener)
            if begun is not None:
                self._begun.remove(begun)

        return stop

    def why_not_renewed(self, name: str, *, paired: bool = True) -> str:
        """Return the reason why units of a group cannot be renewed in place; empty if they can.

        Args:
            name: The group.
            paired: True for families of mates.
        """
        return renewal_obstacle(self.model, self._groups[name], paired=paired)

    def entries(self, name: str) -> tuple[Entries, ...]:
        """Return the entries of a group's units in all tensors, columns first."""
        return self._renewals.entries(self.model, self._groups[name])

    def tell(self) -> None:
        """Let listeners hear of the renewals that they have not heard of, as one edit.

        Called before every other edit, task, snapshot and `state_dict`.
        """
        edit = self._renewals.told()
        if edit is None:
            return
        try:
            with ExitStack() as pending:
                for listener in self._listeners:
                    context = listener(edit)
                    if isinstance(context, AbstractContextManager):
                        pending.enter_context(context)
        except BaseException:
            self._renewals.untold.insert(0, edit)
            raise

    def remember_norms(
        self,
        task: int | str | None = None,
        *,
        statistics: bool = True,
        affine: bool = False,
        per_task: UnitConstant | Collection[UnitConstant] = (),
    ) -> None:
        """Store the running statistics that the norms have now, for the view of a task.

        Call it when a task has been learnt; `StructuralManager.end_task` does. Without it, the
        views of earlier tasks use BatchNorm's running statistics of today. The stored statistics
        follow every edit and are part of `state_dict`. A model without norms that have running
        statistics is left as it is.

        Args:
            task: Index or name of a task; None takes the one that is being learnt.
            statistics: False leaves the running statistics out.
            affine: Store the norms' weight and bias as well. They are then constants in the view:
                no gradient and no importance reaches those of the model.
            per_task: "gains", "biases" or both: store those of all units of the groups as well,
                as constants of the view; see `unit_constants`.

        Raises:
            PlanError: The task does not exist, or an unknown word.
        """
        index = self._learnt if task is None else task_index(self._tasks, task)
        also = self.unit_constants(per_task) if per_task else ()
        self._norms.remember(index, statistics=statistics, affine=affine, also=also)

    def unit_constants(
        self, kinds: UnitConstant | Collection[UnitConstant] = ("gains", "biases")
    ) -> tuple[str, ...]:
        """Return the names of the parameters with one gain, or one bias, for each unit.

        Gains are those of layers that have them (`add_gains`) and the weights of norms; biases are
        those of layers and of norms. Heads and other layers that give no units have none.

        Raises:
            PlanError: An unknown word.
        """
        return constants_of(self.model, self._groups.values(), check_constants(kinds))

    def forget_norms(self, task: int | str) -> None:
        """Drop the statistics stored for a task, whose view then uses those of today.

        Raises:
            PlanError: The task does not exist.
        """
        self._norms.forget(task_index(self._tasks, task))

    @contextmanager
    def view(self, task: int | str, *, own_classes: bool = False) -> Iterator[nn.Module]:
        """Leave out the units born after a task, while the context lasts.

        Weights are as they are now, and pruned units stay gone. Norms use the running statistics
        stored for the task (`remember_norms`), or those of today if none were stored; in train
        mode they normalise by the batch and update their own statistics, as without a view. Gains
        and biases that were stored for the task take the place of those of today. A head that
        grew returns only the logits of the classes it had then.

        While the model runs, masked copies replace the weights that read younger units; gradients
        reach the parameters through them. Between calls the parameters are in place. Without
        gradients a copy is made once and kept until the context ends or the parameter is changed
        in place (by an optimizer, or under `no_grad`; not through `.data`).

        Views nest: the network is then as of the earliest task. The model itself is changed for
        the duration: threads may share one view if all of them take gradients or none does, and a
        second thread that asks for a view of its own is refused. A younger unit whose activation
        is NaN or infinite still shows, since 0 · NaN is NaN.

        Args:
            task: Index or name of a task.
            own_classes: True lets a head that grew return only the logits of the classes that came
                with this task, in their order; a head in which none came returns those of then.

        Raises:
            PlanError: The task does not exist, or younger units pass norms over all channels,
                from whose statistics they cannot be left out.
            SurgeryError: Another thread holds a view.
        """
        index = task_index(self._tasks, task)
        younger = younger_units(self._groups, index)
        with self._views.held(index):
            overrides = {
                **unit_masks(self.model, self._groups.values(), younger),
                **self._norms.overrides(index, lambda: self._views.earliest == index),
            }
            heads = narrowed(self._heads, index, own=own_classes)
            # the outer one is made from the inner: a head may read units that are masked
            outer = overridden(self.model, heads) if heads else nullcontext()
            with outer, overridden(self.model, overrides):
                yield self.model

    def extract(self, task: int | str) -> nn.Module:
        """Return the network as of a task as a plain, smaller copy of the model.

        The copy computes what `view(task)` computes; the model is not changed. Gains of layers
        (`add_gains`) are folded into their weights and biases.

        Raises:
            PlanError: The task does not exist, a whole group was born after it, or younger units
                pass norms over all channels, from whose statistics they cannot be left out.
        """
        self._views.check_none()
        index = task_index(self._tasks, task)
        younger = younger_units(self._groups, index)
        Plan(prune=_sorted(younger)).check(self._groups, self.fixed)
        model = duplicate(self.model)
        inventory = Inventory(model)
        everything = {**self._groups, **self._heads}
        later = Plan(prune=_sorted({**younger, **younger_units(self._heads, index)}))
        new = reordering(inventory, everything, later, self.task)
        swap = swap_tensors(inventory, everything.values(), new.sources, None)
        keep_weights(model, everything.values(), swap)
        self._norms.write(index, model, swap.changes)
        return fold_gains(model)

    def keep_width(self, groups: Iterable[str], reason: str) -> None:
        """Let groups neither grow nor shrink from now on.

        Args:
            groups: Names of the groups.
            reason: Quoted wherever a plan for one of them is refused.

        Raises:
            PlanError: There is no such group.
        """
        names = list(groups)
        unknown = [name for name in names if name not in self._groups]
        if unknown:
            hint = suggestion(unknown[0], self._groups, "group")
            raise PlanError(f"there is no group {unknown[0]!r}; {hint}")
        changed = {
            name: dataclasses.replace(self._groups[name], no_grow=reason, no_shrink=reason)
            for name in names
        }
        self._groups = {**self._groups, **changed}

    def state_dict(self) -> dict[str, Any]:
        """Return tasks, groups, heads, ids, sizes and stored norms, as tensors and JSON values."""
        self.tell()
        state = structure_state(self.model, self._tasks, self._groups, self._heads)
        # a key of its own only where it is used, as in states of earlier versions
        resumed = {} if self.resumed is None else {"resumed": self.resumed}
        return {**state, "view_norms": self._norms.state_dict(), **resumed}

    def load_state_dict(self, state: Mapping[str, Any]) -> dict[nn.Parameter, nn.Parameter]:
        """Give the model the widths, and the units the ids, that `state_dict` recorded.

        Every tensor of the groups' layers is replaced by an uninitialised one of the recorded
        shape: load the model's own state dict next.

        Returns:
            Old parameter -> the parameter in its place.

        Raises:
            SurgeryError: The groups, or the stored norms, are not those of this model.
            PlanError: A head in the state is not a head of this model.
        """
        self._views.check_none()
        check_is_state(state)
        groups = restored_groups(self._groups, state["groups"])
        first = {name: head_of(self.model, name, self._groups) for name in state.get("heads", {})}
        heads = restored_groups(first, state.get("heads", {}))
        tasks, resumed = list(state["tasks"]), state.get("resumed")
        if resumed is not None and resumed not in tasks:
            raise SurgeryError(f"the state resumes {resumed!r}, which is not one of its tasks")
        swap = resize(self.model, {**self._groups, **first}, state)
        self._norms.load_state_dict(state.get("view_norms", {}))
        self._groups, self._heads = groups, heads
        self._tasks, self._resumed = tasks, None if resumed is None else tasks.index(resumed)
        return dict(swap.swapped.values())


def _sorted(units: Mapping[str, set[int]]) -> dict[str, list[int]]:
    return {name: sorted(ids) for name, ids in units.items() if ids}


def _encodes(name: str) -> bool:
    """Return False for a text with lone surrogates, which no file can hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
