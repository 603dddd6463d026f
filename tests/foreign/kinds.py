"""Kinds of networks and batches that people have, drawn at random: a table for tests and studies.

Each kind draws a network, a batch, and its samples one by one, which the slow loop of
`tests/reference.py` takes. A kind whose samples influence each other has no samples: it must be
refused. The shapes are those of cases in Opacus, BackPACK, curvlinops, transformers and
torch-geometric, rebuilt small.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence

KINDS: dict[str, Callable[[], "Drawn"]] = {}
"""Name -> function that draws a network with the global random state."""


@dataclass
class Drawn:
    """A network and its data, in float64.

    Attributes:
        model: The network.
        batch: A batch.
        samples: The samples of the batch as batches of one; None: the network must be refused.
        forward: (model, batch) -> output, where it is not the plain call.
        options: Further arguments of `mas_importance`.
    """

    model: nn.Module
    batch: Any
    samples: list[Any] | None
    forward: Callable[[nn.Module, Any], Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)


def kind(draw: Callable[[], Drawn]) -> Callable[[], Drawn]:
    KINDS[draw.__name__.replace("_", " ")] = draw
    return draw


def number(low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, ()))


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def activation() -> nn.Module:
    return [nn.ReLU(), nn.Tanh(), nn.GELU(), nn.SiLU(), nn.ELU(), nn.Softplus()][number(0, 5)]


class Call(nn.Module):
    """A network whose forward is a function of its parts and the inputs."""

    def __init__(self, call: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.call = call

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.call(self, *inputs, **named)


def plain(model: nn.Module, batch: Tensor) -> Drawn:
    return Drawn(model.double(), batch, list(batch.split(1)))


def refused(model: nn.Module, batch: Any, forward: Any = None) -> Drawn:
    return Drawn(model.double(), batch, None, forward)


# Dense networks ------------------------------------------------------------------------------


@kind
def multilayer_perceptron() -> Drawn:
    widths = [number(1, 6) for _ in range(number(2, 5))]
    layers: list[nn.Module] = []
    for one, other in pairwise(widths):
        layers += [nn.Linear(one, other, bias=number(0, 1) == 1), activation()]
        if number(0, 2) == 0:
            layers.append(nn.LayerNorm(other))
    return plain(nn.Sequential(*layers), normal(number(1, 7), widths[0]))


@kind
def convolutional_network() -> Drawn:
    channels = 2 * number(1, 2)
    model = nn.Sequential(
        nn.Conv2d(channels, 4, number(1, 3), padding=number(0, 1)), activation(),
        nn.BatchNorm2d(4), nn.Conv2d(4, 6, 2, groups=2, stride=number(1, 2)), nn.GroupNorm(2, 6),
        activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2),
    )  # fmt: skip
    nn.init.uniform_(model[2].running_var, 0.5, 2.0)
    return plain(model, normal(number(1, 6), channels, 6, 5))


@kind
def transformer_layer() -> Drawn:
    layer = nn.TransformerEncoderLayer(
        8, 2, 12, batch_first=number(0, 1) == 1, norm_first=number(0, 1) == 1
    )

    def call(self: Any, x: Tensor) -> Tensor:
        if self.layer.self_attn.batch_first:
            return self.layer(x).mean(1)
        return self.layer(x.transpose(0, 1)).mean(0)

    return plain(Call(call, layer=layer), normal(number(1, 6), number(1, 6), 8))


@kind
def recurrent_layer() -> Drawn:
    cell = [nn.LSTM, nn.GRU, nn.RNN][number(0, 2)]
    layers, both = number(1, 2), number(0, 1) == 1
    first = number(0, 1) == 1
    model = cell(3, 4, layers, batch_first=first, bidirectional=both, bias=number(0, 3) > 0)

    def call(self: Any, x: Tensor) -> Tensor:
        out = self.cell(x if first else x.transpose(0, 1))[0]
        return self.head(out[:, -1] if first else out[-1])

    head = nn.Linear(8 if both else 4, 2)
    return plain(Call(call, cell=model, head=head), normal(number(1, 5), number(1, 5), 3))


@kind
def language_model_with_tied_head() -> Drawn:
    tokens, words = number(2, 5), 7

    def call(self: Any, x: Tensor) -> Tensor:
        hidden = self.words(x) + self.places(torch.arange(x.shape[1]))
        return F.linear(self.body(hidden).tanh(), self.words.weight)

    model = Call(
        call, words=nn.Embedding(words, 4), places=nn.Embedding(6, 4), body=nn.Linear(4, 4)
    )
    batch = torch.randint(words, (number(1, 5), tokens))
    return plain(model, batch)


@kind
def low_rank_adapter() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        return self.head((self.base(x) + 0.5 * self.up(self.down(x))).relu())

    model = Call(
        call, base=nn.Linear(5, 4), down=nn.Linear(5, 2, bias=False),
        up=nn.Linear(2, 4, bias=False), head=nn.Linear(4, 2),
    )  # fmt: skip
    model.base.requires_grad_(False)
    return plain(model, normal(number(1, 6), number(1, 3), 5))


# Samples that lie elsewhere ------------------------------------------------------------------


@kind
def tokens_flattened_with_samples() -> Drawn:
    width = number(1, 3)

    def call(self: Any, x: Tensor) -> Tensor:
        n, t, d = x.shape
        return self.layer(x.reshape(n * t, d)).reshape(n, t, width)

    return plain(Call(call, layer=nn.Linear(5, width)), normal(number(1, 6), number(1, 4), 5))


@kind
def tokens_outside_samples() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        n, t, d = x.shape
        rows = self.layer(x.transpose(0, 1).reshape(t * n, d)).tanh()
        return self.head(rows.reshape(t, n, 4).mean(0))

    model = Call(call, layer=nn.Linear(5, 4), head=nn.Linear(4, 2))
    return plain(model, normal(number(1, 5), number(1, 5), 5))


@kind
def windows() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        n, h, w, c = x.shape
        parts = x.view(n, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        mixed = self.mix(self.norm(parts)) + self.bias(parts).softmax(1)
        back = mixed.view(n, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
        return self.head(torch.roll(back, (1, 1), (1, 2)).mean((1, 2)))

    model = Call(
        call, mix=nn.Linear(3, 3), norm=nn.LayerNorm(3), bias=nn.Linear(3, 3), head=nn.Linear(3, 2)
    )
    return plain(model, normal(number(1, 4), 4, 2 * number(1, 2), 3))


@kind
def frames() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        n, t = x.shape[:2]
        seen = self.norm(self.conv(x.flatten(0, 1))).relu().mean((2, 3))
        return self.head(seen.view(n, t, -1).mean(1))

    model = Call(call, conv=nn.Conv2d(2, 4, 3), norm=nn.GroupNorm(2, 4), head=nn.Linear(4, 2))
    return plain(model, normal(number(1, 4), number(1, 3), 2, 4, 4))


@kind
def batch_in_another_order() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        order = x.sum((1, 2)).argsort()
        hidden = self.layer(x[order]).tanh()
        return self.head(hidden[order.argsort()]).mean(1)

    model = Call(call, layer=nn.Linear(4, 5), head=nn.Linear(5, 2))
    return plain(model, normal(number(1, 6), number(1, 4), 4))


@kind
def batch_reversed_and_back() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        return self.head(self.layer(x.flip(0)).tanh().flip(0))

    return plain(Call(call, layer=nn.Linear(4, 5), head=nn.Linear(5, 2)), normal(number(1, 6), 4))


@kind
def one_way_for_each_sample() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        return torch.stack([(self.up if float(row[0]) > 0 else self.down)(row) for row in x])

    return plain(Call(call, up=nn.Linear(4, 2), down=nn.Linear(4, 2)), normal(number(1, 6), 4))


# Rows that belong to samples unevenly --------------------------------------------------------


@kind
def masked_tokens() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        mask = x[..., 0] > self.level
        y = torch.zeros_like(x)
        y[mask] = self.layer(x[mask])
        return y.sum(1)

    model = Call(call, layer=nn.Linear(3, 3))
    model.level = float(torch.randn(())) / 2
    return plain(model, normal(number(1, 6), number(1, 6), 3))


@kind
def unpadding() -> Drawn:
    width = number(1, 3)

    def call(self: Any, x: Tensor, mask: Tensor) -> Tensor:
        rows = self.last(self.norm(self.first(x[mask]).relu()))
        padded = rows.new_zeros(*mask.shape, width)
        padded[mask] = rows
        return padded.sum(1) / mask.sum(1, keepdim=True)

    n, t = number(1, 6), number(1, 5)
    lengths = torch.randint(1, t + 1, (n,))
    mask = torch.arange(t) < lengths[:, None]
    model = Call(call, first=nn.Linear(3, 4), norm=nn.LayerNorm(4), last=nn.Linear(4, width))
    x = normal(n, t, 3)
    batch = {"x": x, "mask": mask}
    samples = [{"x": x[i : i + 1], "mask": mask[i : i + 1]} for i in range(n)]

    def forward(model: nn.Module, batch: Any) -> Any:
        return model(batch["x"], batch["mask"])

    return Drawn(model.double(), batch, samples, forward)


class Experts(nn.Module):
    """A router and experts; each token goes to its best `top`."""

    def __init__(self, experts: int, top: int, capacity: int | None = None) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 4)
        self.router = nn.Linear(4, experts, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 5), nn.SiLU(), nn.Linear(5, 4)) for _ in range(experts)
        )
        self.head = nn.Linear(4, 2)
        self.top, self.capacity = top, capacity

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        flat = self.inner(x).reshape(n * t, -1)
        weights, chosen = self.router(flat).softmax(-1).topk(self.top)
        out = torch.zeros_like(flat)
        for i, expert in enumerate(self.experts):
            rows, place = torch.where(chosen == i)
            rows, place = rows[: self.capacity], place[: self.capacity]
            out.index_add_(0, rows, expert(flat[rows]) * weights[rows, place, None])
        return self.head((flat + out).reshape(n, t, -1).mean(1))


@kind
def mixture_of_experts() -> Drawn:
    experts = number(2, 4)
    model = Experts(experts, number(1, 2))
    return plain(model, normal(number(1, 6), number(1, 5), 3))


@kind
def packed_sequences() -> Drawn:
    def call(self: Any, packed: PackedSequence) -> Tensor:
        hidden = packed._replace(data=self.layer(packed.data).tanh())
        padded, lengths = pad_packed_sequence(hidden, batch_first=True)
        return self.head(padded.sum(1) / lengths[:, None])

    model = Call(call, layer=nn.Linear(3, 4), head=nn.Linear(4, 2)).double()
    parts = [normal(number(1, 5), 3) for _ in range(number(1, 6))]
    return Drawn(
        model, pack_sequence(parts, enforce_sorted=False), [pack_sequence([p]) for p in parts]
    )


@kind
def packed_sequences_into_a_recurrent_layer() -> Drawn:
    cell = [nn.LSTM, nn.GRU, nn.RNN][number(0, 2)]
    both, whole = number(0, 1) == 1, number(0, 1) == 1

    def call(self: Any, packed: PackedSequence) -> Tensor:
        rows, last = self.cell(packed)
        if whole:
            return self.head(pad_packed_sequence(rows, batch_first=True)[0].sum(1))
        ends = last[0] if isinstance(last, tuple) else last
        return self.head(torch.cat(list(ends[-2:]), 1) if both else ends[-1])

    layer = cell(3, 4, number(1, 2), bidirectional=both, bias=number(0, 3) > 0)
    model = Call(call, cell=layer, head=nn.Linear(8 if both else 4, 2)).double()
    parts = [normal(number(1, 5), 3) for _ in range(number(1, 5))]
    return Drawn(
        model, pack_sequence(parts, enforce_sorted=False), [pack_sequence([p]) for p in parts]
    )


class Messages(nn.Module):
    """Nodes pass messages along edges; graphs are pooled by the owner of each node."""

    def __init__(self, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.embed, self.message = nn.Linear(3, 4), nn.Linear(4, 4)
        self.norm, self.head = norm or nn.Identity(), nn.Linear(4, 2)

    def forward(self, x: Tensor, edges: Tensor, owner: Tensor) -> Tensor:
        hidden = self.norm(self.embed(x)).relu()
        hidden = hidden.index_add(0, edges[1], self.message(hidden[edges[0]]).tanh())
        pooled = hidden.new_zeros(int(owner.max()) + 1, 4).index_add(0, owner, hidden)
        return self.head(pooled)


def graphs() -> tuple[tuple[Tensor, Tensor, Tensor], list[Any]]:
    singles, start = [], 0
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for n in range(number(2, 5)):
        nodes = number(1, 4)
        x, edges = normal(nodes, 3), torch.randint(nodes, (2, number(1, 5)))
        singles.append((x, edges, torch.zeros(nodes, dtype=torch.long)))
        parts.append((x, edges + start, torch.full((nodes,), n)))
        start += nodes
    xs, all_edges, owners = zip(*parts, strict=True)
    return (torch.cat(xs), torch.cat(all_edges, 1), torch.cat(owners)), singles


def spread(model: nn.Module, batch: Any) -> Any:
    return model(*batch)


@kind
def graph_batches() -> Drawn:
    batch, singles = graphs()
    return Drawn(Messages(nn.LayerNorm(4)).double(), batch, singles, spread)


@kind
def graph_batches_with_owners() -> Drawn:
    def call(self: Any, x: Tensor, edges: Tensor, weight: Tensor, batch: Tensor) -> Tensor:
        hidden = self.norm(self.embed(x)).relu() * self.odd(torch.ones_like(x[:, :1]))
        sent = self.message(hidden[edges[0]]).tanh() * weight[:, None]
        hidden = hidden.index_add(0, edges[1], sent)
        return self.head(hidden.new_zeros(int(batch.max()) + 1, 4).index_add(0, batch, hidden))

    (x, edges, owner), singles = graphs()
    model = Call(
        call, embed=nn.Linear(3, 4), message=nn.Linear(4, 4), norm=nn.LayerNorm(4),
        head=nn.Linear(4, 2), odd=Odd(4),
    )  # fmt: skip
    weights = list(torch.rand(edges.shape[1]).double().split([s[1].shape[1] for s in singles]))
    names = ("x", "edges", "weight", "batch")
    batch = dict(zip(names, (x, edges, torch.cat(weights), owner), strict=True))
    return Drawn(
        model.double(),
        batch,
        [
            dict(zip(names, (x, e, w, o), strict=True))
            for (x, e, o), w in zip(singles, weights, strict=True)
        ],
        lambda model, batch: model(**batch),
    )


@kind
def attention_over_packed_tokens() -> Drawn:
    def call(self: Any, x: Tensor, owner: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = (q @ k.mT).masked_fill(owner[:, None] != owner, -torch.inf)
        mixed = self.norm(x + scores.softmax(-1) @ v)
        return self.head(x.new_zeros(int(owner.max()) + 1, 3).index_add(0, owner, mixed))

    model = Call(call, qkv=nn.Linear(3, 9), norm=nn.LayerNorm(3), head=nn.Linear(3, 2))
    lengths = [number(1, 4) for _ in range(number(2, 5))]
    parts = [normal(length, 3) for length in lengths]
    owner = torch.repeat_interleave(torch.arange(len(parts)), torch.tensor(lengths))
    singles = [(part, torch.zeros(len(part), dtype=torch.long)) for part in parts]
    return Drawn(
        model.double(),
        (torch.cat(parts), owner),
        singles,
        spread,
        {"owner": lambda batch: batch[1]},
    )


@kind
def experts_with_room_for_all() -> Drawn:
    experts, n, t = number(2, 4), number(1, 6), number(1, 5)
    model = Experts(experts, number(1, experts), capacity=n * t)
    return plain(model, normal(n, t, 3))


# Expressions of parameters that are the same for all samples -----------------------------------


@kind
def relative_position_tables() -> Drawn:
    heads, side = number(1, 2), 2

    def call(self: Any, x: Tensor) -> Tensor:
        n, h, w, c = x.shape
        parts = x.view(n, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        qkv = self.qkv(parts).view(len(parts), 4, 3, heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.table.weight[self.index.view(-1)].view(4, 4, heads).permute(2, 0, 1)
        scores = qkv[0] @ qkv[1].mT + bias.contiguous().unsqueeze(0)
        mixed = (scores.softmax(-1) @ qkv[2]).transpose(1, 2).reshape(len(parts), 4, -1)
        return self.head(mixed.view(n, -1, mixed.shape[-1]).mean(1))

    model = Call(
        call,
        qkv=nn.Linear(3, 6 * heads),
        table=nn.Embedding(9, heads),
        head=nn.Linear(2 * heads, 2),
    )
    grid = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    offset = grid[:, None] - grid + 1
    model.register_buffer("index", offset[..., 0] * 3 + offset[..., 1])
    return plain(model, normal(number(1, 4), 2 * number(1, 2), 2 * number(1, 2), 3))


@kind
def normed_weights() -> Drawn:
    norm = torch.nn.utils.parametrizations.weight_norm
    if number(0, 1):
        spectral = torch.nn.utils.parametrizations.spectral_norm
        model = nn.Sequential(
            norm(nn.Linear(4, 5)), activation(), spectral(nn.Linear(5, 4)), activation(),
            nn.Linear(4, 2),
        )  # fmt: skip
        return plain(model, normal(number(1, 6), number(1, 3), 4))
    model = nn.Sequential(
        norm(nn.Conv1d(2, 4, 2, padding=1)), activation(), norm(nn.Conv1d(4, 3, 2, groups=1)),
        nn.Flatten(), nn.Linear(3 * 5, 2),
    )  # fmt: skip
    return plain(model, normal(number(1, 6), 2, 5))


@kind
def merged_adapters() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        weight = self.base.weight + 0.5 * self.up.weight @ self.down.weight
        return self.head(F.linear(x, weight, self.base.bias).relu())

    model = Call(
        call, base=nn.Linear(5, 4), down=nn.Linear(5, 2, bias=False),
        up=nn.Linear(2, 4, bias=False), head=nn.Linear(4, 2),
    )  # fmt: skip
    return plain(model, normal(number(1, 6), number(1, 3), 5))


@kind
def resized_positions() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        places = self.places.weight.T.unsqueeze(0)
        places = F.interpolate(places, x.shape[1], mode="linear").mT
        token = self.token.weight.unsqueeze(0).expand(len(x), -1, -1)
        tokens = torch.cat([token, self.layer(x) + places], 1)
        return self.head(self.norm(tokens).tanh().mean(1))

    model = Call(
        call, places=nn.Embedding(3, 4), token=nn.Embedding(1, 4), layer=nn.Linear(3, 4),
        norm=nn.LayerNorm(4), head=nn.Linear(4, 2),
    )  # fmt: skip
    return plain(model, normal(number(1, 5), number(1, 5), 3))


# Parameters that are used without a layer --------------------------------------------------------


class Weights(nn.Module):
    """Parameters without a layer, by name."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.randn(*shape)))


