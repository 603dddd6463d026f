"""Optimizers follow an edit: their groups are re-pointed in place and their state re-indexed."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import ASGD, LBFGS, Adagrad, Optimizer, Rprop

from growmas.errors import SurgeryError
from growmas.structure.units.edit import Edit, reindexed

ADAFACTOR = getattr(torch.optim, "Adafactor", ())  # torch >= 2.5


def refusal(optimizer: Optimizer) -> str:
    """Why an optimizer cannot follow, or nothing."""
    if isinstance(optimizer, LBFGS):
        return (
            "LBFGS keeps its state as one flat vector and cannot follow surgery; "
            "make a new LBFGS afterwards"
        )
    return ""


def follow_optimizer(optimizer: Optimizer, edit: Edit) -> Callable[[], None]:
    """Put new parameters in the places of old ones and re-index the state shaped like them.

    Returns:
        How to undo it.

    Raises:
        SurgeryError: It keeps state of a shape nobody told growmas how to re-index.
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
    """One entry of a parameter's state, after the edit."""
    old, new = edit.swapped[name]
    if isinstance(optimizer, ADAFACTOR) and key in ("row_var", "col_var"):
        return _factor(edit, name, key, value)
    if not isinstance(value, Tensor) or value.dim() == 0:
        return value
    if value.shape != old.shape:
        raise SurgeryError(
            f"{type(optimizer).__name__} keeps {key!r} of shape {tuple(value.shape)} for "
            f"{name!r} of shape {tuple(old.shape)}, and growmas does not know how that follows; "
            "make a new optimizer afterwards"
        )
    if isinstance(optimizer, ASGD) and key == "ax":  # an average of the parameter itself
        return edit.reindex(name, value, fresh=new.detach(), nature="value")
    return edit.reindex(name, value, fresh=_fresh(optimizer, group, key))


def _fresh(optimizer: Optimizer, group: dict[str, Any], key: str) -> float:
    """What the optimizer itself would start that state with."""
    if isinstance(optimizer, Rprop) and key == "step_size":
        return float(group["lr"])
    if isinstance(optimizer, Adagrad) and key == "sum":
        return float(group["initial_accumulator_value"])
    return 0.0


def _factor(edit: Edit, name: str, key: str, value: Tensor) -> Tensor:
    """Adafactor's row or column factor, which has length 1 on the axis it is averaged over.

    Fresh entries start at the mean of the others, since zeros would scale the updates of all.
    """
    averaged = value.dim() - 1 if key == "row_var" else value.dim() - 2
    changes = tuple(change for change in edit.changes[name] if change.dim != averaged)
    return reindexed(value, changes, fresh=float(value.mean()))
