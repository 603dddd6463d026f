"""Recorder of the activations of units, as the layers that read them see them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.hooks import RemovableHandle

from growmas.structure import Structure, UnitGroup


@dataclass(frozen=True, eq=False)
class Reader:
    """The layer at whose input the units of a group are seen.

    Attributes:
        module: The layer.
        dim: The axis of its input along which the channels lie, counted from the end.
        positions: [U, m] int64, the channels that each unit holds.
    """

    module: nn.Module
    dim: int
    positions: Tensor

    def activations(self, seen: Tensor) -> Tensor:
        """Return [N, U, m] of an input; N counts samples and positions."""
        rows = seen.movedim(self.dim, -1).flatten(0, -2) if seen.dim() > 1 else seen[None]
        if self._whole:
            return rows[..., None]
        return rows[:, self.positions.to(rows.device)]

    @property
    def _whole(self) -> bool:
        """True if the units hold the channels 0, 1, 2 and so on."""
        units, held = self.positions.shape
        return held == 1 and torch.equal(self.positions[:, 0], torch.arange(units))


Readers = Mapping[str, tuple[Reader, ...]]
"""Group name -> the layers that read its units; the first one that ran is looked at."""


def readers_of(structure: Structure, group: UnitGroup) -> tuple[Reader, ...]:
    """Return the layers that read a group's units, such as the heads of all tasks."""
    found = []
    for member in group.members:
        if member.side == "in":
            module = structure.model.get_submodule(member.layer)
            spatial = len(module.kernel_size) if isinstance(module, _ConvNd) else 0
            found.append(Reader(module, -1 - spatial, member.positions))
    return tuple(found)


class Recorder:
    """Keeps the inputs of readers during the training passes between `arm` and `take`.

    Passes without gradients, such as a validation in between, are left out.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self._seen: dict[str, list[list[Tensor]]] = {}
        self._handles: list[RemovableHandle] = []

    @property
    def armed(self) -> bool:
        """True while activations are kept."""
        return bool(self._handles)

    def arm(self, readers: Readers, *, grads: bool = True) -> None:
        """Keep what the readers are given from now on.

        Args:
            readers: By group.
            grads: False keeps passes without gradients, too.
        """
        self.disarm()
        self._seen = {name: [[] for _ in several] for name, several in readers.items()}
        self._handles = [
            reader.module.register_forward_pre_hook(self._listener(held, grads), with_kwargs=True)
            for name, several in readers.items()
            for reader, held in zip(several, self._seen[name], strict=True)
        ]

    def take(self, readers: Readers) -> dict[str, Tensor]:
        """Return the activations kept, group name -> [N, U, m], and stop keeping them."""
        self.disarm()
        seen, self._seen = self._seen, {}
        found = {}
        for name, several in seen.items():
            for reader, held in zip(readers[name], several, strict=True):
                width = held[-1].shape[reader.dim] if held else 0
                held = [each for each in held if each.shape[reader.dim] == width]
                if held:  # those after the last edit
                    parts = [reader.activations(each) for each in held]
                    found[name] = parts[0] if len(parts) == 1 else torch.cat(parts)
                    break
        return found

    def disarm(self) -> None:
        """Stop keeping activations."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _listener(self, held: list[Tensor], grads: bool) -> Callable[..., None]:
        def listen(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if torch.is_grad_enabled() or not grads:
                given = args[0] if args else next(iter(kwargs.values()), None)
                if isinstance(given, Tensor):
                    held.append(given.detach())

        return listen
