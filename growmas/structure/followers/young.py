"""Young entries: rows and columns of parameters with a bias correction of their own under Adam.

Adam's update of an entry with the moments m and v at the step s of its tensor is

    lr · m / (1 − β₁ˢ) / (√v / √(1 − β₂ˢ) + ε).

For an entry of age t it should have t in the place of s. All young entries of the parameters that
share a step are gathered into one vector, so that the difference of the two updates costs some
twenty operations whatever the number of units, and is added to the parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

YOUTH = 100
"""Steps for which an entry has a correction of its own; 1 − 0.9¹⁰⁰ differs from 1 by 3e-5."""

_SHARED = YOUTH + 1
"""Age that stands for the step of the whole tensor: no correction."""


@dataclass(frozen=True, eq=False)
class Block:
    """Positions along one axis of one parameter.

    Attributes:
        parameter: The parameter.
        dim: The axis.
        positions: [k] int64, on the parameter's device.
        shape: Shape of the entries.
    """

    parameter: nn.Parameter
    dim: int
    positions: Tensor
    shape: torch.Size

    def of(self, tensor: Tensor) -> Tensor:
        """Return the entries of a tensor of the parameter's shape, flat."""
        return tensor.index_select(self.dim, self.positions).reshape(-1)

    def add(self, tensor: Tensor, entries: Tensor) -> None:
        """Add flat entries to a tensor."""
        tensor.index_add_(self.dim, self.positions, entries.view(self.shape))

    def write(self, tensor: Tensor, entries: Tensor) -> None:
        """Write flat entries into a tensor."""
        tensor.index_copy_(self.dim, self.positions, entries.view(self.shape))


@dataclass(eq=False)
class Pool:
    """Young entries of parameters of one parameter group that are at the same step.

    Attributes:
        group: The parameter group, with its settings.
        blocks: The entries.
        sizes: Number of entries of each block.
        step: Step of their parameters.
        age: [n] int64, age of each entry; `_SHARED` for those that another block has too.
        growing: [n] int64, 1 for entries that grow older, else 0.
        oldest: Largest age.
        tables: 1/(1 − β₁ᵗ) and 1/√(1 − β₂ᵗ) by age t.
    """

    group: Mapping[str, Any]
    blocks: list[Block]
    sizes: list[int]
    step: int
    age: Tensor
    growing: Tensor
    oldest: int
    tables: tuple[Tensor, Tensor]

    @property
    def stepped(self) -> bool | None:
        """True if the optimizer moved these parameters, which have gradients; None for some."""
        found = {block.parameter.grad is not None for block in self.blocks}
        return found.pop() if len(found) == 1 else None

    def correct(self, optimizer: Optimizer) -> None:
        """Give every young entry the update of its own age in place of the shared one."""
        self.step += 1
        self.age += self.growing
        beta1, beta2 = map(float, self.group["betas"])
        first, second = 1 - beta1**self.step, (1 - beta2**self.step) ** 0.5
        for table, shared in zip(self.tables, (1 / first, 1 / second), strict=True):
            table[_SHARED] = shared
        states = [optimizer.state[block.parameter] for block in self.blocks]
        squares = "max_exp_avg_sq" if self.group["amsgrad"] else "exp_avg_sq"
        m = torch.cat([b.of(s["exp_avg"]) for b, s in zip(self.blocks, states, strict=True)])
        root = torch.cat([b.of(s[squares]) for b, s in zip(self.blocks, states, strict=True)])
        root.sqrt_()
        own_m, own_v = (table.index_select(0, self.age) for table in self.tables)
        eps = self.group["eps"]
        own = own_v.mul_(root).add_(eps)
        own_update = own_m.mul_(m).div_(own)
        shared_update = m.mul_(1 / first).div_(root.mul_(1 / second).add_(eps))
        change = shared_update.sub_(own_update).mul_(self.group["lr"])
        for block, part in zip(self.blocks, torch.split(change, self.sizes), strict=True):
            block.add(block.parameter, part)

    def retire(self, optimizer: Optimizer) -> None:
        """Scale v of entries at the end of their youth, so that the shared step corrects it."""
        beta2 = float(self.group["betas"][1])
        factor = (1 - beta2**self.step) / (1 - beta2**YOUTH)
        done = (self.age >= YOUTH) & (self.age < _SHARED)
        scale = torch.where(done, factor, 1.0).to(self.tables[0])
        for block, part in zip(self.blocks, torch.split(scale, self.sizes), strict=True):
            state = optimizer.state[block.parameter]
            for key in ("exp_avg_sq", "max_exp_avg_sq"):
                if key in state:
                    block.write(state[key], block.of(state[key]) * part)


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
    parts: dict[tuple[int, int, Any], list[tuple[Block, Tensor]]] = {}
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
    return [_pool(settings[group], step, held) for (group, step, _), held in parts.items()]


def _pool(group: Mapping[str, Any], step: int, parts: list[tuple[Block, Tensor]]) -> Pool:
    blocks = [block for block, _ in parts]
    like = blocks[0].parameter
    age = torch.cat([ages for _, ages in parts]).to(like.device)
    young = age < _SHARED
    tables = tuple(
        torch.tensor(
            [1.0, *(1 / (1 - float(beta) ** t) ** power for t in range(1, _SHARED + 1))],
            dtype=like.dtype,
            device=like.device,
        )
        for beta, power in zip(group["betas"], (1.0, 0.5), strict=True)
    )
    return Pool(
        group,
        blocks,
        sizes=[len(ages) for _, ages in parts],
        step=step,
        age=age,
        growing=young.long(),
        oldest=int(age[young].max()) if bool(young.any()) else 0,
        tables=(tables[0], tables[1]),
    )


def _blocks(
    parameter: nn.Parameter, axes: Mapping[int, Tensor], step: int
) -> list[tuple[Block, Tensor]]:
    """Return the young rows and columns of a parameter with the age of every entry.

    An entry in a young row and a young column is as old as the younger of the two. It belongs to
    the first axis, and has the age `_SHARED` in the blocks of others.
    """
    found = []
    earlier: list[int] = []
    for dim, along in axes.items():
        positions = (along > 0).nonzero().squeeze(1)
        births = along[positions].view(_along(parameter, dim, len(positions)))
        taken = torch.zeros((), dtype=torch.bool)
        for other, across in axes.items():
            if other == dim:
                continue
            across = across.view(_along(parameter, other, len(across)))
            births = torch.maximum(births, across)
            if other in earlier:
                taken = taken | (across > 0)
        shape = list(parameter.shape)
        shape[dim] = len(positions)
        ages = torch.where(taken, _SHARED, (step - births).clamp(0, YOUTH).long())
        block = Block(parameter, dim, positions.to(parameter.device), torch.Size(shape))
        found.append((block, ages.expand(shape).reshape(-1)))
        earlier.append(dim)
    return found


def _along(parameter: nn.Parameter, dim: int, length: int) -> list[int]:
    return [length if axis == dim else 1 for axis in range(parameter.dim())]
