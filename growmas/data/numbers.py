"""Numbers that networks take, from the types in which inputs are stored."""

import torch
from torch import Tensor


def as_numbers(inputs: Tensor) -> Tensor:
    """Return inputs as a network takes them.

    Returns:
        float32, where uint8 is divided by 255; int64 for other whole numbers.
    """
    if inputs.dtype == torch.uint8:
        return inputs.float() / 255
    if inputs.is_floating_point() or inputs.dtype == torch.bool:
        return inputs.float()
    return inputs.long()
