"""Residual network for small images."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from growmas.models.multihead import MultiHead, check_sizes


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with batch normalisation, and a shortcut around them.

    Args:
        fan_in: Channels of the input.
        fan_out: Channels of the output.
        stride: Of the first convolution; 2 halves height and width.
    """

    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(fan_in, fan_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(fan_out)
        self.conv2 = nn.Conv2d(fan_out, fan_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(fan_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or fan_in != fan_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(fan_in, fan_out, 1, stride, bias=False), nn.BatchNorm2d(fan_out)
            )

    def forward(self, maps: Tensor) -> Tensor:
        """Return [N, fan_in, height, width] → [N, fan_out, height / stride, width / stride]."""
        hidden = torch.relu(self.bn1(self.conv1(maps)))
        return torch.relu(self.bn2(self.conv2(hidden)) + self.shortcut(maps))


class ResNet(MultiHead):
    """Stem, stages of residual blocks, mean over pixels, and a linear head for each task.

    Section 4.2 of He et al., "Deep Residual Learning for Image Recognition", CVPR 2016: channels
    (16, 32, 64) with n blocks a stage are its ResNet of 6n + 2 layers; shortcuts that change the
    number of channels are 1×1 convolutions.

    >>> model = ResNet((3, 32, 32), channels=[8, 16], blocks=1, head_sizes=[10])
    >>> [name for name, _ in model.named_children()]
    ['conv', 'bn', 'stage1', 'stage2', 'heads']

    Args:
        input_shape: of one sample, (channels, height, width).
        channels: the width of each stage; every stage but the first halves height and width.
        blocks: of each stage.
        head_sizes: the number of outputs of each head.

    Raises:
        ConfigError: if a width is not positive, or `channels` or `head_sizes` is empty.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        channels: Sequence[int],
        blocks: int,
        head_sizes: Sequence[int],
    ) -> None:
        super().__init__()
        check_sizes("channels", channels, at_least=1)
        self._stages = len(channels)
        self.conv = nn.Conv2d(input_shape[0], channels[0], 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels[0])
        fan_in = channels[0]
        for stage, width in enumerate(channels, start=1):
            made = []
            for block in range(blocks):
                made.append(BasicBlock(fan_in, width, 2 if stage > 1 and block == 0 else 1))
                fan_in = width
            self.add_module(f"stage{stage}", nn.Sequential(*made))
        self._add_dense(fan_in, [], head_sizes)

    def features(self, inputs: Tensor) -> Tensor:
        """Return [N, channels, height, width] → [N, width of the last stage]."""
        maps = torch.relu(self.bn(self.conv(inputs)))
        for stage in range(1, self._stages + 1):
            maps = self.get_submodule(f"stage{stage}")(maps)
        return maps.mean((2, 3))
