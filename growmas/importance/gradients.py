"""Per-sample gradients of one parameter, in forms that are cheap to sum over samples."""

from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

PIECE = {"cpu": 2**18}
"""Elements of a product that is computed, made absolute and added while it is in cache."""

PIECE_ELSEWHERE = 2**24
"""The same on other devices, where few large calls are fastest: 64 MiB in float32."""


class Gradient(Protocol):
    """The gradients of N samples for one parameter, from one or several uses of it."""

    @property
    def elements(self) -> int:
        """Number of elements held for all N samples while they are summed."""
        ...

    def join(self, other: Self) -> "Gradient":
        """Return the sum with the gradients of another use of the parameter, sample by sample."""
        ...

    def dense(self, parameter: Tensor) -> Tensor:
        """Return the gradients as one tensor, [N, *shape of the parameter]."""
        ...

    def add_absolute(self, total: Tensor) -> None:
        """Add Σ_n |gradient of sample n| to `total`, of the parameter's shape."""
        ...


@dataclass(frozen=True, eq=False)
class Products:
    """Gradients Σ_p left_p ⊗ right_p of a weight that multiplies at P positions.

    Attributes:
        left: [N, G, P, O]; G blocks (a grouped convolution's), 1 usually.
        right: [N, G, P, I].
        transposed: The parameter is [.., I, O] instead of [.., O, I].
    """

    left: Tensor
    right: Tensor
    transposed: bool = False

    @property
    def elements(self) -> int:
        """Number of elements of both factors; products are computed in pieces."""
        n, groups, positions, rows = self.left.shape
        return n * groups * positions * (rows + self.right.shape[-1])

    def join(self, other: "Products") -> "Products":
        """Append the positions of another use."""
        left = torch.cat([self.left, other.left], dim=2)
        return Products(left, torch.cat([self.right, other.right], dim=2), self.transposed)

    def dense(self, parameter: Tensor) -> Tensor:
        """Return the products summed over positions."""
        left, right = (self.right, self.left) if self.transposed else (self.left, self.right)
        return (left.mT @ right).reshape(len(left), *parameter.shape)

    def add_absolute(self, total: Tensor) -> None:
        """Add Σ_n |gradient|: at one position |δ aᵀ| = |δ| |a|ᵀ, one matrix product for all n."""
        left, right = (self.right, self.left) if self.transposed else (self.left, self.right)
        groups, positions, rows = left.shape[1:]
        blocks = total.view(groups, rows, -1)
        for g in range(groups):
            if positions == 1:
                _add_outer(left[:, g, 0], right[:, g, 0], blocks[g])
            else:
                _add_products(left[:, g].mT, right[:, g], blocks[g])


def piece(device: torch.device) -> int:
    """Return the number of elements to compute at a time on `device`."""
    return PIECE.get(device.type, PIECE_ELSEWHERE)


def _add_outer(left: Tensor, right: Tensor, total: Tensor) -> None:
    """Add Σ_n |left_n| |right_n|ᵀ of [N, O] and [N, I] to `total` [O, I]."""
    step = max(64, piece(total.device) // (4 * total.shape[1] or 1))
    for some, others in zip(torch.split(left, step), torch.split(right, step), strict=True):
        total.addmm_(some.abs().mT, others.abs())


def _add_products(left: Tensor, right: Tensor, total: Tensor) -> None:
    """Add Σ_n |left_n right_n| of [N, O, P] and [N, P, I] to `total` [O, I]."""
    rows, columns = total.shape
    step = piece(total.device) // max(1, total.numel())
    if step > 1:
        for several, others in zip(torch.split(left, step), torch.split(right, step), strict=True):
            total += torch.bmm(several, others).abs_().sum(0)
        return
    width = max(1, piece(total.device) // rows)
    for start in range(0, columns, width):
        block = total[:, start : start + width]
        product = torch.empty(block.shape, dtype=total.dtype, device=total.device)
        for one, other in zip(left, right[..., start : start + width], strict=True):
            block += torch.mm(one, other, out=product).abs_()


@dataclass(frozen=True, eq=False)
class PerSample:
    """Gradients as plain tensors, of a small parameter such as a bias or the gain of a norm.

    Attributes:
        values: [N, *shape of the parameter].
    """

    values: Tensor

    @property
    def elements(self) -> int:
        """Number of elements of `values`."""
        return self.values.numel()

    def join(self, other: "PerSample") -> "PerSample":
        """Add the gradients of another use."""
        return PerSample(self.values + other.values)

    def dense(self, parameter: Tensor) -> Tensor:
        """Return the gradients in the shape of the parameter."""
        return self.values.reshape(len(self.values), *parameter.shape)

    def add_absolute(self, total: Tensor) -> None:
        """Add Σ_n |gradient|."""
        total += self.values.abs().sum(0).view_as(total)


@dataclass(frozen=True, eq=False)
class Rows:
    """Gradients that are zero except in a few rows of a large table.

    Attributes:
        indices: [N, P], the row read at each position; negative ones are ignored.
        values: [N, P, D], the gradient of that row.
    """

    indices: Tensor
    values: Tensor

    @property
    def elements(self) -> int:
        """Number of elements of the rows read and of their sums."""
        return 2 * self.values.numel()

    def join(self, other: "Rows") -> "Rows":
        """Append the positions of another use."""
        return Rows(
            torch.cat([self.indices, other.indices], dim=1),
            torch.cat([self.values, other.values], dim=1),
        )

    def dense(self, parameter: Tensor) -> Tensor:
        """Return the gradient of the whole table for every sample."""
        n = len(self.indices)
        read = self.indices >= 0
        table = self.values.new_zeros(n, *parameter.shape)
        sample = torch.arange(n, device=self.indices.device).unsqueeze(1).expand_as(read)
        where = (sample[read], self.indices[read])
        return table.index_put_(where, self.values[read], accumulate=True)

    def add_absolute(self, total: Tensor) -> None:
        """Add Σ_n |gradient|; rows that a sample reads several times are summed first."""
        n, positions = self.indices.shape
        sample = torch.arange(n, device=self.indices.device).unsqueeze(1)
        keys = (self.indices + sample * len(total)).flatten()
        read = (self.indices >= 0).flatten()
        keys, where = torch.unique(keys[read], return_inverse=True)
        summed = self.values.new_zeros(len(keys), self.values.shape[-1])
        summed.index_add_(0, where, self.values.reshape(n * positions, -1)[read])
        total.index_add_(0, keys % len(total), summed.abs_())
