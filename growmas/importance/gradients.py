"""Per-sample gradients of one parameter, in forms that are cheap to sum over samples."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, Self

import torch
from torch import Tensor

PIECE = {"cpu": 2**18}
"""Elements of a product that is computed, made absolute and added while it is in cache."""

BLOCK = 4
"""Pieces in a block of a product that is larger than a piece: its factors must be read again for
every block."""

WIDE = 2**14
"""Most columns for which a block is made of rows: thin products are slow."""

OUTER = 2**19
"""Elements of both factors of an outer product that are made absolute at a time, on a CPU."""

PIECE_ELSEWHERE = 2**24
"""The same on other devices, where few large calls are fastest: 64 MiB in float32."""


Power = Literal[1, 2]
"""1 for importance Ω, a sum of absolute values; 2 for Fisher information, a sum of squares."""

Gather = Callable[[Tensor], Tensor]
"""[rows, ...] -> [N, k, ...], the rows of each sample; missing ones are zero."""


class Gradient(Protocol):
    """The gradients of N samples for one parameter, from one or several uses of it."""

    @property
    def elements(self) -> int:
        """Number of elements held for all N samples while they are summed."""
        ...

    def join(self, other: Self) -> "Gradient":
        """Return the sum with the gradients of another use of the parameter, sample by sample."""
        ...

    def gathered(self, gather: "Gather") -> "Gradient":
        """Return the gradients by sample, from gradients by row."""
        ...

    def dense(self, parameter: Tensor) -> Tensor:
        """Return the gradients as one tensor, [N, *shape of the parameter]."""
        ...

    def add_to(self, total: Tensor, power: Power = 1) -> None:
        """Add Σ_n |gradient of sample n|^power to `total`, of the parameter's shape."""
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

    def gathered(self, gather: Gather) -> "Products":
        """Make the rows of a sample its positions."""

        def positions(factor: Tensor) -> Tensor:
            by_sample = gather(factor).transpose(1, 2)  # [N, G, k, P, width]
            return by_sample.flatten(2, 3)

        return Products(positions(self.left), positions(self.right), self.transposed)

    def add_to(self, total: Tensor, power: Power = 1) -> None:
        """Add Σ_n |gradient|^power; at one position |δ aᵀ| = |δ| |a|ᵀ, one product for all n."""
        left, right = (self.right, self.left) if self.transposed else (self.left, self.right)
        samples, groups, positions, rows = left.shape
        if positions == groups == 1:
            outer = (left.view(samples, -1), right.view(samples, -1))
            _add_outer(*outer, total.view(rows, -1), power)
            return
        blocks = total.view(groups, rows, -1)
        for g in range(groups):
            if positions == 1:
                _add_outer(left[:, g, 0], right[:, g, 0], blocks[g], power)
            else:
                _add_products(left[:, g].mT, right[:, g], blocks[g], power)


def piece(device: torch.device) -> int:
    """Return the number of elements to compute at a time on `device`."""
    return PIECE.get(device.type, PIECE_ELSEWHERE)


def magnitude(values: Tensor, power: Power) -> Tensor:
    """Return |values|^power."""
    return values.abs() if power == 1 else values.square()


def factor(values: Tensor, power: Power) -> Tensor:
    """Return |values|^power; values that are ≥ 0, as behind a ReLU, without a copy."""
    looks = power == 1 and values.device.type == "cpu" and values.numel() > 0
    if looks and bool(values[:1].amin() >= 0) and bool(values.amin() >= 0):
        return values
    return magnitude(values, power)


POSITIVE = frozenset({"ReluBackward0", "SigmoidBackward0", "SoftmaxBackward0"})
"""Autograd nodes whose results are ≥ 0."""


def is_positive(data: Tensor) -> bool:
    """Return True if the operation that made a tensor gives values ≥ 0 only."""
    node = data.grad_fn
    return node is not None and node.name() in POSITIVE


def magnitude_(values: Tensor, power: Power) -> Tensor:
    """Return |values|^power, computed in place."""
    return values.abs_() if power == 1 else values.square_()


def _accumulate(total: Tensor, values: Tensor, power: Power) -> None:
    """Add |values|^power, which are overwritten; squares take one pass over memory."""
    if power == 2:
        total.addcmul_(values, values)
    else:
        total += values.abs_()


