"""Networks that cut their tensors with einops, or with layers that keep numbers as einops does.

The form is that of `wirings.NETWORKS`: how it is built, the shape of its input, and its groups.
Those that import einops are left out where it is not installed.
"""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from wirings import BOTH, IMAGE, TOKENS, Conv, Linear, Net

EINOPS = importlib.util.find_spec("einops") is not None
einops: Any = importlib.import_module("einops") if EINOPS else None


class Heads(nn.Module):
    """A stand-in for einops.layers.torch.Rearrange, with the same attributes."""

    def __init__(self, **lengths: int) -> None:
        super().__init__()
        self.axes_lengths = lengths
        self._axes_lengths = tuple(lengths.items())

    def forward(self, x: Tensor) -> Tensor:
        ((_, parts), (_, heads)) = self._axes_lengths
        return x.reshape(*x.shape[:2], parts, heads, -1).permute(2, 0, 3, 1, 4)


def stood_in(m: Any, x: Tensor) -> Tensor:
    q, k, v = m.qkv(x)
    return m.out(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2))


def attention(m: Any, x: Tensor) -> Tensor:
    """Attend as the modules of vit-pytorch do."""
    rearrange = einops.rearrange
    x = m.stem(x)
    for block in m.blocks:
        parts = block.qkv(x).chunk(3, dim=-1)
        q, k, v = (rearrange(t, "b n (h d) -> b h n d", h=block.heads) for t in parts)
        attended = (q @ k.transpose(-1, -2) * 0.4).softmax(-1) @ v
        x = x + block.out(rearrange(attended, "b h n d -> b n (h d)"))
    return m.head(x)


def fused(m: Any, x: Tensor) -> Tensor:
    rearrange = einops.rearrange
    q, k, v = rearrange(m.qkv(x), "b n (h k d) -> k b h n d", k=3, h=m.number)
    attended = F.scaled_dot_product_attention(q, k, v, scale=0.5)
    return m.out(rearrange(attended, "b h n d -> b n (h d)"))


def block() -> nn.Module:
    return Net(lambda m, x: x, qkv=Linear(6, 24), out=Linear(8, 6), heads=4)


def layer(pattern: str, **lengths: int) -> nn.Module:
    found: nn.Module = importlib.import_module("einops.layers.torch").Rearrange(pattern, **lengths)
    return found


HEADS = f"4 attention heads, {BOTH}"
Networks = dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, str]]]
NETWORKS: Networks = {
    "numbers in pairs with names, as einops has them": (
        lambda: Net(
            stood_in, qkv=nn.Sequential(Linear(8, 24), Heads(parts=3, h=4)), out=Linear(8, 3)
        ),
        TOKENS, {"qkv.0.heads": HEADS},
    ),
}  # fmt: skip
WITH_EINOPS: Networks = {
    "einops.rearrange in two equal blocks (vit-pytorch)": (
        lambda: Net(
            attention, stem=Linear(8, 6), blocks=nn.ModuleList([block(), block()]),
            head=Linear(6, 2),
        ),
        TOKENS, {"stem": f"6 neurons, {BOTH}", "blocks.0.heads": HEADS, "blocks.1.heads": HEADS},
    ),
    "einops.rearrange of queries, keys and values within heads": (
        lambda: Net(fused, qkv=Linear(8, 24), out=Linear(8, 3), number=4),
        TOKENS, {"qkv.heads": HEADS},
    ),
    "einops layers with numbers of their own": (
        lambda: Net(
            stood_in, out=Linear(8, 3),
            qkv=nn.Sequential(
                Linear(8, 24), layer("b n (k h d) -> k b h n d", k=3, h=4)
            ),
        ),
        TOKENS, {"qkv.0.heads": HEADS},
    ),
    "einops layers that cut patches (vit-pytorch)": (
        lambda: nn.Sequential(
            Conv(3, 6, 1), layer("b c (h p) (w q) -> b (h w) (p q c)", p=2, q=2), Linear(24, 5),
            nn.ReLU(), Linear(5, 2),
        ),
        IMAGE, {"0": f"6 channels, {BOTH}", "2": f"5 neurons, {BOTH}"},
    ),
}  # fmt: skip
if EINOPS:
    NETWORKS |= WITH_EINOPS
