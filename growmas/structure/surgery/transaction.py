"""The transaction that every edit of a network runs in: all of it happens, or nothing.

    look    reorder axes on paper: which old position stands at which new one
    swap    put re-indexed tensors into the model
    finish  fill the fresh entries, verify the outputs, write down the `Edit`
    settle  give the structure its new groups
    tell    followers re-index what they hold, then listeners hear of the edit
    forget  caches of eval mode, which were computed with the old tensors, are dropped

An exception at any step, a follower's or a listener's too, undoes the steps before it in reverse
order: tensors, groups, followers and random numbers are as they were, bit for bit.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from growmas.importance.state import Attributes
from growmas.structure.followers.followers import follow
from growmas.structure.surgery.tensor_swap import TensorSwap, reordering, swap_tensors
from growmas.structure.units.edit import Edit
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.inventory import Inventory
from growmas.structure.units.plan import Plan
from growmas.structure.units.reindexing import Reindexing

Listener = Callable[[Edit], AbstractContextManager[Any] | None]

Finish = Callable[[Reindexing, TensorSwap, ExitStack], Edit]
"""Fills and verifies the swapped tensors, and returns what was done.

What it changes besides those tensors goes on the stack, as callbacks that take it back.
"""

Settle = Callable[[dict[str, UnitGroup]], Callable[[], None]]
"""Gives the structure its groups after an edit; returns a function that takes them back."""


@dataclass(frozen=True, eq=False)
class Site:
    """The network that an edit changes, and everything that hears of the edit.

    Attributes:
        model: The network.
        inventory: Of the model as it is; out of date after the edit.
        groups: Group name -> group, as they are.
        task: Index of the current task.
        outputs: Returns the outputs on the example inputs; None leaves the verification out.
        settle: Gives the structure new groups; returns a function that takes them back.
        followers: Re-index what they hold.
        listeners: Hear of the edit last.
    """

    model: nn.Module
    inventory: Inventory
    groups: Mapping[str, UnitGroup]
    task: int
    outputs: Callable[[], list[Tensor]] | None
    settle: Settle
    followers: tuple[object, ...]
    listeners: tuple[Listener, ...]


def carry_out(site: Site, plan: Plan, generator: torch.Generator | None, finish: Finish) -> Edit:
    """Carry a plan out, or leave everything as it was.

    Args:
        site: The network; the plan fits its groups.
        plan: The plan.
        generator: Randomness of fresh rows, on the CPU; None takes torch's own.
        finish: Fills, verifies and describes.

    Raises:
        SurgeryError: A parameter has hooks, the verification failed, or a follower cannot follow.
    """
    new = reordering(site.inventory, site.groups, plan, site.task)
    with undoing(generator) as undo:
        swap = swap_tensors(site.inventory, site.groups.values(), new.sources, generator)
        undo.callback(swap.undo)
        edit = finish(new, swap, undo)
        undo.callback(site.settle(new.groups))
        tell(site, edit)
    Attributes(site.model).drop_caches()
    return edit


@contextmanager
def undoing(generator: torch.Generator | None) -> Iterator[ExitStack]:
    """Run the callbacks of the stack, last first, if the block raises; else drop them.

    The state of the generator (None: torch's own) is put back as well.
    """
    generator = generator or torch.default_generator
    with ExitStack() as undo:
        undo.callback(generator.set_state, generator.get_state())
        yield undo
        undo.pop_all()


def tell(site: Site, edit: Edit) -> None:
    """Let followers take an edit over, then listeners; if one fails, all are as they were."""
    with ExitStack() as pending:
        listeners = (_AsFollower(listener, pending) for listener in site.listeners)
        follow((*site.followers, *listeners), edit, site.model)


class _AsFollower:
    """A listener as the last of the followers, so that it is part of the transaction."""

    def __init__(self, listener: Listener, pending: ExitStack) -> None:
        self._listener = listener
        self._pending = pending

    def follow(self, edit: Edit) -> None:
        context = self._listener(edit)
        if isinstance(context, AbstractContextManager):
            self._pending.enter_context(_NotSuppressing(context))


class _NotSuppressing:
    """A listener's context manager, which may not swallow the exception that undid the edit."""

    def __init__(self, context: AbstractContextManager[Any]) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._context.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)
