"""Alignment rules for layers: linear maps, convolutions, norms, pooling and attention."""

from torch import Tensor

from growmas.importance.alignment_rules import (
    MIXED,
    Aligned,
    Call,
    Rule,
    State,
    rule_for,
    tensors_in,
)


@rule_for("dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout")
def dropout(call: Call) -> State | None:
    """Keep the state in eval mode."""
    training = call.get(2, "training", True)
    return call.source if not training or call.get(1, "p", 0.5) == 0 else None


@rule_for("linear")
def linear(call: Call) -> State | None:
    """Keep any dimension but the last."""
    if not call.independent(call.args[1:], call.kwargs):
        return None
    return call.source if call.source.axis < call.first.dim() - 1 else None


@rule_for("addmm")
def addmm(call: Call) -> State | None:
    """Keep the rows of b + a W."""
    bias, rows, weight = call.args
    state = call.state_of(rows)
    if not isinstance(state, Aligned) or state.axis != 0 or not call.independent(bias, weight):
        return None
    return state if bias.dim() == 1 or bias.shape[0] == 1 else None


@rule_for("instance_norm group_norm prelu")
def first_dimension(call: Call) -> State | None:
    """Keep dimension 0 of layers whose other arguments are fixed."""
    others = (*call.args[1:], *list(call.kwargs.values())[0 if call.args else 1 :])
    if call.source.axis != 0 or not call.independent(others):
        return None
    return call.source if len(call.output) == len(call.first) else None


def _convolution(dims: int) -> Rule:
    return lambda call: first_dimension(call) if call.first.dim() == dims + 2 else None


for _d in (1, 2, 3):
    rule_for(f"conv{_d}d conv_transpose{_d}d")(_convolution(_d))


@rule_for("batch_norm")
def batch_norm(call: Call) -> State | None:
    """Keep dimension 0 if running statistics are used."""
    mean, training = call.get(1, "running_mean"), call.get(5, "training", False)
    return first_dimension(call) if mean is not None and not training else None


@rule_for("layer_norm rms_norm")
def layer_norm(call: Call) -> State | None:
    """Keep a dimension that is not normalised over."""
    normalised = len(tuple(call.get(1, "normalized_shape")))
    return call.source if call.source.axis < call.first.dim() - normalised else None


@rule_for("embedding one_hot")
def embedding(call: Call) -> State | None:
    """Keep the dimensions of the indices."""
    return call.source if call.independent(call.args[1:], call.kwargs) else None


@rule_for("pad")
def pad(call: Call) -> State | None:
    """Keep a dimension that is not padded."""
    padded = len(tuple(call.get(1, "pad"))) // 2
    return call.source if call.source.axis < call.first.dim() - padded else None


def _spatial(dims: int) -> Rule:
    """Return the rule of a function of data [N, C, *space]: it keeps dimension 0."""

    def keep(call: Call) -> State | None:
        batched = call.first.dim() == dims + 2 and call.source.axis == 0
        same = all(len(tensor) == len(call.first) for tensor in tensors_in(call.output))
        return call.source if batched and same else None

    return keep


for _d in (1, 2, 3):
    rule_for(
        f"max_pool{_d}d _max_pool{_d}d max_pool{_d}d_with_indices avg_pool{_d}d lp_pool{_d}d "
        f"adaptive_avg_pool{_d}d adaptive_max_pool{_d}d _adaptive_max_pool{_d}d "
        f"adaptive_max_pool{_d}d_with_indices"
    )(_spatial(_d))
rule_for("pixel_shuffle pixel_unshuffle channel_shuffle")(_spatial(2))


@rule_for("interpolate upsample")
def interpolate(call: Call) -> State | None:
    """Keep dimension 0 of data [N, C, *space]."""
    return call.source if call.source.axis == 0 and call.first.dim() >= 3 else None


@rule_for("scaled_dot_product_attention")
def attention(call: Call) -> State | None:
    """Keep the batch of queries, keys and values."""
    query, key, value = (call.get(i, name) for i, name in enumerate(("query", "key", "value")))
    states = {call.state_of(tensor) for tensor in (query, key, value)}
    if len(states) != 1 or call.get(4, "dropout_p", 0.0) != 0:
        return None
    state = call.source
    if state.axis >= query.dim() - 2 or not query.dim() == key.dim() == value.dim():
        return None
    mask = call.get(3, "attn_mask")
    if mask is None:
        return state
    right = query.dim() - state.axis
    if call.independent(mask):
        return state if mask.dim() < right or mask.shape[-right] == 1 else None
    of_mask = call.state_of(mask)
    if of_mask is MIXED:
        return state if call.admit(mask) else None
    if not isinstance(of_mask, Aligned) or of_mask.each != state.each:
        return None
    return state if mask.dim() - of_mask.axis == right else None


@rule_for(
    "cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss huber_loss binary_cross_entropy "
    "binary_cross_entropy_with_logits kl_div gaussian_nll_loss poisson_nll_loss"
)
def loss(call: Call) -> State | None:
    """Keep dimension 0 of losses that are not reduced."""
    states = {call.state_of(tensor) for tensor in call.args[:2]}
    fits = isinstance(call.output, Tensor) and call.output.dim() > 0
    if states != {Aligned(0)} or not fits or len(call.output) != call.samples:
        return None
    return Aligned(0) if call.kwargs.get("reduction") == "none" else None