@kind
def matrices_without_a_layer() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        mixed = self.own.tokens @ x  # over tokens
        hidden = torch.matmul(torch.cat([x, mixed], 1)[:, -x.shape[1] :], self.own.up).relu()
        weights = (x @ self.own.query).softmax(1)
        pooled = (weights[..., None] * (hidden @ self.own.down)).sum(1)
        return pooled + x[:, 0].mm(self.own.skip)

    tokens = number(1, 4)
    own = Weights(tokens=(3, tokens), up=(4, 5), down=(5, 2), skip=(4, 2), query=(4,))
    return plain(Call(call, own=own), normal(number(1, 5), tokens, 4))


@kind
def einsums() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        heads = torch.einsum("ntd,hdk->nthk", x, self.own.heads).tanh()
        turned = torch.einsum("tnhk,khd->tnd", heads.transpose(0, 1), self.own.back)
        return torch.einsum("nd,rd,or->no", turned.mean(0), self.own.low, self.own.high)

    own = Weights(heads=(2, 4, 3), back=(3, 2, 4), low=(2, 4), high=(3, 2))
    return plain(Call(call, own=own), normal(number(1, 5), number(1, 4), 4))


@kind
def learnt_attention_masks() -> Drawn:
    tokens, way = number(1, 4), number(0, 2)

    def call(self: Any, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        probe = self.own.probe.repeat(n, 1, 1)
        q, k, v = self.qkv(x + probe).view(n, t, 3, 2, 2).permute(2, 0, 3, 1, 4)
        mask = self.own.mask
        mask = [mask, mask.unsqueeze(0), mask[0] * 2][way]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.head(mixed.transpose(1, 2).flatten(2).mean(1))

    own = Weights(mask=(2, tokens, tokens), probe=(1, 1, 4))
    model = Call(call, own=own, qkv=nn.Linear(4, 12), head=nn.Linear(4, 2))
    return plain(model, normal(number(1, 5), tokens, 4))


# Code that decides by the batch, and masks of unknown origin --------------------------------------


@kind
def mask_that_is_left_out_if_full() -> Drawn:
    def call(self: Any, x: Tensor, mask: Tensor) -> Tensor:
        scores = self.query(x) @ x.mT
        if not bool(mask.all()):
            longest = int(mask.sum(1).max())
            assert longest <= x.shape[1]
            scores = scores.masked_fill(~mask[:, None], -1e9)
        torch.rand([])  # drawn in vain
        hidden = torch.cat([torch.empty(0), (scores.softmax(-1) @ x).relu()], -2)
        hidden[:, :1] = hidden[:, :1] * 2
        kinds = self.kinds(torch.zeros(mask.shape, dtype=torch.long))
        return self.head(hidden + kinds).mean(1)

    n, t = number(1, 5), number(1, 4)
    model = Call(call, query=nn.Linear(4, 4), head=nn.Linear(4, 2), kinds=nn.Embedding(2, 4))
    mask = torch.arange(t) < torch.randint(1, t + 1, (n, 1))
    x = normal(n, t, 4)
    batch = {"x": x, "mask": mask}
    samples = [{"x": x[i : i + 1], "mask": mask[i : i + 1]} for i in range(n)]
    return Drawn(model.double(), batch, samples, lambda model, batch: model(**batch))


@kind
def mask_by_vmap() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1])
        allowed = torch.vmap(torch.vmap(lambda i, j: j <= i, (None, 0)), (0, None))(places, places)
        q, k, v = self.qkv(x)[:, None].chunk(3, -1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed[None, None])
        return self.head(self.norm(mixed[:, 0]).mean(1))

    model = Call(call, qkv=nn.Linear(4, 12), norm=nn.LayerNorm(4), head=nn.Linear(4, 2))
    return plain(model, normal(number(1, 5), number(2, 4), 4))


