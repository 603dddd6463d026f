"""Networks whose code gives the width of one tensor to another; each named after its source.

The form is that of `wirings.NETWORKS`: how it is built, the shape of its input, and its groups.
"""

from collections.abc import Callable
from types import SimpleNamespace
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


class Configured(nn.Module):
    """transformers' Phi3Attention: fused, and cut by numbers of a shared configuration."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config, self.head_dim, self.num_key_value_heads = config, 2, 2
        self.qkv_proj, self.o_proj = Linear(6, 16), Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, _ = x.shape
        qkv, first = self.qkv_proj(x), self.config.num_attention_heads * self.head_dim
        second = first + self.num_key_value_heads * self.head_dim
        q, k, v = (
            part.view(n, tokens, -1, self.head_dim).transpose(1, 2)
            for part in (qkv[..., :first], qkv[..., first:second], qkv[..., second:])
        )
        k, v = (each.repeat_interleave(2, 1) for each in (k, v))
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.o_proj(attended.transpose(1, 2).reshape(n, tokens, -1))


class Viewed(nn.Module):
    """transformers' FunnelRelMultiheadAttention: views by numbers of a configuration."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.q, self.k, self.v, self.out = (Linear(6, 8) for _ in range(4))
        self.out = Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:2], self.config.num_attention_heads, self.config.size)
        q, k, v = (layer(x).view(shape).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return self.out(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2))


class Repeating(nn.Module):
    """transformers' GPTBigCodeAttention: one key and value, repeated for every query head."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.num_heads, self.num_key_value_groups, self.size = 4, 4, 2
        self.q, self.kv, self.out = Linear(6, 8), Linear(6, 4), Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, _ = x.shape
        q = self.q(x).view(n, tokens, -1, self.size).transpose(1, 2)
        k, v = (
            t[:, None, None]
            .expand(n, 1, self.num_key_value_groups, tokens, self.size)
            .reshape(n, -1, tokens, self.size)
            for t in self.kv(x).split(self.size, -1)
        )
        return self.out(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2))


def in_blocks(block: Callable[[Any], nn.Module]) -> nn.Module:
    config = SimpleNamespace(num_attention_heads=4, size=2, hidden_size=6)
    return Net(
        lambda m, x: m.head(m.second(m.first(m.stem(x)))),
        stem=Linear(8, 6), first=block(config), second=block(config), head=Linear(6, 2),
    )  # fmt: skip


def heads_of(number: int) -> dict[str, str]:
    both = {
        f"{block}.{name}": text
        for block in ("first", "second")
        for name, text in (
            ("heads", f"{number} attention heads, {BOTH}"),
            ("out", f"6 neurons, {BOTH}"),
        )
    }
    both["second.out"] = f"6 neurons, {BOTH}"
    return {"stem": f"6 neurons, {BOTH}", **both}


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
    "fused, cut by numbers of a shared configuration (transformers Phi3)": (
        lambda: in_blocks(Configured), TOKENS,
        {
            key.replace(".out", ".o_proj"): text for key, text in heads_of(2).items()
        },
    ),
    "viewed by numbers of a shared configuration (transformers Funnel)": (
        lambda: in_blocks(Viewed), TOKENS, heads_of(4),
    ),
    "one key and value that are repeated (transformers GPT BigCode, Gemma)": (
        lambda: in_blocks(Repeating), TOKENS, heads_of(4),
    ),
}  # fmt: skip
