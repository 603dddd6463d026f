"""Followers: objects with tensors of parameters' shapes, which every edit re-indexes too."""

import copy
from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

from torch import nn
from torch.amp.grad_scaler import GradScaler, OptState
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from growmas.errors import SurgeryError
from growmas.structure.followers.copies import copy_in, follow_copy
from growmas.structure.followers.optimizers import follow_optimizer, refusal
from growmas.structure.units.edit import Edit


@runtime_checkable
class Follower(Protocol):
    """An object that re-indexes its tensors when the network is edited."""

    def follow(self, edit: Edit) -> None:
        """Re-index with `edit.reindex(name, tensor)`; bind new tensors, do not change old ones."""
        ...


def as_followers(followers: Any) -> tuple[object, ...]:
    """Return the followers as a tuple.

    Raises:
        SurgeryError: A single object is given instead of several.
    """
    if isinstance(followers, Iterable) and not isinstance(followers, nn.Module):
        return tuple(followers)
    raise SurgeryError(
        f"followers= expects a list, got one {type(followers).__name__}: write it in brackets, "
        "followers=[...]"
    )


def check_followers(followers: Iterable[object], model: nn.Module) -> None:
    """Refuse objects that cannot follow, before anything is changed.

    Args:
        followers: `Follower` objects; torch optimizers; copies of the model, averaged
            (`torch.optim.swa_utils.AveragedModel`) or plain; learning-rate schedulers and
            `GradScaler`s, which have no tensor of a parameter's shape.
        model: The network.

    Raises:
        SurgeryError: Names every object that cannot follow, with the reason.
    """
    problems = [problem for problem in (_problem(f, model) for f in followers) if problem]
    if problems:
        raise SurgeryError("; ".join(problems))


def _problem(follower: object, model: nn.Module) -> str:
    """Return the reason why an object cannot follow; empty if it can."""
    if isinstance(follower, Follower | LRScheduler):
        return ""
    if isinstance(follower, Optimizer):
        return refusal(follower)
    if isinstance(follower, GradScaler):
        return _scaler_problem(follower)
    if isinstance(follower, nn.Module):
        return copy_in(follower, model).problem
    return (
        f"{type(follower).__name__} cannot follow: expected a torch optimizer, scheduler or "
        "GradScaler, a copy of the model, or an object with a method follow(edit)"
    )


def _scaler_problem(scaler: GradScaler) -> str:
    stages = [state["stage"] for state in scaler._per_optimizer_states.values()]
    if OptState.UNSCALED in stages:
        return (
            "GradScaler is between unscale_(optimizer) and step(optimizer): it has checked "
            "gradients that surgery replaces; operate before unscale_ or after update()"
        )
    return ""


def follow(followers: Iterable[object], edit: Edit, model: nn.Module) -> None:
    """Let every follower follow the edit; if one fails, all are as they were before."""
    undo: list[Callable[[], None]] = []
    try:
        for follower in followers:
            if isinstance(follower, Follower):
                undo.append(_remember(follower))
                follower.follow(edit)
            elif isinstance(follower, Optimizer):
                undo.append(follow_optimizer(follower, edit))
            elif isinstance(follower, nn.Module):
                undo.append(follow_copy(copy_in(follower, model).module, edit, model))
    except BaseException:
        for restore in reversed(undo):
            restore()
        raise


def _remember(follower: Follower) -> Callable[[], None]:
    """Return a function that restores the attributes of a follower as they are now.

    Containers are copied one level deep, which is enough because followers bind new tensors. An
    object without `__dict__` is not restored.
    """
    attributes = getattr(follower, "__dict__", {})
    kept = {
        name: copy.copy(value) if isinstance(value, dict | list | set) else value
        for name, value in attributes.items()
    }

    def restore() -> None:
        attributes.clear()
        attributes.update(kept)

    return restore
