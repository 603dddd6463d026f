"""Foreign networks with attention and tied weights, rebuilt small, as `wirings` has others."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from wirings import BOTH, IMAGE, SHRINKS, TOKENS, VECTOR, Linear, Net, parameter


def attended(m: Any, x: Tensor) -> Tensor:
    x = m.a(x)
    return m.b(m.att(x, x, x)[0])


def crossed(m: Any, x: Tensor) -> Tensor:
    query, memory = m.a(x), m.m(x[:, :4])
    return m.b(m.att(query, memory, memory, need_weights=False)[0])


def three_ways(m: Any, x: Tensor) -> Tensor:
    return m.b(m.att(m.q(x[:, :3]), m.k(x), m.v(x))[0])


def causal(m: Any, x: Tensor) -> Tensor:
    mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
    return m.b(m.norm(m.encoder(m.a(x), mask=mask, is_causal=True)))


def translated(m: Any, x: Tensor) -> Tensor:
    return m.b(m.t(m.source(x), m.target(x[:, :3])))


def words_of(x: Tensor) -> Tensor:
    return x.mul(3).long().remainder(7)[..., 0]


def tied_embeddings(m: Any, x: Tensor) -> Tensor:
    memory = m.encoder_norm(m.encoder(words_of(x)))
    hidden = m.mix(m.decoder(words_of(-x))) + memory
    return m.head(m.norm(hidden))


def tied_head_without_a_layer(m: Any, x: Tensor) -> Tensor:
    return F.linear(m.body(m.words(words_of(x))).relu(), m.words.weight)


def sliced_weight(m: Any, x: Tensor) -> Tensor:
    rows = zip(m.w.chunk(2), m.c.chunk(2), strict=True)
    q, k = (F.linear(m.a(x), weight, bias) for weight, bias in rows)
    return m.b(q * k)


def beit(m: Any, x: Tensor) -> Tensor:
    n, tokens, _ = x.shape
    bias = torch.cat((m.q_bias, m.k_bias, m.v_bias))
    qkv = F.linear(x, m.qkv.weight, bias).reshape(n, tokens, 3, m.heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)
    scores = q @ k.mT * m.size**-0.5 + m.table[m.places].permute(2, 0, 1)
    return m.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, tokens, -1))


class Beit(nn.Module):
    """timm's beit.Attention: bias of the keys in a buffer, and a table with a column per head."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24, bias=False), nn.Linear(8, 3)
        self.q_bias, self.v_bias, self.table = parameter(8), parameter(8), parameter(9, 4)
        self.register_buffer("k_bias", torch.zeros(8), persistent=False)
        self.register_buffer("places", torch.arange(5)[:, None] - torch.arange(5) + 4)
        self.heads, self.size = 4, 2

    def forward(self, x: Tensor) -> Tensor:
        return beit(self, x)


def falcon(m: Any, x: Tensor) -> Tensor:
    n, tokens, _ = x.shape
    y = m.qkv(x).view(n, tokens, m.num_heads + 2, m.size).transpose(1, 2)
    q, k, v = y[:, :-2], y[:, [-2]], y[:, [-1]]
    weights = (q @ k.mT * m.size**-0.5).softmax(-1)
    return m.out((weights @ v).transpose(1, 2).reshape(n, tokens, m.num_heads * m.size))


def adapted(m: Any, x: Tensor) -> Tensor:
    return m.b((m.a(x) + 0.5 * m.up(m.down(x))).relu())


def messages(m: Any, x: Tensor) -> Tensor:
    nodes, edges = x.flatten(0, 1), torch.tensor([[0, 1, 2, 3, 4, 5], [1, 0, 3, 2, 9, 8]])
    y = m.a(nodes)
    y = torch.zeros_like(y).scatter_add_(0, edges[1, :, None].expand(-1, y.shape[1]), y[edges[0]])
    return m.b((y + m.c).relu())


def attention_to_neighbours(m: Any, x: Tensor) -> Tensor:
    nodes, edges = x.flatten(0, 1), torch.tensor([[0, 1, 2, 3, 4, 5], [1, 0, 3, 2, 9, 8]])
    y = m.a(nodes).view(-1, m.heads, m.size)
    scores = ((y * m.source).sum(-1)[edges[0]] + (y * m.target).sum(-1)[edges[1]]).sigmoid()
    y = torch.zeros_like(y).index_add(0, edges[1], y[edges[0]] * scores[..., None])
    return m.b(y.flatten(1))


