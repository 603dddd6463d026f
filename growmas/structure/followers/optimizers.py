"""Optimizers as followers: new parameters in their groups, and re-indexed state."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import ASGD, LBFGS, Adagrad, Optimizer, Rprop

from growmas.errors import SurgeryError
from growmas.structure.units.edit import Edit, reindexed

ADAFACTOR = getattr(torch.optim, "Adafactor", ())  # torch >= 2.5


def refusal(optimizer: Optimizer) -> str:
    """Return the reason why an optimizer cannot follow; empty if it can."""
    if isinstance(optimizer, LBFGS):
        return (
            "LBFGS keeps its state as one flat vector and cannot follow surgery; "
            "make a new LBFGS afterwards"
        )
    return ""


def follow_optimizer(optimizer: Optimizer, edit: Edit) -> Callable[[], None]:
    """Replace old parameters by new ones and re-index the state that has their shape.

    The optimizer object and its groups stay the same, changed in place.

    Returns:
        A function that undoes it.

    Raises:
        SurgeryError: The optimizer has state of a shape that growmas cannot re-index.
    """
    lists = [group["params"] for group in optimizer.param_groups]
    states = dict(optimizer.state)

    def undo() -> None:
        for group, parameters in zip(optimizer.param_groups, lists, strict=True):
            group["params"] = parameters
        optimizer.state.clear()
        optimizer.state.update(states)

    try:
        owners = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        for name, (old, new) in edit.swapped.items():
            if old in states:
                del optimizer.state[old]
                optimizer.state[new] = {
                    key: _moved(optimizer, owners[id(old)], edit, name, key, value)
                    for key, value in states[old].items()
                }
        replaced = edit.replaced
        for group in optimizer.param_groups:
            group["params"] = [replaced.get(p, p) for p in group["params"]]
    except BaseException:
        undo()
        raise
    return undo


def _moved(
    optimizer: Optimizer, group: dict[str, Any], edit: Edit, name: str, key: str, value: Any
) -> Any:
    """Return one entry of a parameter's state as it is after the edit."""
    old, new = edit.swapped[name]
    if isinstance(optimizer, ADAFACTOR) and key in ("row_var", "col_var"):
        return _factor(edit, name, key, value)
    if not isinstance(value, Tensor) or value.dim() == 0:
        return value
    if value.shape != old.shape:
        raise SurgeryError(
            f"{type(optimizer).__name__} keeps {key!r} of shape {tuple(value.shape)} for "
            f"{name!r} of shape {tuple(old.shape)}, which growmas cannot re-index; "
            "make a new optimizer afterwards"
        )
    start = fresh_state(optimizer, group, key)
    if start is None:
        return edit.reindex(name, value, fresh=new.detach(), nature="value")
    return edit.reindex(name, value, fresh=start)


def fresh_state(optimizer: Optimizer, group: dict[str, Any], key: str) -> float | None:
    """Return the value with which the optimizer itself would start a state of a new parameter.

    None stands for the value of the parameter, of which ASGD keeps an average.
    """
    if isinstance(optimizer, ASGD) and key == "ax":
        return None
    if isinstance(optimizer, Rprop) and key == "step_size":
        return float(group["lr"])
    if isinstance(optimizer, Adagrad) and key == "sum":
        return float(group["initial_accumulator_value"])
    return 0.0


def _factor(edit: Edit, name: str, key: str, value: Tensor) -> Tensor:
    """Return Adafactor's row or column factor, which has length 1 on the axis of its average.

    Fresh entries start at the mean of the others, because zeros would scale the updates of all
    entries: Adafactor divides by the mean of the row factor.
    """
    averaged = value.dim() - 1 if key == "row_var" else value.dim() - 2
    changes = tuple(change for change in edit.changes[name] if change.dim != averaged)
    return reindexed(value, changes, fresh=float(value.mean()))