def _add_outer(left: Tensor, right: Tensor, total: Tensor, power: Power) -> None:
    """Add Σ_n |left_n|^power (|right_n|^power)ᵀ of [N, O] and [N, I] to `total` [O, I]."""
    most = OUTER if total.device.type == "cpu" else PIECE_ELSEWHERE
    step = max(64, most // (left.shape[1] + right.shape[1]))
    if len(left) <= step:
        total.addmm_(magnitude(left, power).mT, factor(right, power))
        return
    for some, others in zip(torch.split(left, step), torch.split(right, step), strict=True):
        total.addmm_(magnitude(some, power).mT, factor(others, power))


def _add_products(left: Tensor, right: Tensor, total: Tensor, power: Power) -> None:
    """Add Σ_n |left_n right_n|^power of [N, O, P] and [N, P, I] to `total` [O, I]."""
    rows, columns = total.shape
    step = piece(total.device) // max(1, total.numel())
    if step > 1:
        for several, others in zip(torch.split(left, step), torch.split(right, step), strict=True):
            total += magnitude_(torch.bmm(several, others), power).sum(0)
        return
    large = BLOCK * piece(total.device)
    if columns <= WIDE:  # blocks of rows, which are contiguous
        height = max(1, large // columns)
        for start in range(0, rows, height):
            block = total[start : start + height]
            product = torch.empty_like(block)
            for one, other in zip(left[:, start : start + height], right, strict=True):
                _accumulate(block, torch.mm(one, other, out=product), power)
        return
    width = max(1, large // rows)
    for start in range(0, columns, width):
        block = total[:, start : start + width]
        product = torch.empty(block.shape, dtype=total.dtype, device=total.device)
        for one, other in zip(left, right[..., start : start + width], strict=True):
            _accumulate(block, torch.mm(one, other, out=product), power)


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

    def gathered(self, gather: Gather) -> "PerSample":
        """Sum the rows of each sample."""
        return PerSample(gather(self.values).sum(1))

    def add_to(self, total: Tensor, power: Power = 1) -> None:
        """Add Σ_n |gradient|^power."""
        total += magnitude(self.values, power).sum(0).view_as(total)


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

    def gathered(self, gather: Gather) -> "Rows":
        """Make the rows of a sample its positions; missing ones read no row."""
        indices = gather(self.indices + 1).flatten(1) - 1
        return Rows(indices, gather(self.values).flatten(1, 2))

    def add_to(self, total: Tensor, power: Power = 1) -> None:
        """Add Σ_n |gradient|^power; rows that a sample reads several times are summed first."""
        _, row, values = self.summed(len(total))
        total.index_add_(0, row, magnitude_(values, power))

    def summed(self, table: int) -> tuple[Tensor, Tensor, Tensor]:
        """Sum the reads of the same row by the same sample.

        Args:
            table: Number of rows of the table.

        Returns:
            Sample [R], row [R] and gradient [R, D] of every row read by a sample.
        """
        n, positions = self.indices.shape
        sample = torch.arange(n, device=self.indices.device).unsqueeze(1)
        keys = (self.indices + sample * table).flatten()
        read = (self.indices >= 0).flatten()
        keys, where = torch.unique(keys[read], return_inverse=True)
        summed = self.values.new_zeros(len(keys), self.values.shape[-1])
        summed.index_add_(0, where, self.values.reshape(n * positions, -1)[read])
        return keys // table, keys % table, summed


@dataclass(frozen=True, eq=False)
class TiedTable:
    """Gradients of a table that is read by rows and also multiplied with, as in language models.

    A sample reads few rows, so the products are summed for the whole table, and then the rows read
    are corrected: |product| is replaced by |product + gradient of the row|.

    Attributes:
        products: The gradients as a matrix, not transposed.
        rows: The gradients of the rows read.
    """

    products: Products
    rows: Rows

    @property
    def elements(self) -> int:
        """Number of elements of both."""
        return self.products.elements + 2 * self.rows.elements

    def join(self, other: "TiedTable") -> "TiedTable":
        """Append the positions of other uses."""
        return TiedTable(self.products.join(other.products), self.rows.join(other.rows))

    def gathered(self, gather: Gather) -> "TiedTable":
        """Make the rows of a sample its positions."""
        return TiedTable(self.products.gathered(gather), self.rows.gathered(gather))

    def dense(self, parameter: Tensor) -> Tensor:
        """Return the gradients of the whole table."""
        return self.products.dense(parameter) + self.rows.dense(parameter)

    def add_to(self, total: Tensor, power: Power = 1) -> None:
        """Add Σ_n |gradient|^power."""
        self.products.add_to(total, power)
        sample, row, values = self.rows.summed(len(total))
        left, right = self.products.left[:, 0], self.products.right[:, 0]  # [N, P, rows], [N, P, D]
        factors = left[sample, :, row]
        product = torch.bmm(factors.unsqueeze(1), right[sample]).squeeze(1)
        change = magnitude(product + values, power) - magnitude(product, power)
        total.index_add_(0, row, change)