class FrozenNorm(nn.Module):
    """torchvision's and detectron2's FrozenBatchNorm2d: everything is in buffers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        scale = (self.weight * (self.running_var + 1e-5).rsqrt()).view(1, -1, 1, 1)
        return x * scale + (
            self.bias.view(1, -1, 1, 1) - self.running_mean.view(1, -1, 1, 1) * scale
        )


class Standardised(nn.Module):
    """A table of means and deviations of features, as data pipelines put into models."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("mean", torch.randn(width))
        self.register_buffer("deviation", torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.deviation


class Positions(nn.Module):
    """The PyTorch tutorial's PositionalEncoding."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("table", torch.randn(1, 50, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table[:, : x.shape[1]]


def tied(**parts: nn.Module) -> dict[str, nn.Module]:
    """Give all parts with a table of words the first one's."""
    first = next(iter(parts.values()))
    for part in parts.values():
        if isinstance(part, nn.Embedding) or getattr(part, "out_features", 0) == 7:
            part.weight = first.weight  # type: ignore[assignment,union-attr]
    return dict(parts)


def transformer(norm_first: bool) -> nn.Module:
    options = {"dropout": 0.0, "batch_first": True, "norm_first": norm_first}
    layer = nn.TransformerEncoderLayer(8, 4, 12, **options)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return Net(causal, a=Linear(8, 8), encoder=encoder, norm=nn.LayerNorm(8), b=Linear(8, 2))


HEADS = f"4 attention heads, {BOTH}"
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, str]]] = {
    "nn.MultiheadAttention, packed": (
        lambda: Net(attended, a=Linear(8, 8), att=nn.MultiheadAttention(8, 4), b=Linear(8, 2)),
        TOKENS, {
            "a": f"8 neurons, {BOTH}", "att.heads": HEADS, "att.out_proj": f"8 neurons, {BOTH}"
        },
    ),
    "nn.MultiheadAttention, packed, of another input": (
        lambda: Net(
            crossed, a=Linear(8, 8), m=Linear(8, 8), b=Linear(8, 2),
            att=nn.MultiheadAttention(8, 4, bias=False, batch_first=True),
        ),
        TOKENS, {
            "a": f"8 neurons, {BOTH}", "att.heads": HEADS, "att.out_proj": f"8 neurons, {BOTH}"
        },
    ),
    "nn.MultiheadAttention, separate, with a learnt key and a zero one": (
        lambda: Net(
            three_ways, q=Linear(8, 8), k=Linear(8, 5), v=Linear(8, 6), b=Linear(8, 2),
            att=nn.MultiheadAttention(
                8, 4, kdim=5, vdim=6, add_bias_kv=True, add_zero_attn=True, batch_first=True
            ),
        ),
        TOKENS, {
            "q": f"8 neurons, {BOTH}", "k": f"5 neurons, {BOTH}", "v": f"6 neurons, {BOTH}",
            "att.heads": HEADS, "att.out_proj": f"8 neurons, {BOTH}",
        },
    ),
    "nn.TransformerEncoder": (
        lambda: transformer(norm_first=True),
        TOKENS, {
            "a": f"8 neurons, grows and {SHRINKS}",
            **{f"encoder.layers.{n}.self_attn.heads": HEADS for n in (0, 1)},
            **{f"encoder.layers.{n}.linear1": f"12 neurons, {BOTH}" for n in (0, 1)},
        },
    ),
    "nn.TransformerEncoder, post-norm": (
        lambda: transformer(norm_first=False),
        TOKENS, {
            "a": f"8 neurons, {SHRINKS}",
            **{f"encoder.layers.{n}.self_attn.heads": HEADS for n in (0, 1)},
            **{f"encoder.layers.{n}.linear1": f"12 neurons, {BOTH}" for n in (0, 1)},
        },
    ),
    "nn.Transformer": (
        lambda: Net(
            translated, source=Linear(8, 8), target=Linear(8, 8), b=Linear(8, 2),
            t=nn.Transformer(8, 4, 1, 1, 12, batch_first=True),
        ),
        TOKENS, {
            "source": f"8 neurons, {SHRINKS}",
            "t.encoder.layers.0.self_attn.heads": HEADS,
            "t.encoder.layers.0.linear1": f"12 neurons, {BOTH}",
            "t.decoder.layers.0.self_attn.heads": HEADS,
            "t.decoder.layers.0.multihead_attn.heads": HEADS,
            "t.decoder.layers.0.linear1": f"12 neurons, {BOTH}",
        },
    ),
    "tables of words that are one (transformers BART)": (
        lambda: Net(tied_embeddings, **tied(
            encoder=nn.Embedding(7, 6), decoder=nn.Embedding(7, 6), head=Linear(6, 7, bias=False),
            encoder_norm=nn.LayerNorm(6), norm=nn.LayerNorm(6), mix=Linear(6, 6),
        )),
        TOKENS, {"encoder": f"6 features, {SHRINKS}"},
    ),
    "a tied head without a layer (F.linear on a table of words)": (
        lambda: Net(tied_head_without_a_layer, words=nn.Embedding(7, 6), body=Linear(6, 6)),
        TOKENS, {"words": f"6 features, {BOTH}"},
    ),
    "slices of one weight": (
        lambda: Net(
            sliced_weight, w=parameter(12, 5), c=parameter(12), a=Linear(8, 5), b=Linear(6, 2)
        ),
        TOKENS, {"w": f"6 neurons, {BOTH}", "a": f"5 neurons, {BOTH}"},
    ),
    "one fused key and value for all queries (Falcon)": (
        lambda: Net(falcon, qkv=Linear(8, 36), out=Linear(24, 3), num_heads=4, size=6),
        TOKENS, {"qkv.heads": HEADS},
    ),
    "a low-rank adapter (peft LoRA)": (
        lambda: Net(
            adapted, a=Linear(6, 8), down=Linear(6, 3, bias=False), up=Linear(3, 8, bias=False),
            b=Linear(8, 2),
        ),
        VECTOR, {"a": f"8 neurons, {BOTH}", "down": f"3 neurons, {BOTH}"},
    ),
    "messages between nodes (torch_geometric GCNConv)": (
        lambda: Net(messages, a=Linear(8, 6), c=parameter(6), b=Linear(6, 2)),
        TOKENS, {"a": f"6 neurons, {BOTH}"},
    ),
    "attention to neighbours (torch_geometric GATConv)": (
        lambda: Net(
            attention_to_neighbours, a=Linear(8, 6), b=Linear(6, 2), heads=3, size=2,
            source=parameter(1, 3, 2), target=parameter(1, 3, 2),
        ),
        TOKENS, {"a": f"3 sets of 2 neurons, {BOTH}"},
    ),
    "a frozen norm (torchvision FrozenBatchNorm2d)": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3), FrozenNorm(8), nn.ReLU(), nn.Conv2d(8, 5, 3), FrozenNorm(5),
            nn.Conv2d(5, 2, 1),
        ),
        IMAGE, {"0": f"8 channels, {BOTH}", "3": f"5 channels, {BOTH}"},
    ),
    "features standardised by buffers": (
        lambda: nn.Sequential(Linear(6, 8), Standardised(8), Linear(8, 2)),
        VECTOR, {"0": f"8 neurons, {BOTH}"},
    ),
    "positions in a buffer (PyTorch tutorial)": (
        lambda: nn.Sequential(Linear(8, 6), Positions(6), nn.LayerNorm(6), Linear(6, 2)),
        TOKENS, {"0": f"6 neurons, grows and {SHRINKS}"},
    ),
    "a spectral norm in one place": (
        lambda: nn.Sequential(
            Linear(6, 8), nn.ReLU(), nn.utils.parametrizations.spectral_norm(Linear(8, 5)),
            nn.ReLU(), Linear(5, 7), nn.ReLU(), Linear(7, 2),
        ),
        VECTOR, {"4": f"7 neurons, {BOTH}"},
    ),
    "bias of queries, keys and values joined (BEiT)": (Beit, TOKENS, {"qkv.heads": HEADS}),
}  # fmt: skip
