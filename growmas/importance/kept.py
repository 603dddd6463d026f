"""Kept values: what a tensor holds now, in memory that is shared until one side is written to.

A copy of every parameter would take as much memory as the gradients of a backward pass, although
hardly any model writes to its parameters while it is measured. torch can make the copy lazily
(copy-on-write): both tensors share their memory, and the first write through either of them, or
through a view of it such as `.data`, moves the one that is written to to memory of its own.
"""

from typing import Any

import torch
from torch import Tensor

ALONE = 2
"""References to the memory of a tensor that nothing else shares: its own, and the one asking."""


def kept(values: Tensor) -> Tensor:
    """Return what a tensor holds now, unaffected by later writes to it.

    On a CPU the memory is shared until then. A real copy is made where other tensors or arrays see
    the memory as well, since they would be cut off by a move, and where torch cannot share it, as
    with memory of numpy or of another process.
    """
    if values.device.type == "cpu" and _references(values) == ALONE:
        try:
            return torch._lazy_clone(values.detach())
        except (AttributeError, RuntimeError, TypeError):
            pass
    return values.detach().clone()


def unwritten(values: Tensor, before: Tensor) -> bool:
    """Return True if a tensor certainly still shares its memory with what was kept of it.

    False does not say that it was written to. A tensor without memory of its own, such as one that
    wraps other tensors, has the address 0 and shows nothing.
    """
    address: Any = getattr(torch._C, "_data_address", None)
    if address is None or not values.layout == before.layout == torch.strided:
        return False
    same = values.shape == before.shape and values.stride() == before.stride()
    return same and address(values) == address(before) != 0


def _references(values: Tensor) -> int:
    """Return the number of references to the memory of a tensor; 0 where torch does not tell."""
    try:
        storage = values.untyped_storage()
        return int(torch._C._storage_Use_Count(storage._cdata))
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return 0
