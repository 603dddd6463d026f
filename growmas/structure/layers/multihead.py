"""Multi-head attention with any number of heads, which torch's ties to the width of its input.

`nn.MultiheadAttention` has as many rows for queries as its input has channels, and divides them
into heads; its forward pass refuses anything else. The first edit that needs something else turns
the module, in place, into a `MultiheadAttention` as below: the same parameters under the same
names, the same arguments, the same function, and the size of a head, which stays, instead of the
width of the input divided by the number of heads. It is still an `nn.MultiheadAttention`, and
transformer layers of torch that hold it leave their fused path, which works with the other kind
only, by themselves.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from growmas.structure.layers.axes import Side, Size


class MultiheadAttention(nn.MultiheadAttention):
    """Attention whose heads have a size of their own.

    Attributes:
        head_dim: Channels of a head.
        num_heads: Number of heads.
        embed_dim: Channels of the queries.
        kdim: Channels of the keys.
        vdim: Channels of the values.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend as `nn.MultiheadAttention.forward`, which documents the arguments."""
        if query.is_nested:
            return self._nested(query, attn_mask, is_causal), None
        batched = query.dim() == 3
        if not batched:
            query, key, value = (each.unsqueeze(0) for each in (query, key, value))
            if key_padding_mask is not None:
                key_padding_mask = key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (each.transpose(0, 1) for each in (query, key, value))
        q, k, v = self._projected(query, key, value)
        mask = self._mask(attn_mask, key_padding_mask, q, k)
        p = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q * self.head_dim**-0.5 @ k.mT
            scores = scores if mask is None else scores + mask
            weights = F.dropout(scores.softmax(-1), p, self.training)
            attended = weights @ v
        else:
            attended = F.scaled_dot_product_attention(q, k, v, mask, p)
        output: Tensor = self.out_proj(attended.transpose(1, 2).flatten(-2))
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            return output.squeeze(0), weights if weights is None else weights.squeeze(0)
        return output if self.batch_first else output.transpose(0, 1), weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """Return queries, keys and values, [N, heads, tokens, size of a head]."""
        packed = self._parameters["in_proj_weight"]
        weights = (
            (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
            if packed is None
            else packed.chunk(3)
        )
        bias = self._parameters["in_proj_bias"]
        biases = (None, None, None) if bias is None else bias.chunk(3)
        q, k, v = map(F.linear, (query, key, value), weights, biases)
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.expand(len(k), -1, -1)], 1)
            v = torch.cat([v, self.bias_v.expand(len(v), -1, -1)], 1)
        size = self.head_dim
        heads = [torch.unflatten(t, -1, (-1, size)).transpose(1, 2) for t in (q, k, v)]
        if self.add_zero_attn:
            heads[1:] = [F.pad(each, (0, 0, 0, 1)) for each in heads[1:]]
        return tuple(heads)

    def _mask(
        self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, q: Tensor, k: Tensor
    ) -> Tensor | None:
        """Return what is added to the scores, [N, heads, tokens, keys] or broadcast to it."""
        total = None
        if attn_mask is not None:
            total = _added(attn_mask, q.dtype)
            if total.dim() == 3:
                total = total.view(len(q), -1, *total.shape[-2:])
        if key_padding_mask is not None:
            padding = _added(key_padding_mask, q.dtype)[:, None, None]
            total = padding if total is None else total + padding
        if total is not None and total.shape[-1] < k.shape[-2]:
            total = F.pad(total, (0, k.shape[-2] - total.shape[-1]))
        return total

    def _nested(self, query: Tensor, attn_mask: Tensor | None, is_causal: bool) -> Tensor:
        """Attend over sequences of different lengths, as `nn.TransformerEncoder` packs them."""
        lengths = [len(each) for each in query.unbind()]
        padded = query.to_padded_tensor(0.0)
        places = torch.arange(padded.shape[1], device=padded.device)
        mask = places >= torch.tensor(lengths, device=padded.device)[:, None]
        output, _ = self(padded, padded, padded, mask, False, attn_mask, is_causal=is_causal)
        rows = [each[:length] for each, length in zip(output, lengths, strict=True)]
        return torch.nested.as_nested_tensor(rows)


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask as something to add to scores."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -torch.inf)


def sizes_of_weight(module: nn.Module, name: str, side: Side) -> tuple[Size, ...]:
    """Return the attributes that change with one side of a weight of an attention module.

    Args:
        module: Any module; all others than `nn.MultiheadAttention` have none.
        name: Name of the weight in the module.
        side: "out" for its rows, "in" for its columns.
    """
    if not isinstance(module, nn.MultiheadAttention):
        return ()
    own = (Size("__class__", _class_of), Size("_qkv_same_embed_dim", lambda m, n: False))
    if side == "in":
        names = {
            "in_proj_weight": ("embed_dim", "kdim", "vdim"),
            "q_proj_weight": ("embed_dim",),
            "k_proj_weight": ("kdim",),
            "v_proj_weight": ("vdim",),
        }
        return (*own, *(Size(each) for each in names.get(name, ())))
    parts = {"in_proj_weight": 3, "q_proj_weight": 1}.get(name)
    if parts is None:
        return ()
    return (*own, Size("num_heads", lambda m, n: n // parts // m.head_dim))


def _class_of(module: nn.Module, channels: int) -> Any:
    """Return the class that an attention module has once it is edited."""
    kind = type(module)
    return MultiheadAttention if kind is nn.MultiheadAttention else kind
