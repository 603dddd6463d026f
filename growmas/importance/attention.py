"""nn.MultiheadAttention as separate operations, so that its weights can be followed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def can_separate(module: nn.Module) -> bool:
    """Return True for a plain nn.MultiheadAttention whose calls all run as separate operations."""
    return (
        type(module) is nn.MultiheadAttention
        and "forward" not in vars(module)
        and module.bias_k is None
        and not module.add_zero_attn
    )


@contextmanager
def separate_attention(model: nn.Module, *, call_output: bool = False) -> Iterator[None]:
    """Let attention run as separate operations.

    Args:
        model: The network.
        call_output: Call output projections as layers, so that their hooks run.
    """
    modules = [module for module in model.modules() if can_separate(module)]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    for module in modules:
        module.__dict__["forward"] = unfused_attention(module, call_output=call_output)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module in modules:
            del module.__dict__["forward"]


def unfused_attention(
    module: Any, *, call_output: bool = False, whole_softmax: bool = True
) -> Callable[..., Any]:
    """Return a forward that computes the same as the module's own, in separate operations.

    The module's own forward hides its projections inside a single function. Calls with extra
    biases for keys and values, with an extra zero position, or without a batch dimension still go
    to the module's own.

    Args:
        module: The attention.
        call_output: Call the output projection as a layer, so that its hooks run.
        whole_softmax: Compute the attention weights, [N, heads, queries, keys], also where the
            caller does not need them and the module's own forward holds no such tensor.
    """
    original = module.forward

    def forward(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        if query.dim() != 3 or module.bias_k is not None or module.add_zero_attn:
            unchanged: tuple[Tensor, Tensor | None] = original(
                query, key, value, key_padding_mask, need_weights, attn_mask,
                average_attn_weights, is_causal,
            )  # fmt: skip
            return unchanged
        inputs = (query, key, value)
        if not module.batch_first:
            inputs = tuple(tensor.transpose(0, 1) for tensor in inputs)  # type: ignore[assignment]
        heads = [
            tensor.reshape(*tensor.shape[:2], module.num_heads, -1).transpose(1, 2)
            for tensor in _projected(module, *inputs, same=query is key is value)
        ]
        masks = _masks(module, attn_mask, key_padding_mask, heads[0])
        if whole_softmax or need_weights or any(m.dtype != heads[0].dtype for m in masks):
            scores = heads[0] @ heads[1].mT / module.head_dim**0.5
            for mask in masks:
                scores = scores + mask
            weights = F.dropout(scores.softmax(-1), module.dropout, module.training)
            mixed = weights @ heads[2]
        else:
            bias = sum(masks[1:], masks[0]) if masks else None
            rate = module.dropout if module.training else 0.0
            weights = None
            mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], bias, rate)
        mixed = mixed.transpose(1, 2).flatten(2)
        last = module.out_proj
        output = last(mixed) if call_output else F.linear(mixed, last.weight, last.bias)
        if not module.batch_first:
            output = output.transpose(0, 1)
        if not need_weights or weights is None:
            return output, None
        return output, weights.mean(1) if average_attn_weights else weights

    return forward


def _projected(
    module: Any, query: Tensor, key: Tensor, value: Tensor, *, same: bool
) -> tuple[Tensor, ...]:
    """Return queries, keys and values; a fused weight is read whole, as its rule requires."""
    width, bias = module.embed_dim, module.in_proj_bias
    if module._qkv_same_embed_dim:
        if same:
            return torch.split(F.linear(query, module.in_proj_weight, bias), width, dim=-1)
        return tuple(
            F.linear(tensor, module.in_proj_weight, bias)[..., i * width : (i + 1) * width]
            for i, tensor in enumerate((query, key, value))
        )
    weights = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
    apart = [F.linear(t, w) for t, w in zip((query, key, value), weights, strict=True)]
    if bias is None:
        return tuple(apart)
    whole = [F.pad(t, (i * width, (2 - i) * width)) + bias for i, t in enumerate(apart)]
    return tuple(t[..., i * width : (i + 1) * width] for i, t in enumerate(whole))


def _masks(
    module: Any, mask: Tensor | None, padding: Tensor | None, queries: Tensor
) -> list[Tensor]:
    """Return the terms to add to the scores [N, heads, queries, keys], in the dtype of queries."""
    found = []
    if mask is not None:
        shaped = mask if mask.dim() == 2 else mask.reshape(-1, module.num_heads, *mask.shape[1:])
        found.append(_additive(shaped, queries))
    if padding is not None:
        found.append(_additive(padding[:, None, None, :], queries))
    return found


def _additive(mask: Tensor, queries: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=queries.dtype).masked_fill(mask, float("-inf"))
