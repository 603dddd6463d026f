"""Copies of the model as followers, such as moving averages of its weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from growmas.structure.units.edit import Edit
from growmas.structure.units.resized import resized


@dataclass(frozen=True, eq=False)
class CopyInside:
    """The copy of a model that a module is, or wraps as `.module` (`AveragedModel`).

    Attributes:
        module: The copy.
        problem: Reason why it is not a copy; empty if it is.
    """

    module: nn.Module
    problem: str


def copy_in(follower: nn.Module, model: nn.Module) -> CopyInside:
    """Find the copy of `model` in `follower`: same names, same shapes, other tensors."""
    ours = _shapes(model)
    candidates = [getattr(follower, "_orig_mod", follower)]
    inner = getattr(candidates[0], "module", None)
    candidates += [inner] if isinstance(inner, nn.Module) else []
    for module in candidates:
        if module is model:
            problem = "it holds the model itself, not a copy"
            return CopyInside(module, f"{type(follower).__name__} cannot follow: {problem}")
        if _shapes(module) == ours:
            return CopyInside(module, "")
    theirs = _shapes(candidates[-1])
    wrong = sorted(n for n in {*ours, *theirs} if ours.get(n) != theirs.get(n))
    return CopyInside(
        candidates[-1],
        f"{type(follower).__name__} cannot follow: it is not a copy of the model, "
        f"{', '.join(map(repr, wrong[:5]))} differ in name or shape",
    )


def follow_copy(module: nn.Module, edit: Edit, model: nn.Module) -> Callable[[], None]:
    """Resize a copy as the model was resized; fresh entries take the model's values.

    Returns:
        A function that undoes it.
    """
    undo: list[tuple[nn.Module, str, Any]] = []
    ours = _tensors(model)
    try:
        for path, size in edit.sizes.items():
            _set(module, path, size, undo)
        for old, paths in _places(module):
            changed = [path for path in paths if path in edit.changes or path in edit.corrections]
            if changed:
                new = _resized(changed[0], old, edit, ours)
                for path in paths:
                    _set(module, path, new, undo)
    except BaseException:
        _restore(undo)
        raise
    return lambda: _restore(undo)


def _resized(name: str, old: Tensor, edit: Edit, ours: dict[str, Tensor]) -> Tensor:
    fresh = ours[name].detach().to(old.device)
    new = edit.reindex(name, old.detach(), fresh=fresh, nature="value")
    return resized(old, new, lambda tensor: edit.reindex(name, tensor))


def _set(module: nn.Module, path: str, value: Any, undo: list[tuple[nn.Module, str, Any]]) -> None:
    layer, _, attribute = path.rpartition(".")
    owner = module.get_submodule(layer)
    undo.append((owner, attribute, getattr(owner, attribute)))
    setattr(owner, attribute, value)


def _restore(undo: list[tuple[nn.Module, str, Any]]) -> None:
    for owner, attribute, value in reversed(undo):
        setattr(owner, attribute, value)


def _places(module: nn.Module) -> list[tuple[Tensor, list[str]]]:
    """Return every tensor of a module, with all its names, ties included."""
    found: dict[int, tuple[Tensor, list[str]]] = {}
    for named in (
        module.named_parameters(remove_duplicate=False),
        module.named_buffers(remove_duplicate=False),
    ):
        for name, tensor in named:
            found.setdefault(id(tensor), (tensor, []))[1].append(name)
    return list(found.values())


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in _tensors(module).items()}
