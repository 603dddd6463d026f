"""Whatever is shaped like a parameter follows the network through an edit."""

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
    """Anything that re-indexes what it holds when the network is edited."""

    def follow(self, edit: Edit) -> None:
        """Re-index with `edit.reindex(name, tensor)`; bind new tensors, change none in place."""
        ...


def as_followers(followers: Any) -> tuple[object, ...]:
    """The followers given, as a tuple.

    Raises:
        SurgeryError: One object stands where several are expected.
    """
    if isinstance(followers, Iterable) and not isinstance(followers, nn.Module):
        return tuple(followers)
    raise SurgeryError(
        f"followers= expects several, got one {type(followers).__name__}: write it in brackets, "
        "followers=[...]"
    )


def check_followers(followers: Iterable[object], model: nn.Module) -> None:
    """Refuse what cannot follow, before anything is changed.

    Args:
        followers: `Follower` objects; torch optimizers; copies of the model, averaged
            (`torch.optim.swa_utils.AveragedModel`) or plain; learning-rate schedulers and
            `GradScaler`s, which hold nothing of a parameter's shape.
        model: The network.

    Raises:
        SurgeryError: Names every follower that cannot.
    """
    problems = [problem for problem in (_problem(f, model) for f in followers) if problem]
    if problems:
        raise SurgeryError("; ".join(problems))


def _problem(follower: object, model: nn.Module) -> str:
    """Why something cannot follow, or nothing."""
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
            "GradScaler is between unscale_(optimizer) and step(optimizer), with a verdict on "
            "gradients that surgery replaces: operate before unscale_ or after update()"
        )
    return ""


def follow(followers: Iterable[object], edit: Edit, model: nn.Module) -> None:
    """Let every follower take the edit over; if one fails, all are as they were before."""
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
    """Attributes as they are, containers copied one level deep; none where there is no dict."""
    attributes = getattr(follower, "__dict__", {})
    kept = {
        name: copy.copy(value) if isinstance(value, dict | list | set) else value
        for name, value in attributes.items()
    }

    def restore() -> None:
        attributes.clear()
        attributes.update(kept)

    return restore
