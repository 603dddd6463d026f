"""Young entries: rows and columns of parameters with a bias correction of their own under Adam.

Adam's update of an entry with the moments m and v at the step s of its tensor is

    lr · m / (1 − β₁ˢ) / (√v / √(1 − β₂ˢ) + ε).

For an entry of age t it should have t in the place of s. All young entries of the parameters that
share a step are gathered into one vector, so that the difference of the two updates costs a dozen
operations whatever the number of units, into buffers that stay. On such short vectors the call is
what costs: tensors on the CPU are therefore read and written through numpy, whose calls take a
third of the time of torch's; others by torch, whose functions have the same names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

YOUTH = 100
"""Steps for which an entry has a correction of its own; 1 − 0.9¹⁰⁰ differs from 1 by 3e-5."""

Array = Any
"""A numpy array for tensors on the CPU, else a tensor."""


@dataclass(frozen=True, eq=False)
class Block:
    """Positions along one axis of one parameter.

    Attributes:
        parameter: The parameter.
        dim: The axis.
        positions: [k] int64.
        shape: Shape of the entries.
        views: Arrays on the memory of the parameter and its moments, by name.
    """

    parameter: nn.Parameter
    dim: int
    positions: Array
    shape: torch.Size
    views: dict[str, tuple[int, Array]] = field(default_factory=dict)

    def read(self, name: str, tensor: Tensor, out: Array) -> None:
        """Write the entries of a tensor of the parameter's shape into `out`."""
        source = self._view(name, tensor)
        if isinstance(source, Tensor):
            torch.index_select(source, self.dim, self.positions, out=out)
        else:
            source.take(self.positions, self.dim, out, "clip")

    def write(self, name: str, tensor: Tensor, entries: Array) -> None:
        """Write entries into a tensor."""
        target = self._view(name, tensor)
        if isinstance(target, Tensor):
            target.index_copy_(self.dim, self.positions, entries)
        else:
            target[(slice(None),) * self.dim + (self.positions,)] = entries

    def _view(self, name: str, tensor: Tensor) -> Array:
        """Return an array on a tensor's memory; it is made anew only where the memory is other."""
        pointer = tensor.data_ptr()
        known = self.views.get(name)
        if known is None or known[0] != pointer:
            held = tensor.detach()
            known = (pointer, held.numpy() if _library(held) is np else held)
            self.views[name] = known
        return known[1]


class Pool:
    """Young entries of parameters of one parameter group that are at the same step.

    An entry in a young row and a young column is in two blocks, with the same age and thus the
    same update.

    Attributes:
        group: The parameter group, with its settings.
        blocks: The entries.
        step: Step of their parameters.
        oldest: Largest age when the pool was made.
    """

    def __init__(
        self,
        group: Mapping[str, Any],
        blocks: list[Block],
        ages: list[NDArray[np.int64]],
        step: int,
    ) -> None:
        """Make the buffers.

        Args:
            group: The parameter group.
            blocks: Rows and columns of its parameters.
            ages: The age of each entry of each block, flat.
            step: Step of their parameters.
        """
        self.group, self.blocks, self.step = group, blocks, step
        start = np.concatenate(ages)
        self.oldest = int(start.max(initial=0))
        self._passed = 0
        like = blocks[0].parameter.detach()
        self._library = _library(like)
        self._start = self._own(torch.from_numpy(start).to(like.device))
        self._tables = tuple(
            self._own(_table(float(beta), power).to(like))
            for beta, power in zip(group["betas"], (1.0, 0.5), strict=True)
        )
        self._buffers = [self._own(like.new_empty(len(start))) for _ in range(4)]
        self._parts = [
            self._split(buffer, [len(each) for each in ages]) for buffer in self._buffers
        ]

    @property
    def stepped(self) -> bool | None:
        """True if the optimizer moved these parameters, which have gradients; None for some."""
        first = self.blocks[0].parameter.grad is not None
        same = all((block.parameter.grad is not None) is first for block in self.blocks)
        return first if same else None

    def correct(self, optimizer: Optimizer) -> None:
        """Give every young entry the update of its own age in place of the shared one."""
        self.step += 1
        self._passed += 1
        group, xp = self.group, self._library
        beta1, beta2 = map(float, group["betas"])
        first, second = 1 - beta1**self.step, (1 - beta2**self.step) ** 0.5
        lr, eps = (float(group["lr"]) if xp is np else group["lr"]), group["eps"]
        squares = "max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"
        self._read(optimizer, "exp_avg", 0)
        self._read(optimizer, squares, 1)
        m, root, own_m, own_v = self._buffers
        self._look_up(self._tables[0], own_m)
        self._look_up(self._tables[1], own_v)
        xp.sqrt(root, out=root)
        xp.multiply(own_v, root, out=own_v)
        xp.add(own_v, eps, out=own_v)
        xp.multiply(own_m, m, out=own_m)
        own = xp.divide(own_m, own_v, out=own_m)
        xp.add(root, eps * second, out=root)
        xp.multiply(m, second / first, out=m)
        change = xp.divide(m, root, out=m)
        xp.subtract(change, own, out=change)
        xp.multiply(change, lr, out=change)
        for block, entries in zip(self.blocks, self._parts[1], strict=True):
            block.read("parameter", block.parameter, entries)
        xp.add(root, change, out=root)
        for block, entries in zip(self.blocks, self._parts[1], strict=True):
            block.write("parameter", block.parameter, entries)

    def retire(self, optimizer: Optimizer) -> None:
        """Scale v of entries at the end of their youth, so that the shared step corrects it."""
        beta2 = float(self.group["betas"][1])
        factor = (1 - beta2**self.step) / (1 - beta2**YOUTH)
        xp, (held, scale, *_) = self._library, self._buffers
        done = self._start + self._passed >= YOUTH
        scale[:] = 1.0
        scale[done] = factor
        for key in ("exp_avg_sq", "max_exp_avg_sq"):
            states = [optimizer.state[block.parameter] for block in self.blocks]
            if any(key not in state for state in states):
                continue
            self._read(optimizer, key, 0)
            xp.multiply(held, scale, out=held)
            for block, state, entries in zip(self.blocks, states, self._parts[0], strict=True):
                block.write(key, state[key], entries)

    def _read(self, optimizer: Optimizer, key: str, buffer: int) -> None:
        for block, entries in zip(self.blocks, self._parts[buffer], strict=True):
            block.read(key, optimizer.state[block.parameter][key], entries)

    def _look_up(self, table: Array, out: Array) -> None:
        """Write the values of a table at the age of each entry into `out`."""
        if isinstance(table, Tensor):
            torch.index_select(table[self._passed :], 0, self._start, out=out)
        else:
            table[self._passed :].take(self._start, 0, out, "clip")

    def _own(self, tensor: Tensor) -> Array:
        return tensor.numpy() if self._library is np else tensor

    def _split(self, buffer: Array, sizes: list[int]) -> list[Array]:
        """Return the parts of a buffer, in the shapes of the blocks."""
        ends = np.cumsum(sizes).tolist()
        parts = zip(self.blocks, sizes, ends, strict=True)
        return [buffer[end - size : end].reshape(block.shape) for block, size, end in parts]


