"""Attention with a single head, whose product runs over all channels; named after its source.

The form is that of `wirings.NETWORKS`: how it is built, the shape of its input, and its groups.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from wirings import BOTH, IMAGE, SHRINKS, TOKENS, Conv, Linear, Net


def nonlocal_block(m: Any, x: Tensor) -> Tensor:
    theta, phi, g = (layer(x).flatten(2) for layer in (m.theta, m.phi, m.g))
    weights = (theta.mT @ phi).softmax(-1)
    return m.out((g @ weights.mT).view(len(x), -1, *x.shape[2:])) + x


def separate(m: Any, x: Tensor) -> Tensor:
    q, k, v = m.q(x), m.k(x), m.v(x)
    return m.out((q @ k.transpose(1, 2) * m.scale).softmax(-1) @ v)


def chunked(m: Any, x: Tensor) -> Tensor:
    q, k, v = m.qkv(x).chunk(3, -1)
    return m.out(torch.einsum("nij,njd->nid", torch.einsum("nid,njd->nij", q, k).softmax(-1), v))


def sized(m: Any, x: Tensor) -> Tensor:
    q, k, v = m.qkv(x).split([m.size, m.size, m.value], -1)
    return m.out((torch.baddbmm(m.bias, q, k.mT, alpha=0.5)).softmax(-1) @ v)


def scaled_product(m: Any, x: Tensor) -> Tensor:
    return m.out(F.scaled_dot_product_attention(m.q(x), m.k(x), m.v(x), scale=m.scale))


def one_head(m: Any, x: Tensor) -> Tensor:
    q, k, v = (layer(x).unsqueeze(1) for layer in (m.q, m.k, m.v))
    return m.out(F.scaled_dot_product_attention(q, k, v, scale=m.scale).squeeze(1))


def rotated(m: Any, x: Tensor) -> Tensor:
    q, k = (
        t * m.cos + torch.cat([-t[..., t.shape[-1] // 2 :], t[..., : t.shape[-1] // 2]], -1)
        for t in (m.q(x), m.k(x))
    )
    return m.out((q @ k.mT).softmax(-1) @ m.v(x))


def with_itself(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    return m.out((y @ y.mT).softmax(-1) @ y)


def linears(scale: float | None = 0.3) -> dict[str, Any]:
    return {
        "scale": scale, "q": Linear(8, 6), "k": Linear(8, 6), "v": Linear(8, 4),
        "out": Linear(4, 3),
    }  # fmt: skip


PAIRS = {"q": f"6 neurons, {BOTH}", "v": f"4 neurons, {BOTH}"}
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, str]]] = {
    "queries, keys and values of images (non-local networks, SAGAN)": (
        lambda: Net(
            nonlocal_block, theta=Conv(3, 4, 1), phi=Conv(3, 4, 1), g=Conv(3, 5, 1),
            out=Conv(5, 3, 1),
        ),
        IMAGE, {"theta": f"4 channels, {BOTH}", "g": f"5 channels, {BOTH}"},
    ),
    "queries, keys and values of a single head": (
        lambda: Net(separate, **linears()), TOKENS, PAIRS
    ),
    "queries, keys and values in equal chunks": (
        lambda: Net(chunked, qkv=Linear(8, 18), out=Linear(6, 3)),
        TOKENS, {"qkv": f"6 sets of 3 neurons, {BOTH}"},
    ),
    "queries, keys and values of sizes of their own": (
        lambda: Net(
            sized, qkv=Linear(8, 16), out=Linear(4, 3), size=6, value=4, bias=torch.zeros(1, 5, 5)
        ),
        TOKENS, {"qkv": f"6 sets of 2 neurons, {BOTH}", "qkv:2": f"4 neurons, {BOTH}"},
    ),
    "fused attention with a scale of its own": (
        lambda: Net(scaled_product, **linears()), TOKENS, PAIRS
    ),
    "one head along an axis of length 1": (lambda: Net(one_head, **linears()), TOKENS, PAIRS),
    "fused attention, scaled by the number of channels": (
        lambda: Net(scaled_product, **linears(None)),
        TOKENS, {"q": f"6 neurons, {SHRINKS}", "v": f"4 neurons, {BOTH}"},
    ),
    "halves of a single head that are turned (rotary positions)": (
        lambda: Net(rotated, cos=0.5, **linears()),
        TOKENS, {"q": f"3 sets of 2 neurons, {BOTH}", "v": f"4 neurons, {BOTH}"},
    ),
    "a product of channels with themselves": (
        lambda: Net(with_itself, a=Linear(8, 6), out=Linear(6, 3)), TOKENS, {}
    ),
}  # fmt: skip
