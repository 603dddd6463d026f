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
from functools import lru_cache, reduce
from operator import mul
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
        ages: Ages of the positions along each axis with young ones when the block was made, int64,
            each with length 1 along all other axes. An entry has the least of its positions' ages.
        library: numpy or torch, which reads and writes them.
        views: Arrays on the memory of the parameter and its moments, by name.
    """

    parameter: nn.Parameter
    dim: int
    positions: Array
    shape: torch.Size
    ages: tuple[Array, ...]
    library: ModuleType
    views: dict[str, tuple[int, Array]] = field(default_factory=dict)

    @property
    def oldest(self) -> int:
        """The largest age of an entry."""
        return min(int(along.max()) for along in self.ages)

    def by_age(self, table: Array) -> Array:
        """Return the values of a falling table at the ages of the entries.

        The largest of the values at the ages of an entry's positions is that at the least age, so
        that only as many values as there are positions are looked up.
        """
        values = [table[along] for along in self.ages]
        return reduce(self.library.maximum, values)

    def read(self, name: str, tensor: Tensor, out: Array) -> None:
        """Write the entries of a tensor of the parameter's shape into `out`."""
        source = self._view(name, tensor)
        if self.library is np:
            source.take(self.positions, self.dim, out, "clip")
        else:
            torch.index_select(source, self.dim, self.positions, out=out)

    def write(self, name: str, tensor: Tensor, entries: Array) -> None:
        """Write entries into a tensor."""
        target = self._view(name, tensor)
        if self.library is np:
            target[(slice(None),) * self.dim + (self.positions,)] = entries
        else:
            target.index_copy_(self.dim, self.positions, entries)

    def _view(self, name: str, tensor: Tensor) -> Array:
        """Return an array on a tensor's memory; it is made anew only where the memory is other."""
        pointer = tensor.data_ptr()
        known = self.views.get(name)
        if known is None or known[0] != pointer:
            held = tensor.detach()
            known = (pointer, held.numpy() if self.library is np else held)
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

    def __init__(self, group: Mapping[str, Any], blocks: list[Block], step: int) -> None:
        """Make the buffers.

        Args:
            group: The parameter group.
            blocks: Rows and columns of its parameters.
            step: Step of their parameters.
        """
        self.group, self.blocks, self.step = group, blocks, step
        self.oldest = max(block.oldest for block in blocks)
        self._passed = 0
        like = blocks[0].parameter.detach()
        self._library = blocks[0].library
        array = Tensor.numpy if self._library is np else Tensor.detach
        self._tables = tuple(
            array(_table(float(beta), power).to(like))
            for beta, power in zip(group["betas"], (1.0, 0.5), strict=True)
        )
        sizes = [block.shape.numel() for block in blocks]
        ends = np.cumsum(sizes).tolist()
        self._buffers = [array(like.new_empty(sum(sizes))) for _ in range(4)]
        self._parts = [
            [
                buffer[end - size : end].reshape(block.shape)
                for block, size, end in zip(blocks, sizes, ends, strict=True)
            ]
            for buffer in self._buffers
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
        m, root, own, divisor = self._buffers
        self._read(optimizer, "exp_avg", 0)
        self._read(optimizer, squares, 1)
        xp.sqrt(root, out=root)
        self._correct_by_age(self._tables[0], 0, 2)
        self._correct_by_age(self._tables[1], 1, 3)
        xp.add(divisor, eps, out=divisor)
        xp.divide(own, divisor, out=own)
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
        states = [optimizer.state[block.parameter] for block in self.blocks]
        for key in ("exp_avg_sq", "max_exp_avg_sq"):
            if any(key not in state for state in states):
                continue
            self._read(optimizer, key, 0)
            for block, state, entries in zip(self.blocks, states, self._parts[0], strict=True):
                done = [along + self._passed >= YOUTH for along in block.ages]
                entries += (reduce(mul, done) * entries) * (factor - 1)
                block.write(key, state[key], entries)

    def _read(self, optimizer: Optimizer, key: str, buffer: int) -> None:
        for block, entries in zip(self.blocks, self._parts[buffer], strict=True):
            block.read(key, optimizer.state[block.parameter][key], entries)

    def _correct_by_age(self, table: Array, buffer: int, out: int) -> None:
        """Write a buffer's entries, times the values of a table at their ages, into another."""
        now = table[self._passed :]
        parts = zip(self.blocks, self._parts[buffer], self._parts[out], strict=True)
        for block, entries, target in parts:
            self._library.multiply(entries, block.by_age(now), out=target)


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
    parts: dict[tuple[int, int, Any], list[Block]] = {}
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
    return [Pool(settings[group], held, step) for (group, step, _), held in parts.items()]


def _blocks(parameter: nn.Parameter, axes: Mapping[int, Tensor], step: int) -> list[Block]:
    """Return the young rows and columns of a parameter with the ages of the entries.

    An entry in a young row and a young column is as old as the younger of the two.
    """
    library = _library(parameter)

    def held(array: NDArray[np.int64]) -> Array:
        return array if library is np else torch.from_numpy(array).to(parameter.device)

    ages = {dim: np.clip(step - along.numpy(), 0, YOUTH) for dim, along in axes.items()}
    found = []
    for dim, along in axes.items():
        positions = np.flatnonzero(along.numpy())
        own = ages | {dim: ages[dim][positions]}
        shape = torch.Size([*parameter.shape[:dim], len(positions), *parameter.shape[dim + 1 :]])
        reached = tuple(
            held(_along(values.astype(np.int64), axis, parameter.dim()))
            for axis, values in own.items()
        )
        found.append(Block(parameter, dim, held(positions), shape, reached, library))
    return found


def _along(values: NDArray[np.int64], dim: int, dims: int) -> NDArray[np.int64]:
    """Return a vector as an array whose other axes have length 1."""
    return values.reshape([-1 if axis == dim else 1 for axis in range(dims)])


def _library(tensor: Tensor) -> ModuleType:
    """Return numpy for tensors that it can read in place, else torch."""
    plain = type(tensor) in (Tensor, nn.Parameter) and tensor.device.type == "cpu"
    return np if plain and tensor.dtype in (torch.float32, torch.float64) else torch


@lru_cache(maxsize=64)
def _table(beta: float, power: float) -> Tensor:
    """Return 1 / (1 − βᵗ)^power by age t, in float64, falling from age 1 on; at birth 1.

    Old positions count as YOUTH steps old when a pool is made, and the pool ages as many steps.
    """
    values = [1.0, *(1 / (1 - beta**age) ** power for age in range(1, 2 * YOUTH + 1))]
    return torch.tensor(values, dtype=torch.float64)
