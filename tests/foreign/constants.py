"""Networks with joined biases and with buffers along their channels; each named after its source.

The form is that of `wirings.NETWORKS`: how it is built, the shape of its input, and its groups.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from wirings import BOTH, IMAGE, SHRINKS, TOKENS, VECTOR, Conv, Linear, Net, linears, parameter


def attended(m: Any, qkv: Tensor) -> Tensor:
    n, tokens, _ = qkv.shape
    q, k, v = qkv.reshape(n, tokens, 3, m.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * m.scale.clamp(max=4.6).exp()
    return m.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, tokens, -1))


def made_zeros(m: Any, x: Tensor) -> Tensor:
    bias = torch.cat((m.q_bias, torch.zeros_like(m.v_bias, requires_grad=False), m.v_bias))
    return attended(m, F.linear(x, m.qkv.weight, bias))


def added_later(m: Any, x: Tensor) -> Tensor:
    qkv = m.qkv(x)
    qkv += torch.cat((m.q_bias, m.k_bias, m.v_bias))
    return attended(m, qkv)


def two_constants(m: Any, x: Tensor) -> Tensor:
    keys = torch.zeros(m.v_bias.shape)
    bias = torch.cat([keys, keys, m.v_bias]).view(1, 1, -1)
    return attended(m, m.qkv(x) + bias)


def divided(m: Any, x: Tensor) -> Tensor:
    """Attend behind a norm, and give the width of the path to what the heads give."""
    x = m.norm(m.stem(x))
    n, tokens, width = x.shape
    bias = torch.cat((m.q_bias, m.k_bias, m.v_bias))
    qkv = F.linear(x, m.qkv.weight, bias).reshape(n, tokens, 3, m.heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    bias = m.places(m.coordinates).view(-1, m.heads).T[:, None]
    scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT + bias
    x = x + m.norm1(m.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, tokens, width)))
    return m.head(x.reshape(n, 1, -1, width).flatten(1))


class Buffers(Net):
    """A network whose further tensors are buffers."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor], **parts: Any) -> None:
        held = {name: part for name, part in parts.items() if type(part) is Tensor}
        super().__init__(function, **{n: p for n, p in parts.items() if n not in held})
        for name, tensor in held.items():
            self.register_buffer(name, tensor, persistent=name != "k_bias")


def joined(function: Callable[[Any, Tensor], Tensor]) -> nn.Module:
    return Buffers(
        function, heads=4, qkv=Linear(8, 24, bias=False), out=Linear(8, 3), q_bias=parameter(8),
        k_bias=torch.zeros(8), v_bias=parameter(8), scale=parameter(4, 1, 1),
    )  # fmt: skip


def standardised(m: Any, x: Tensor) -> Tensor:
    scale = m.weight * (m.variance + 1e-5).rsqrt()
    y = m.a(x) * scale.view(1, -1, 1, 1) + (m.bias - m.mean * scale)[:, None, None]
    return m.b(y.relu())


def rotated(m: Any, x: Tensor) -> Tensor:
    n, tokens, _ = x.shape
    q, k, v = (layer(x).view(n, tokens, m.heads, m.size).mT for layer in (m.q, m.k, m.v))
    q, k, v = (each.mT.transpose(1, 2) for each in (q, k, v))
    q, k = (
        t * m.cos[:tokens] + torch.cat([-t[..., 1::2], t[..., ::2]], -1) * m.sin[:tokens]
        for t in (q, k)
    )
    return m.out(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2))


HEADS = f"4 attention heads, {BOTH}"
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, str]]] = {
    "biases joined with zeros that are made (Swin V2)": (
        lambda: joined(made_zeros), TOKENS, {"qkv.heads": HEADS}
    ),
    "joined biases that are added later (timm qkv_bias_separate)": (
        lambda: joined(added_later), TOKENS, {"qkv.heads": HEADS}
    ),
    "a bias joined with two constants": (
        lambda: joined(two_constants), TOKENS, {"qkv.heads": HEADS}
    ),
    "joined biases behind a norm, positions from a buffer (timm Swin V2)": (
        lambda: Buffers(
            divided, heads=3, stem=Linear(8, 12), norm=nn.LayerNorm(12), norm1=nn.LayerNorm(12),
            qkv=Linear(12, 36, bias=False), q_bias=parameter(12), k_bias=torch.zeros(12),
            v_bias=parameter(12), places=Linear(2, 3), coordinates=torch.randn(5, 2),
            proj=Linear(12, 12), head=Linear(60, 2),
        ),
        TOKENS, {"stem": f"3 attention heads with 4 neurons each, grows and {SHRINKS}"},
    ),
    "a norm of buffers without a module (frozen batch norms)": (
        lambda: Buffers(
            standardised, a=Conv(3, 8, 1), b=Conv(8, 2, 1), weight=torch.rand(8) + 0.5,
            bias=torch.randn(8), mean=torch.randn(8), variance=torch.rand(8) + 0.5,
        ),
        IMAGE, {"a": f"8 channels, {BOTH}"},
    ),
    "a gain and an offset in buffers": (
        lambda: Buffers(
            lambda m, x: m.b((m.a(x) * m.gain - m.shift).tanh()), gain=torch.rand(8) + 0.5,
            shift=torch.randn(1, 8), **linears(6, 8, 2),
        ),
        VECTOR, {"a": f"8 neurons, {BOTH}"},
    ),
    "positions in a buffer before a norm (PyTorch tutorial)": (
        lambda: Buffers(
            lambda m, x: m.b(m.norm(m.a(x) + m.table[:, : x.shape[1]])),
            table=torch.randn(1, 9, 6), norm=nn.LayerNorm(6), **linears(8, 6, 2),
        ),
        TOKENS, {"a": f"6 neurons, grows and {SHRINKS}"},
    ),
    "angles in buffers, the same for all heads (rotary positions)": (
        lambda: Buffers(
            rotated, heads=4, size=2, q=Linear(8, 8), k=Linear(8, 8), v=Linear(8, 8),
            out=Linear(8, 3), cos=torch.randn(9, 2), sin=torch.randn(9, 2),
        ),
        TOKENS, {"q.heads": HEADS},
    ),
}  # fmt: skip