# Batches with more than samples --------------------------------------------------------------


@kind
def words_masks_and_positions() -> Drawn:
    def call(self: Any, ids: Tensor, mask: Tensor, cache_position: Tensor, mode: str) -> Tensor:
        hidden = self.words(ids) + self.places(cache_position)
        causal = torch.full((len(cache_position),) * 2, -torch.inf, dtype=torch.float64).triu(1)
        scores = hidden @ hidden.mT + causal
        scores = scores.masked_fill(~mask[:, None, :], -1e9)
        mixed = self.mix(scores.softmax(-1) @ hidden)
        return mixed.mean(1) if mode == "mean" else mixed[:, -1]

    n, t = number(1, 5), number(2, 5)
    model = Call(call, words=nn.Embedding(7, 4), places=nn.Embedding(6, 4), mix=nn.Linear(4, 3))
    shared = {"cache_position": torch.arange(t), "mode": ["mean", "last"][number(0, 1)]}
    ids, mask = torch.randint(7, (n, t)), torch.rand(n, t) < 0.8
    mask[:, 0] = True
    batch = {"ids": ids, "mask": mask, **shared}
    samples = [{"ids": ids[i : i + 1], "mask": mask[i : i + 1], **shared} for i in range(n)]
    return Drawn(model.double(), batch, samples, lambda model, batch: model(**batch))