def pools_of(
    optimizer: Optimizer,
    parameters: Mapping[str, nn.Parameter],
    born: Mapping[str, Mapping[int, Tensor]],
) -> list[Pool]:
    """Gather the young entries of all parameters, after a step of the optimizer.

    Args:
        optimizer: Adam or AdamW; the pools count the step that it has just made.
        parameters: Name -> parameter.
        born: Name -> axis -> [length], the step at which each position was born; 0 for old ones.
    """
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    parts: dict[tuple[int, int, Any], list[tuple[Block, NDArray[np.int64]]]] = {}
    settings: dict[int, Mapping[str, Any]] = {}
    for name, axes in born.items():
        parameter = parameters[name]
        state = optimizer.state.get(parameter, {})
        if id(parameter) not in groups or "step" not in state:
            continue
        group = groups[id(parameter)]
        settings[id(group)] = group
        stepped = parameter.grad is not None
        step = int(state["step"]) - stepped
        key = (id(group), step, (parameter.dtype, parameter.device, stepped))
        parts.setdefault(key, []).extend(_blocks(parameter, axes, step))
    return [
        Pool(settings[group], [block for block, _ in held], [ages for _, ages in held], step)
        for (group, step, _), held in parts.items()
    ]


def _blocks(
    parameter: nn.Parameter, axes: Mapping[int, Tensor], step: int
) -> list[tuple[Block, NDArray[np.int64]]]:
    """Return the young rows and columns of a parameter with the age of every entry, flat.

    An entry in a young row and a young column is as old as the younger of the two.
    """
    found = []
    for dim, along in axes.items():
        positions = np.flatnonzero(along.numpy())
        births: NDArray[np.float64] = _along(along.numpy()[positions], dim, parameter.dim())
        for other, across in axes.items():
            if other != dim:
                births = np.maximum(births, _along(across.numpy(), other, parameter.dim()))
        shape = torch.Size([*parameter.shape[:dim], len(positions), *parameter.shape[dim + 1 :]])
        ages = np.clip(step - births, 0, YOUTH).astype(np.int64)
        at = positions if _library(parameter) is np else torch.from_numpy(positions)
        at = at.to(parameter.device) if isinstance(at, Tensor) else at
        found.append((Block(parameter, dim, at, shape), np.broadcast_to(ages, shape).ravel()))
    return found


def _along(values: NDArray[np.float64], dim: int, dims: int) -> NDArray[np.float64]:
    """Return a vector as an array whose other axes have length 1."""
    return values.reshape([-1 if axis == dim else 1 for axis in range(dims)])


def _library(tensor: Tensor) -> ModuleType:
    """Return numpy for tensors that it can read in place, else torch."""
    plain = tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)
    return np if plain else torch


@lru_cache(maxsize=64)
def _table(beta: float, power: float) -> Tensor:
    """Return 1 / (1 − βᵗ)^power by age t, in float64; at birth 1."""
    values = [1.0, *(1 / (1 - beta**age) ** power for age in range(1, YOUTH + 1))]
    return torch.tensor(values, dtype=torch.float64)
