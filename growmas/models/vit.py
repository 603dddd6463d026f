"""Small vision transformer."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from growmas.errors import ConfigError
from growmas.models.multihead import MultiHead
from growmas.structure import register_attention


class Attention(nn.Module):
    """Self-attention with one projection for queries, keys and values.

    Args:
        width: Numbers of a token.
        heads: Number of heads, a divisor of `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return [N, L, width] → [N, L, width]."""
        parts = self.qkv(tokens).view(*tokens.shape[:2], 3, self.heads, self.size)
        query, key, value = parts.transpose(1, 3).unbind(2)  # each [N, heads, L, size]
        scores = (query @ key.mT / self.size**0.5).softmax(-1)
        mixed: Tensor = self.out((scores @ value).transpose(1, 2).flatten(2))
        return mixed


register_attention(Attention, project={"qkv": 3}, output="out", heads="heads")


class Block(nn.Module):
    """Attention and a dense part, each after a layer norm and with a residual connection.

    Args:
        width: Numbers of a token.
        heads: Of the attention.
        hidden: Neurons of the dense part.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return [N, L, width] → [N, L, width]."""
        tokens = tokens + self.attention(self.norm1(tokens))
        dense: Tensor = self.fc2(F.gelu(self.fc1(self.norm2(tokens))))
        return tokens + dense


class ViT(MultiHead):
    """Patches of an image as tokens, transformer blocks, their mean, and a head for each task.

    After Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, with the mean of all
    tokens in place of a class token.

    >>> model = ViT((1, 8, 8), patch=4, width=16, depth=2, heads=2, hidden=32, head_sizes=[10])
    >>> [name for name, _ in model.named_children()]
    ['patches', 'place', 'block1', 'block2', 'norm', 'heads']

    Args:
        input_shape: of one sample, (channels, height, width), multiples of `patch`.
        patch: pixels of a side of a patch.
        width: numbers of a token, a multiple of `heads`.
        depth: number of blocks.
        heads: attention heads of a block.
        hidden: neurons of the dense part of a block.
        head_sizes: the number of outputs of each head.

    Raises:
        ConfigError: if the sizes do not fit together.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        hidden: int,
        head_sizes: Sequence[int],
    ) -> None:
        super().__init__()
        channels, height, columns = input_shape
        if height % patch or columns % patch:
            raise ConfigError(
                f"images of {height}×{columns} pixels cannot be cut into patches of {patch}: "
                "expected a divisor of both",
                key=("patch",),
            )
        if width % heads:
            raise ConfigError(
                f"width {width} cannot be shared by {heads} heads: expected a multiple",
                key=("width",),
            )
        self._blocks = depth
        self.patches = nn.Conv2d(channels, width, patch, patch)
        places = (height // patch) * (columns // patch)
        self.place = nn.Embedding(places, width)
        nn.init.normal_(self.place.weight, std=0.02)
        for index in range(1, depth + 1):
            self.add_module(f"block{index}", Block(width, heads, hidden))
        self.norm = nn.LayerNorm(width)
        self._add_dense(width, [], head_sizes)

    def features(self, inputs: Tensor) -> Tensor:
        """Return [N, channels, height, width] → [N, width]."""
        tokens = self.patches(inputs).flatten(2).transpose(1, 2)
        numbers = torch.arange(tokens.shape[1], device=inputs.device)
        tokens = tokens + self.place(numbers)
        for index in range(1, self._blocks + 1):
            tokens = self.get_submodule(f"block{index}")(tokens)
        mean: Tensor = self.norm(tokens).mean(1)
        return mean