# Models with habits --------------------------------------------------------------------------


class CachedBias(nn.Module):
    """LeViT's attention bias: indexed once in eval mode, and kept."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(tokens))
        self.register_buffer("index", torch.randint(tokens, (tokens, tokens)))
        self.cache: dict[str, Tensor] = {}
        self.mix, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def train(self, mode: bool = True) -> nn.Module:
        if mode:
            self.cache = {}
        return super().train(mode)

    def biases(self) -> Tensor:
        if self.training:
            return self.bias[self.index]
        if "cpu" not in self.cache:
            self.cache["cpu"] = self.bias[self.index]
        return self.cache["cpu"]

    def forward(self, x: Tensor) -> Tensor:
        weights = (x @ x.mT + self.biases()).softmax(-1)
        return self.head((weights @ self.mix(x)).mean(1))


@kind
def cache_in_eval_mode() -> Drawn:
    tokens = number(2, 4)
    return plain(CachedBias(tokens), normal(number(1, 5), tokens, 4))


@kind
def cache_that_is_filled() -> Drawn:
    tokens = number(2, 4)
    drawn = plain(CachedBias(tokens), normal(number(1, 5), tokens, 4))
    with torch.no_grad():
        drawn.model.eval()(drawn.batch)
    return drawn


@kind
def module_moved_inside() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        self.router = self.router.to(x.dtype)
        return self.head(x * torch.sin(self.router(x)) + self.odd(x))

    model = Call(call, router=nn.Linear(4, 4), odd=Odd(4), head=nn.Linear(4, 2))
    return plain(model, normal(number(1, 5), 4))


class Odd(nn.Module):
    """A parameter that no rule covers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sin(self.w)


