"""Recorder of the activations of units, as the first layer that reads them sees them."""

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


def reader_of(structure: Structure, group: UnitGroup) -> Reader:
    """Return the first layer that reads a group's units, which can be renewed."""
    member = next(member for member in group.members if member.side == "in")
    module = structure.model.get_submodule(member.layer)
    spatial = len(module.kernel_size) if isinstance(module, _ConvNd) else 0
    return Reader(module, -1 - spatial, member.positions)


class Recorder:
    """Keeps the inputs of readers during the training passes between `arm` and `take`.

    Passes without gradients, such as a validation in between, are left out.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self._seen: dict[str, list[Tensor]] = {}
        self._handles: list[RemovableHandle] = []

    @property
    def armed(self) -> bool:
        """True while activations are kept."""
        return bool(self._handles)

    def arm(self, readers: Mapping[str, Reader], *, grads: bool = True) -> None:
        """Keep what the readers are given from now on.

        Args:
            readers: Group name -> reader.
            grads: False keeps passes without gradients, too.
        """
        self.disarm()
        self._seen = {name: [] for name in readers}
        self._handles = [
            reader.module.register_forward_pre_hook(self._listener(name, grads), with_kwargs=True)
            for name, reader in readers.items()
        ]

    def take(self, readers: Mapping[str, Reader]) -> dict[str, Tensor]:
        """Return the activations kept, group name -> [N, U, m], and stop keeping them."""
        self.disarm()
        seen, self._seen = self._seen, {}
        return {
            name: torch.cat([readers[name].activations(each) for each in held])
            if len(held) > 1
            else readers[name].activations(held[0])
            for name, held in seen.items()
            if held
        }

    def disarm(self) -> None:
        """Stop keeping activations."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _listener(self, name: str, grads: bool) -> Callable[..., None]:
        def listen(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if torch.is_grad_enabled() or not grads:
                given = args[0] if args else next(iter(kwargs.values()), None)
                if isinstance(given, Tensor):
                    self._seen[name].append(given.detach())

        return listen
