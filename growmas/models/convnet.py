"""Small convolutional network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from growmas.models.multihead import MultiHead, check_sizes


class ConvNet(MultiHead):
    """Convolution stages, dense ReLU layers, and a linear head for each task.

    A stage is a 3×3 convolution that keeps the size, batch normalisation, ReLU, and 2×2 max
    pooling where both sides are at least 2 pixels.

    >>> model = ConvNet((1, 8, 8), channels=[4, 8], hidden=16, head_sizes=[10])
    >>> [name for name, _ in model.named_children()]
    ['conv1', 'bn1', 'pool1', 'conv2', 'bn2', 'pool2', 'fc1', 'heads']

    Args:
        input_shape: of one sample, (channels, height, width).
        channels: the width of each stage.
        hidden: the width of each dense layer, or of the only one.
        head_sizes: the number of outputs of each head.

    Raises:
        ConfigError: if a width is not positive, or `channels` or `head_sizes` is empty.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        channels: Sequence[int],
        hidden: int | Sequence[int],
        head_sizes: Sequence[int],
    ) -> None:
        super().__init__()
        check_sizes("channels", channels, at_least=1)
        self._stages = len(channels)
        fan_in, height, width = input_shape
        for index, fan_out in enumerate(channels, start=1):
            pools = min(height, width) >= 2
            self.add_module(f"conv{index}", nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=False))
            self.add_module(f"bn{index}", nn.BatchNorm2d(fan_out))
            self.add_module(f"pool{index}", nn.MaxPool2d(2) if pools else nn.Identity())
            fan_in = fan_out
            if pools:
                height, width = height // 2, width // 2
        dense = [hidden] if isinstance(hidden, int) else hidden
        self._add_dense(fan_in * height * width, dense, head_sizes)

    def features(self, inputs: Tensor) -> Tensor:
        """Return [N, channels, height, width] → [N, the last stage's channels × its pixels]."""
        maps = inputs
        for index in range(1, self._stages + 1):
            maps = self.get_submodule(f"conv{index}")(maps)
            maps = torch.relu(self.get_submodule(f"bn{index}")(maps))
            maps = self.get_submodule(f"pool{index}")(maps)
        return maps.flatten(1)