@kind
def one_module_under_two_names() -> Drawn:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = Odd(8)
            self.skip = nn.Sequential(nn.Linear(4, 8), self.up)

        def forward(self, x: Tensor) -> Tensor:
            return self.up(self.skip(x))

    return plain(Twice(), normal(number(1, 5), 4))


@kind
def table_with_a_largest_norm() -> Drawn:
    model = nn.Sequential(nn.Embedding(9, 4, max_norm=1.0), nn.Flatten(), nn.Linear(12, 2))
    return plain(model, torch.randint(9, (number(1, 5), 3)))


@kind
def expressions_of_parameters() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        weight = F.normalize(self.layer.weight, dim=1) * self.odd.w.exp()
        return F.linear(x, weight, self.layer.bias).tanh()

    return plain(Call(call, layer=nn.Linear(4, 4), odd=Odd(4)), normal(number(1, 5), 4))


# Samples that influence each other -----------------------------------------------------------


def coupled(couple: Callable[[Tensor], Tensor], least: int = 3) -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        return self.head(couple(self.layer(x)).tanh())

    model = Call(call, layer=nn.Linear(4, 5), head=nn.Linear(5, 2))
    return refused(model, normal(number(least, 7), 4))


@kind
def company_from_the_third_on() -> Drawn:
    return coupled(lambda y: torch.cat([y[:2], y[2:] - y[:2].mean(0)]))


