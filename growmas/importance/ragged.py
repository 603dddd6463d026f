"""Ragged batches: tensors of rows that belong to samples unevenly, such as the nodes of graphs.

A worked example: two graphs of 2 and 1 nodes, `(x [3, 4], edges [2, 3], owner [0, 0, 1])`.

    x       has a row for each owner       sample 1 alone: x[2:3]
    edges   whole numbers below 3 in [2, E]   those between its nodes, renumbered: node 2 becomes 0
    owner                                  [0]

What a tensor is follows from its shape, so this is a guess. `cutting` uses it if the first and the
last sample alone give what they give in the batch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeGuard

import torch
from torch import Tensor

from growmas.errors import ImportanceError

Owner = Tensor | Callable[[Any], Tensor]
"""[R], the sample of each row; or a function from a batch to it."""

Role = Literal["rows", "owner", "edges", "edge rows", "samples"]
"""What a tensor of a ragged batch is."""


@dataclass(frozen=True, eq=False)
class Ragged:
    """A tensor of a ragged batch.

    Attributes:
        values: The tensor.
        role: What it is.
        owner: [R], the sample of each row of the batch.
        samples: N.
        edges: [2, E], pairs of rows; empty where there are none.
    """

    values: Tensor
    role: Role
    owner: Tensor
    samples: int
    edges: Tensor

    def part(self, index: slice) -> "Ragged":
        """Return the part of some samples, with rows and samples counted anew."""
        chosen = torch.arange(self.samples, device=self.owner.device)[index]
        number = torch.full((self.samples,), -1, device=self.owner.device)
        number[chosen] = torch.arange(len(chosen), device=self.owner.device)
        kept = number[self.owner] >= 0
        inside = kept[self.edges[0]] & kept[self.edges[1]]
        place = kept.cumsum(0) - 1
        owner, edges = number[self.owner][kept], place[self.edges[:, inside]]
        values = {
            "rows": lambda: self.values[kept],
            "owner": lambda: owner.to(self.values.dtype),
            "edges": lambda: edges.to(self.values.dtype),
            "edge rows": lambda: self.values[inside],
        }[self.role]()
        return replace(self, values=values, owner=owner, samples=len(chosen), edges=edges)


@dataclass(frozen=True, eq=False)
class Graphs:
    """A batch of torch-geometric, which can be taken apart by itself.

    Attributes:
        values: The batch.
        samples: N.
    """

    values: Any
    samples: int

    def part(self, index: slice) -> "Graphs":
        """Return a batch of some graphs."""
        graphs = [self.values.get_example(n) for n in range(self.samples)[index]]
        return Graphs(type(self.values).from_data_list(graphs), len(graphs))


def is_graphs(batch: Any) -> bool:
    """Return True if a batch can be taken apart into graphs as those of torch-geometric can."""
    return hasattr(batch, "get_example") and hasattr(type(batch), "from_data_list")


def edges_in(tensors: list[Tensor], rows: int) -> Tensor:
    """Return the first tensor [2, E] of pairs of rows; an empty one if there is none."""
    for tensor in tensors:
        whole = not tensor.is_floating_point() and tensor.dtype != torch.bool
        if whole and tensor.dim() == 2 and len(tensor) == 2 and tensor.numel():
            low, high = torch.aminmax(tensor)
            if low >= 0 and high < rows:
                return tensor.long()
    return torch.empty(2, 0, dtype=torch.long)


def roles_of(tensor: Tensor, owner: Tensor, edges: Tensor, samples: int) -> tuple[Role, ...]:
    """Return what a tensor may be by its shape; nothing if it is shared by all samples."""
    if tensor.dim() == 0:
        return ()
    if tensor.shape == owner.shape and torch.equal(tensor, owner.to(tensor)):
        return ("owner",)
    if edges.numel() and tensor.shape == edges.shape and torch.equal(tensor, edges.to(tensor)):
        return ("edges",)
    sizes: dict[Role, int] = {"rows": len(owner), "edge rows": edges.shape[1], "samples": samples}
    return tuple(role for role, size in sizes.items() if len(tensor) == size > 0)


def owner_of(batch: Any, owner: Owner | None) -> Tensor | None:
    """Return the sample of each row of a batch; None if its samples have one row each.

    Without `owner`, it is the attribute `batch` of a batch of torch-geometric, or the entry `batch`
    of a dict of arguments, if it counts up from 0.

    Raises:
        ImportanceError: It is not a vector of whole numbers.
    """
    found = _recognised(batch) if owner is None else owner(batch) if callable(owner) else owner
    if found is None and owner is None:
        return None
    if not _whole(found) or bool(found.min() < 0):
        came = f"{tuple(found.shape)} {found.dtype}" if isinstance(found, Tensor) else repr(found)
        raise ImportanceError(
            f"owner= gave {came:.80}: expected a vector of whole numbers >= 0, the sample of each "
            "row of the batch, such as owner=lambda batch: batch.batch"
        )
    return found.long()


def _recognised(batch: Any) -> Tensor | None:
    if isinstance(batch, tuple | list) and not hasattr(batch, "batch"):
        return _recognised(batch[0]) if batch else None
    found = batch.get("batch") if isinstance(batch, Mapping) else getattr(batch, "batch", None)
    if not _whole(found):
        return None
    return found if found[0] == 0 and bool((found.diff() >= 0).all()) else None


def _whole(found: Any) -> TypeGuard[Tensor]:
    """Return True if it is a vector of whole numbers that is not empty."""
    vector = isinstance(found, Tensor) and found.dim() == 1 and found.numel() > 0
    return vector and not found.is_floating_point() and found.dtype != torch.bool


def count_of(batch: Any, owner: Tensor) -> int:
    """Return the number of samples of a ragged batch."""
    named = getattr(batch, "num_graphs", None)
    return int(named) if isinstance(named, int) else int(owner.max()) + 1


def check_owner(owner: Owner | None) -> Owner | None:
    """Refuse an `owner` that is neither a tensor nor callable.

    Raises:
        ImportanceError: Names what was given.
    """
    if owner is not None and not isinstance(owner, Tensor) and not callable(owner):
        raise ImportanceError(
            f"owner={owner!r:.80}: expected the sample of each row as a tensor [R] of whole "
            "numbers, or a function from a batch to it, such as owner=lambda batch: batch.batch"
        )
    return owner
