"""Checks that a checkpoint fits the model and the optimizer it is loaded into."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from growmas.errors import CheckpointError
from growmas.structure import Structure
from growmas.structure.units.groups import UnitGroup


def module_kinds(model: nn.Module) -> dict[str, str]:
    """Return module name -> class, with the settings of modules without parameters."""
    return {name: _kind(module) for name, module in model.named_modules()}


def optimizer_kind(optimizer: Optimizer) -> str:
    """Return the class of an optimizer, as a checkpoint records it."""
    return f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"


def check_kinds(model: nn.Module, recorded: Any) -> None:
    """Refuse a model with another layer or activation than the one that was saved.

    Raises:
        CheckpointError: Names the first that differs.
    """
    if not isinstance(recorded, Mapping):
        return
    for name, kind in module_kinds(model).items():
        saved = recorded.get(name, kind)
        if saved != kind:
            raise CheckpointError(
                f"it is of another architecture: module {name!r} was saved as {saved} and is "
                f"{kind}; build the model as it was"
            )


def check_tensors(model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Refuse tensors of another dtype than the model's, and NaN or infinity in parameters.

    Raises:
        CheckpointError: Names the first.
    """
    for name, tensor in model.state_dict().items():
        other = saved.get(name)
        if other is not None and other.dtype != tensor.dtype:
            raise CheckpointError(
                f"{name} was saved as {other.dtype} and is {tensor.dtype} in the model: convert "
                f"the model with model.to({other.dtype})"
            )
    for name, _ in model.named_parameters():
        if name in saved and not saved[name].isfinite().all():
            raise CheckpointError(f"{name} holds NaN or infinity: use an earlier checkpoint")


def check_optimizer(optimizer: Optimizer, model: nn.Module, recorded: Any) -> None:
    """Refuse an optimizer of another class than the one that was saved, or of another model.

    Raises:
        CheckpointError: Names both classes, or says that it is of another model.
    """
    ours = set(model.parameters())
    if not any(p in ours for group in optimizer.param_groups for p in group["params"]):
        raise CheckpointError(
            "the optimizer holds none of the model's parameters: make it of model.parameters()"
        )
    kind = optimizer_kind(optimizer)
    if isinstance(recorded, str) and recorded != kind:
        raise CheckpointError(
            f"the optimizer was saved as {recorded} and is {kind}: give the same kind"
        )


def check_units(groups: Mapping[str, UnitGroup], births: Any) -> None:
    """Refuse a manager that remembers the births of units which the structure does not have.

    Args:
        groups: Of the structure.
        births: Group name -> pairs of a unit's id and its birth.

    Raises:
        CheckpointError: Names the first.
    """
    for name, pairs in (births or {}).items():
        here = set(groups[name].unit_ids) if name in groups else set()
        gone = [unit for unit, _ in pairs if unit not in here]
        if gone:
            raise CheckpointError(
                f"the manager remembers unit {gone[0]} of {name!r}, which the structure does not "
                "have: give the manager of what gm.load returned"
            )


def check_parts(structure: Any, **parts: Any) -> None:
    """Refuse what a checkpoint cannot hold, before anything is written.

    Args:
        structure: Expected to be a `Structure`.
        **parts: Each expected to be None, or to have a state.

    Raises:
        CheckpointError: Names the first.
    """
    if not isinstance(structure, Structure):
        raise CheckpointError(
            f"structure: expected a growmas.Structure, got {type(structure).__name__}: make one "
            "with gm.Structure(model, example_inputs)"
        )
    for name, part in parts.items():
        if part is not None and not callable(getattr(part, "state_dict", None)):
            raise CheckpointError(
                f"{name}: expected an object with a state_dict(), got {type(part).__name__}"
            )


def _kind(module: nn.Module) -> str:
    name = type(module).__qualname__
    if any(True for _ in module.parameters()) or any(True for _ in module.children()):
        return name
    return f"{name}({module.extra_repr()})"
