"""Networks whose code gives the width of one tensor to another; each named after its source.

The form is that of `wirings.NETWORKS`: how it is built, the shape of its input, and its groups.
"""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from wirings import BOTH, IMAGE, SHRINKS, TOKENS, Conv, Linear, Net, parameter


def divided(m: Any, x: Tensor) -> Tensor:
    """Attend with heads whose size is the width of the path divided by their number."""
    x = m.stem(x)
    n, tokens, width = x.shape
    qkv = m.qkv(m.norm(x)).reshape(n, tokens, 3, m.heads, width // m.heads)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    attended = F.scaled_dot_product_attention(q, k, v, scale=0.5)
    x = x + m.proj(attended.transpose(1, 2).reshape(n, tokens, width))
    return m.head(m.norm2(x))


def cross_covariance(m: Any, x: Tensor) -> Tensor:
    """Attend over channels; only the last reshape gives the width of the path to the heads."""
    x = m.stem(x)
    n, tokens, width = x.shape
    q, k, v = m.qkv(x).reshape(n, tokens, 3, m.heads, -1).permute(2, 0, 3, 4, 1).unbind(0)
    weights = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)).softmax(-1)
    return m.head(m.proj((weights @ v).permute(0, 3, 1, 2).reshape(n, tokens, width)) + x)


def reduced(m: Any, x: Tensor) -> Tensor:
    """Attend to a smaller map, which is reshaped with the width of the larger one."""
    x = m.stem(x)
    n, width, height, _ = x.shape
    tokens = x.flatten(2).transpose(1, 2)
    small = m.norm(m.reduce(x).reshape(n, width, -1).permute(0, 2, 1))
    k, v = m.kv(small).reshape(n, -1, 2, m.heads, width // m.heads).permute(2, 0, 3, 1, 4)
    q = m.q(m.norm1(tokens)).reshape(n, -1, m.heads, width // m.heads).permute(0, 2, 1, 3)
    attended = F.scaled_dot_product_attention(q, k, v, scale=0.5)
    tokens = tokens + m.proj(attended.transpose(1, 2).reshape(n, height * height, width))
    return m.head(m.norm2(tokens))


def in_a_tuple(m: Any, x: Tensor) -> Tensor:
    """Attend with a table of positions, of which the shape is a tuple with the number of heads."""
    n, tokens, _ = x.shape
    q, k, v = m.qkv(x).reshape(n, tokens, 3, m.heads, m.size).permute(2, 0, 3, 1, 4).unbind(0)
    bias = m.table.view(m.shape).permute(2, 0, 1)
    weights = (q @ k.transpose(-2, -1) + bias).softmax(-1)
    return m.out((weights @ v).transpose(1, 2).reshape(n, tokens, m.heads * m.size))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, str]]] = {
    "heads of width // heads (timm ConViT, CaiT, DaViT, CrossViT)": (
        lambda: Net(
            divided, heads=3, stem=Linear(8, 12), norm=nn.LayerNorm(12), qkv=Linear(12, 36),
            proj=Linear(12, 12), norm2=nn.LayerNorm(12), head=Linear(12, 2),
        ),
        TOKENS,
        {"stem": f"3 attention heads with 4 neurons each, grows and {SHRINKS}"},
    ),
    "cross-covariance attention (timm XCiT, EdgeNeXt)": (
        lambda: Net(
            cross_covariance, heads=3, stem=Linear(8, 12), qkv=Linear(12, 36),
            proj=Linear(12, 12), head=Linear(12, 2),
        ),
        TOKENS,
        {"stem": f"3 attention heads with 4 neurons each, {BOTH}"},
    ),
    "a reduced map with the width of the path (PVT, Twins, SegFormer)": (
        lambda: Net(
            reduced, heads=3, stem=Conv(3, 12, 1), reduce=Conv(12, 12, 2, 2),
            norm=nn.LayerNorm(12), norm1=nn.LayerNorm(12), kv=Linear(12, 24), q=Linear(12, 12),
            proj=Linear(12, 12), norm2=nn.LayerNorm(12), head=Linear(12, 2),
        ),
        IMAGE,
        {"stem": f"3 attention heads with 4 channels each, {SHRINKS}"},
    ),
    "the number of heads in a tuple (timm RelPosBias)": (
        lambda: Net(
            in_a_tuple, heads=2, size=3, shape=(5, 5, 2), table=parameter(25, 2),
            qkv=Linear(8, 18), out=Linear(6, 2),
        ),
        TOKENS,
        {"qkv.heads": f"2 attention heads, {BOTH}"},
    ),
}  # fmt: skip
