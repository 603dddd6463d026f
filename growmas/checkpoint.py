"""Checkpoints of networks that change shape: safetensors and JSON, no pickle.

A checkpoint is a folder with `tensors.safetensors` and `state.json`. The JSON holds the state
dicts as they are, with {"tensor": key} where a tensor stands.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from growmas.contexts import Context
from growmas.errors import CheckpointError, GrowmasError
from growmas.manager import StructuralManager
from growmas.penalty import MAS, HardProtection
from growmas.structure import Structure
from growmas.structure.analysis.tracing import StructureForward

FORMAT = 1

State = dict[str, Any]


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
    """Write a checkpoint; one that was there is replaced only once the new one is complete.

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
        CheckpointError: The folder cannot be written.
    """
    if mas is None and manager is not None:
        mas = manager.mas
    state: State = {
        "format": FORMAT,
        "model": dict(structure.model.state_dict()),
        "structure": structure.state_dict(),
        "mas": mas.state_dict() if mas else None,
        "optimizer": optimizer.state_dict() if optimizer else None,
        "context": context.state_dict() if context is not None else None,
        "protect": protect.state_dict() if protect is not None else None,
        "manager": manager.state_dict() if manager is not None else None,
    }
    write_state(path, state)


def write_state(path: str | os.PathLike[str], state: State) -> None:
    """Write any state of tensors and JSON values; the old one is replaced only once complete.

    Args:
        path: The folder to write.
        state: Mappings, lists, tuples, tensors and JSON values.

    Raises:
        CheckpointError: The folder cannot be written, or something else is in the state.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_encode(state, tensors, "state"))
    folder = Path(path)
    _check_replaceable(folder)
    fresh, old = (folder.with_name(f".{folder.name}.{word}") for word in ("new", "old"))
    try:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh.mkdir(parents=True)
        save_file(tensors, fresh / "tensors.safetensors")
        (fresh / "state.json").write_text(text, encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise CheckpointError(f"the checkpoint {folder} cannot be written: {error}") from error


def _check_replaceable(folder: Path) -> None:
    """Refuse to replace anything but a checkpoint."""
    if folder.is_dir() and ((folder / "state.json").is_file() or not any(folder.iterdir())):
        return
    if folder.exists():
        raise CheckpointError(
            f"{folder} exists and is not a checkpoint, so it is not replaced: choose another path"
        )


def read_state(path: str | os.PathLike[str]) -> State:
    """Read the state that `write_state` wrote.

    Raises:
        CheckpointError: It is not there, not complete, or of a newer format.
    """
    return _read(Path(path))


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
        CheckpointError: It is not there, not complete, of a newer format, or does not fit.
    """
    state = _read(Path(path))
    if optimizer is not None and state["optimizer"] is None:
        raise CheckpointError(f"{path} holds no optimizer: save it with optimizer=")
    for name, wanted in (("context", context), ("protect", protect)):
        if wanted is not None and state.get(name) is None:
            raise CheckpointError(f"{path} holds no {name}: save it with {name}=")
    try:
        structure = Structure(model, example_inputs, forward=forward)
        replaced = structure.load_state_dict(state["structure"])
        model.load_state_dict(state["model"])
        mas = None
        if state["mas"] is not None:
            mas = MAS(model)
            mas.load_state_dict(state["mas"])
        if optimizer is not None:
            for group in optimizer.param_groups:
                group["params"] = [replaced.get(p, p) for p in group["params"]]
            optimizer.load_state_dict(state["optimizer"])
        if context is not None:
            context.load_state_dict(state["context"])
        if protect is not None:
            protect.load_state_dict(state["protect"])
    except (RuntimeError, KeyError, ValueError, GrowmasError) as error:
        raise CheckpointError(f"{path} does not fit: {error}") from error
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
        CheckpointError: It is not there, not complete, holds no manager, or does not fit.
    """
    state = _read(Path(path))
    if state.get("manager") is None:
        raise CheckpointError(f"{path} holds no manager: save it with manager=")
    try:
        manager.load_state_dict(state["manager"])
    except (RuntimeError, KeyError, ValueError, GrowmasError) as error:
        raise CheckpointError(f"{path} does not fit: {error}") from error


def _read(folder: Path) -> State:
    try:
        tensors = load_file(folder / "tensors.safetensors")
        encoded = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        state: State = _decode(encoded, tensors)
        if state["format"] > FORMAT:
            raise CheckpointError(
                f"{folder} has format {state['format']}, this growmas reads up to {FORMAT}: "
                "install a newer growmas"
            )
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder} is not a readable checkpoint: {error}") from error
    return state


def _encode(value: Any, tensors: dict[str, Tensor], at: str) -> Any:
    if isinstance(value, Tensor):
        tensors[at] = value.detach().cpu().contiguous().clone()
        return {"tensor": at}
    if isinstance(value, Mapping):
        pairs = [[key, _encode(item, tensors, f"{at}/{key}")] for key, item in value.items()]
        return {"dict": pairs}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_encode(item, tensors, f"{at}/{i}") for i, item in enumerate(value)]}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise CheckpointError(f"{at} is a {type(value).__name__}, which a checkpoint cannot hold")


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    (kind, content), *_ = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _decode(item, tensors) for key, item in content}
    items = [_decode(item, tensors) for item in content]
    return items if kind == "list" else tuple(items)
