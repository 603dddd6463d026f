"""Saving and loading a network with its structure, penalty, optimizer and manager."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from growmas.checkpoint.encoding import State
from growmas.checkpoint.files import read_state, write_state
from growmas.checkpoint.fitting import (
    check_kinds,
    check_optimizer,
    check_parts,
    check_tensors,
    check_units,
    module_kinds,
    optimizer_kind,
)
from growmas.contexts import Context
from growmas.errors import CheckpointError, GrowmasError
from growmas.manager import StructuralManager
from growmas.penalty import MAS, HardProtection
from growmas.rollback import restored_on_error
from growmas.structure import Structure
from growmas.structure.analysis.tracing import StructureForward


def save(
    path: str | os.PathLike[str],
    *,
    structure: Structure,
    mas: MAS | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    context: Context | None = None,
    protect: HardProtection | None = None,
    manager: StructuralManager | None = None,
) -> None:
    """Write a checkpoint; the one before is kept next to it, in the same folder.

    Args:
        path: The folder to write.
        structure: The units, what its views remember, and the model with its tensors.
        mas: Importance and anchors; a manager's own where one is given.
        optimizer: Its state.
        context: What it knows of the tasks' inputs.
        protect: What is frozen; a manager's own is saved with the manager.
        manager: Its activation statistics, what it remembers, and its hard protection; see
            `load_manager`.

    Raises:
        CheckpointError: The folder cannot be written, or holds something else than a checkpoint.
    """
    check_parts(
        structure, mas=mas, optimizer=optimizer, context=context, protect=protect, manager=manager
    )
    if mas is None and manager is not None:
        mas = manager.mas
    with structure.unchanging():  # another thread may want to edit it
        state = {
            **model_state(structure, optimizer),
            "mas": mas.state_dict() if mas else None,
            "context": context.state_dict() if context is not None else None,
            "protect": protect.state_dict() if protect is not None else None,
            "manager": manager.state_dict() if manager is not None else None,
        }
        write_state(path, state)


def model_state(structure: Structure, optimizer: torch.optim.Optimizer | None) -> State:
    """Return the state of a model, its structure and its optimizer, and what they are."""
    return {
        "model": dict(structure.model.state_dict()),
        "modules": module_kinds(structure.model),
        "structure": structure.state_dict(),
        "optimizer": optimizer.state_dict() if optimizer else None,
        "optimizer_class": optimizer_kind(optimizer) if optimizer else None,
    }


def load_model_state(
    state: Mapping[str, Any], structure: Structure, optimizer: torch.optim.Optimizer | None
) -> None:
    """Restore what `model_state` returned, into a model at its first widths.

    Raises:
        CheckpointError: The model or the optimizer is of another kind.
        GrowmasError: Something does not fit.
    """
    model = structure.model
    check_kinds(model, state.get("modules"))
    check_tensors(model, state["model"])
    if optimizer is not None:
        check_optimizer(optimizer, model, state.get("optimizer_class"))
    replaced = structure.load_state_dict(state["structure"])
    model.load_state_dict(state["model"])
    if optimizer is not None:
        for group in optimizer.param_groups:
            group["params"] = [replaced.get(p, p) for p in group["params"]]
        optimizer.load_state_dict(state["optimizer"])


def load(
    path: str | os.PathLike[str],
    *,
    model: nn.Module,
    example_inputs: Any,
    optimizer: torch.optim.Optimizer | None = None,
    forward: StructureForward | None = None,
    context: Context | None = None,
    protect: HardProtection | None = None,
) -> tuple[Structure, MAS | None]:
    """Restore a checkpoint into a freshly constructed model, whatever its widths are now.

    Args:
        path: The folder that `save` wrote.
        model: A model of the same architecture, at its first widths; it is resized and filled.
        example_inputs: See `Structure`.
        optimizer: An optimizer over `model`'s parameters; it is pointed at the new ones and
            takes over the saved state.
        forward: See `Structure`.
        context: One with the settings of the saved one, which takes over its state.
        protect: One of `model`, which takes over settings and state of the saved one.

    Returns:
        The structure, and the `MAS` if one was saved. A manager is made of both, and takes over
        its state with `load_manager`.

    Raises:
        CheckpointError: It is missing, damaged, of a newer format, or does not fit. Model,
            optimizer, context and protection are then as before.
    """
    state = read_state(path)
    if optimizer is not None and state.get("optimizer") is None:
        raise CheckpointError(f"{path} holds no optimizer: save it with optimizer=")
    for name, wanted in (("context", context), ("protect", protect)):
        if wanted is not None and state.get(name) is None:
            raise CheckpointError(f"{path} holds no {name}: save it with {name}=")
    with _fitting(path), ExitStack() as undo:
        undo.enter_context(restored_on_error(model, *([] if optimizer is None else [optimizer])))
        structure = Structure(model, example_inputs, forward=forward)
        load_model_state(state, structure, optimizer)
        mas = None
        if state["mas"] is not None:
            mas = MAS(model)
            mas.load_state_dict(state["mas"])
        if context is not None:
            undo.enter_context(_restored(context))
            context.load_state_dict(state["context"])
        if protect is not None:
            undo.enter_context(_restored(protect))
            protect.load_state_dict(state["protect"])
    return structure, mas


def load_manager(path: str | os.PathLike[str], manager: StructuralManager) -> None:
    """Let a manager go on where the one that was saved stopped.

        structure, mas = gm.load(path, model=model, example_inputs=x, optimizer=optimizer)
        manager = gm.StructuralManager(structure, mas=mas, optimizer=optimizer, grow=..., prune=...)
        gm.load_manager(path, manager)

    Args:
        path: The folder that `save(..., manager=)` wrote.
        manager: With the policies of the saved one, of what `load` returned; it takes over what
            that one remembered, its activation statistics and what it had frozen.

    Raises:
        CheckpointError: It is missing, damaged, of a newer format, holds no manager, or does not
            fit. The manager is then as before.
    """
    if not isinstance(manager, StructuralManager):
        raise CheckpointError(
            f"manager: expected a growmas.StructuralManager, got {type(manager).__name__}"
        )
    state = read_state(path)
    if state.get("manager") is None:
        raise CheckpointError(f"{path} holds no manager: save it with manager=")
    with _fitting(path), _restored(manager):
        check_units(manager.structure.groups, state["manager"].get("births"))
        manager.load_state_dict(state["manager"])


@contextmanager
def _fitting(path: str | os.PathLike[str]) -> Iterator[None]:
    """Say of every error that the checkpoint does not fit."""
    try:
        yield
    except (
        RuntimeError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError,
        GrowmasError, MemoryError, AssertionError,
    ) as error:  # fmt: skip
        if isinstance(error, KeyError):
            raise CheckpointError(f"{path} does not fit: it lacks {error}") from error
        raise CheckpointError(f"{path} does not fit: {error}") from error


@contextmanager
def _restored(part: Any) -> Iterator[None]:
    """Give a part its former state back after an exception."""
    before = dict(vars(part))
    state = part.state_dict()
    try:
        yield
    except BaseException:
        vars(part).update(before)
        part.load_state_dict(state)
        raise