@kind
def detached_company_from_the_third_on() -> Drawn:
    return coupled(lambda y: torch.cat([y[:2], y[2:] - y[:2].mean(0).detach()]))


@kind
def first_two_changed_by_a_third() -> Drawn:
    return coupled(lambda y: y + y[2:].sum(0))


@kind
def batch_mean_taken_out() -> Drawn:
    return coupled(lambda y: y - y.mean(0), 2)


@kind
def batch_mean_behind_an_offset() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        y = self.layer(x)
        return y + 0.01 * y.mean(0) + 1e5

    return refused(Call(call, layer=nn.Linear(4, 3)), normal(number(2, 7), 4))


@kind
def batch_statistics() -> Drawn:
    model = nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.Linear(5, 2)
    )
    return refused(model, normal(number(2, 7), 4))


@kind
def graph_batches_with_batch_statistics() -> Drawn:
    norm = nn.BatchNorm1d(4, track_running_stats=False)
    return refused(Messages(norm), graphs()[0], spread)


@kind
def attention_between_samples() -> Drawn:
    def couple(y: Tensor) -> Tensor:
        return (y @ y.mT).softmax(-1) @ y

    return coupled(couple, 2)


@kind
def packed_tokens_that_all_attend() -> Drawn:
    drawn = attention_over_packed_tokens()

    def call(self: Any, x: Tensor, owner: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        mixed = self.norm(x + (q @ k.mT).softmax(-1) @ v)
        return self.head(x.new_zeros(int(owner.max()) + 1, 3).index_add(0, owner, mixed))

    drawn.model.call = call
    drawn.samples = None
    return drawn


@kind
def experts_with_too_little_room() -> Drawn:
    return refused(Experts(2, 2, capacity=2), normal(number(4, 6), number(3, 5), 3))


@kind
def graph_owners_with_a_mean_over_all_nodes() -> Drawn:
    drawn = graph_batches_with_owners()
    drawn.batch["x"] = drawn.batch["x"] + 1
    plain_forward = drawn.forward

    def forward(model: nn.Module, batch: Any) -> Any:
        assert plain_forward is not None
        return plain_forward(model, {**batch, "x": batch["x"] * batch["x"].mean(0)})

    return Drawn(drawn.model, drawn.batch, None, forward)


@kind
def zeros_that_are_written_to() -> Drawn:
    way = number(0, 5)

    def call(self: Any, x: Tensor) -> Tensor:
        weight = torch.zeros(len(x), 1, dtype=x.dtype)
        if way == 0:
            weight[0] = 1.0
        elif way == 1:
            weight.view(-1)[0].add_(1)
        elif way == 2:
            weight.numpy()[0] = 1.0
        elif way == 3:
            weight.data[:1] += 1.0
        elif way == 4:
            weight = torch.ones_like(weight).cumsum(0)
        else:
            weight = torch.cat([torch.ones_like(weight[:1]), weight[1:]])
        return self.layer(x) * weight

    return refused(Call(call, layer=nn.Linear(4, 2)), normal(number(3, 6), 4))


@kind
def another_function_if_the_mean_is_large() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        y = self.layer(x)
        return y * 2 if float(x.mean()) > 0.5 else y

    x = normal(number(3, 6), 4) / 10  # so that every part without the first decides otherwise
    x[0] += 20
    return refused(Call(call, layer=nn.Linear(4, 2)), x)


@kind
def mask_by_a_mean_over_the_batch() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        return self.layer(x).masked_fill(x[:, :2] > x.mean(), 0.0)

    x = normal(4, 4)
    x[::2] += 10
    return refused(Call(call, layer=nn.Linear(4, 2)), x)
