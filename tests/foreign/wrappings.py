"""Kinds of networks that are wrapped in something: checkpoints, compilers, transforms, adapters.

They are entries of the table in `kinds`, as are some forms of attention that people write by hand.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from tests.foreign.kinds import Call, Drawn, activation, kind, normal, number, plain


@kind
def checkpoints() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        return self.head(checkpoint(self.body, x, use_reentrant=False))

    body = nn.Sequential(nn.Linear(4, 5), activation())
    return plain(Call(call, body=body, head=nn.Linear(5, 2)), normal(number(1, 5), 4))


@kind
def a_checkpoint_for_each_part() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        return checkpoint_sequential(self.body, 2, x, use_reentrant=False)

    body = nn.Sequential(nn.Linear(4, 4), activation(), nn.Linear(4, 4), activation())
    return plain(Call(call, body=body), normal(number(1, 5), 4))


@kind
def a_compiled_layer() -> Drawn:
    layer: Any = torch.compile(nn.Linear(4, 5), backend="eager")
    return plain(nn.Sequential(layer, activation(), nn.Linear(5, 2)), normal(number(1, 5), 4))


@kind
def a_data_parallel_network() -> Drawn:
    inner = nn.Sequential(nn.Linear(4, 5), activation(), nn.Linear(5, 2))
    return plain(nn.DataParallel(inner), normal(number(1, 5), 4))


@kind
def a_layer_mapped_over_samples() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        return torch.vmap(lambda row: self.layer(row).tanh())(x)

    return plain(Call(call, layer=nn.Linear(4, 3)), normal(number(1, 5), 4))


@kind
def a_layer_called_with_other_weights() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        doubled = {"weight": self.layer.weight * 2, "bias": self.layer.bias.exp()}
        return torch.func.functional_call(self.layer, doubled, (x,))

    return plain(Call(call, layer=nn.Linear(4, 3)), normal(number(1, 5), 4))


@kind
def orthogonal_weights_computed_once() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        with parametrize.cached():
            return self.layer(self.layer(x).tanh())

    layer = parametrizations.orthogonal(nn.Linear(4, 4))
    return plain(Call(call, layer=layer), normal(number(1, 5), 4))


@kind
def adapters_of_direction_and_length() -> Drawn:
    """DoRA: a low-rank change of the direction, and a length for every row."""

    def call(self: Any, x: Tensor) -> Tensor:
        weight = self.layer.weight + self.up.weight @ self.down.weight
        length = weight.norm(dim=1, keepdim=True).detach()
        return F.linear(x, self.length.weight * weight / length, self.layer.bias)

    parts = {
        "layer": nn.Linear(4, 5), "down": nn.Linear(4, 2, bias=False),
        "up": nn.Linear(2, 5, bias=False), "length": nn.Linear(1, 5, bias=False),
    }  # fmt: skip
    return plain(Call(call, **parts), normal(number(1, 5), 4))


@kind
def products_of_two_inputs() -> Drawn:
    """Bilinear layers have no rule; the compiler of `torch.func` maps over them one by one."""

    def call(self: Any, x: Tensor) -> Tensor:
        return self.layer(x, x.flip(1))

    return plain(Call(call, layer=nn.Bilinear(4, 4, 3)), normal(number(1, 5), 4))


@kind
def kernels_that_each_image_chooses() -> Drawn:
    """The images become groups of channels of a single image."""

    def call(self: Any, x: Tensor) -> Tensor:
        kernels = self.choose(x.mean((2, 3))).view(len(x) * 2, 3, 1, 1)
        joined = x.reshape(1, -1, *x.shape[2:])
        return F.conv2d(joined, kernels, groups=len(x)).view(len(x), 2, *x.shape[2:])

    return plain(Call(call, choose=nn.Linear(3, 6)), normal(number(1, 4), 3, 4, 4))


# Attention -----------------------------------------------------------------------------------


def attending(call: Any, tokens: int = 5, **options: Any) -> Drawn:
    attention = nn.MultiheadAttention(8, 2, batch_first=True, **options)
    model = Call(call, attention=attention)
    nn.init.normal_(attention.in_proj_bias)
    return plain(model, normal(number(1, 4), tokens, 8))


@kind
def attention_with_a_mask_for_each_head() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        mask = (x[:, :, :1] * x[:, None, :, 1]).repeat_interleave(2, 0)
        return self.attention(x, x, x, attn_mask=mask, need_weights=False)[0]

    return attending(call)


@kind
def attention_with_a_causal_mask_and_padding() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        causal = torch.full((5, 5), -torch.inf, dtype=x.dtype).triu(1)
        padding = torch.zeros(x.shape[:2], dtype=x.dtype)
        padding[:, -1] = -torch.inf
        y, weights = self.attention(
            x, x, x, attn_mask=causal, key_padding_mask=padding, need_weights=number(0, 1) == 1
        )
        return y if weights is None else y + 0 * weights.sum()

    return attending(call)


@kind
def attention_with_biases_for_keys() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]

    return attending(call, add_bias_kv=True)


@kind
def attention_sample_by_sample() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        return torch.stack([self.attention(row, row, row, need_weights=False)[0] for row in x])

    return attending(call)


@kind
def grouped_queries_turned_by_position() -> Drawn:
    def call(self: Any, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        angle = torch.arange(t, dtype=x.dtype)[:, None] * torch.tensor([1.0, 0.1], dtype=x.dtype)

        def turned(y: Tensor) -> Tensor:
            one, two = y.chunk(2, -1)
            pair = (one * angle.cos() - two * angle.sin(), one * angle.sin() + two * angle.cos())
            return torch.cat(pair, -1)

        q = self.queries(x).view(n, t, 4, 4).transpose(1, 2)
        k, v = (
            part.view(n, t, 2, 4).transpose(1, 2).repeat_interleave(2, 1)
            for part in self.others(x).chunk(2, -1)
        )
        mixed = F.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))

    parts = {"queries": nn.Linear(6, 16), "others": nn.Linear(6, 16), "out": nn.Linear(16, 3)}
    return plain(Call(call, **parts), normal(number(1, 4), number(2, 5), 6))
