"""Products of matrices that both hold channels: attention, as it looks to autograd.

The heads of an attention layer lie along an axis of their own in queries, keys and values:

    q, k, v:    [N, heads, tokens, size]         labels [1, heads, 1, size]
    q @ kᵀ:     [N, heads, tokens, tokens]       labels [1, heads, 1, 1]

The first product runs over the channels within a head. It ties them together (see
`labels.merged`): what comes out has one channel for each head. The second, of the weights with the
values, hands on the channels of the values and pairs each with the head of its weights. So the
rows of a head in q, k and v and the columns that read it become one unit, whether the layers are
separate or fused, and however the code cuts and turns the tensors in between; with grouped
queries the head of keys and values is paired with each of the heads of its group.

Attention with a single head runs over all channels of queries and keys. They meet one by one: the
scores are a sum over pairs, q₁k₁ + q₂k₂ + …, so that a channel of both is a unit, of which the keys
read what the queries give. A channel more starts with its keys at zero, and leaves the scores as
they are, if the code scales them by a number of its own.

A product that runs over all channels of a single tensor leaves nothing to follow.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from growmas.structure.analysis.labels import (
    Labels,
    Shape,
    merged,
    varying,
)
from growmas.structure.analysis.outcomes import PairedChannels, Propagation, SharedChannels
from growmas.structure.analysis.propagation import HINT, operation

_FUSED = frozenset({
    "ScaledDotProductFlashAttentionForCpu", "ScaledDotProductFlashAttention",
    "ScaledDotProductEfficientAttention", "ScaledDotProductCudnnAttention",
    "ScaledDotProductFusedAttentionOverrideable",
})  # fmt: skip
PRODUCTS = _FUSED | {"Bmm", "Baddbmm"}
"""Operations for which this module stands in for the rules of `propagation`."""

Step = Propagation | str


def factors(
    function: Any, operands: Mapping[int, tuple[Labels | str, Shape]]
) -> tuple[dict[int, Step], bool]:
    """Follow every input of a product of matrices to its output.

    Args:
        function: The node of the product in the autograd graph.
        operands: Number of an input -> its labels, or why it has none; and its shape.

    Returns:
        Number of an input -> its channels in the output, or why they cannot be followed; and True
        if channels of one head meet those of another tensor.
    """
    name = operation(function)
    why = f"its channels take part in a matrix product ({name}); {HINT}"
    if name in _FUSED:
        return _attention(operands, why)
    first, second = (0, 1) if name == "Bmm" else (1, 2)
    steps: dict[int, Step] = {
        index: given if isinstance(given, str) else Propagation(given)
        for index, (given, _) in operands.items()
    }
    over = {first: 2, second: 1}
    both = all(index in operands and _varies(operands[index][0], a) for index, a in over.items())
    for index, axis in over.items():
        if index in operands:
            steps[index] = _contracted(operands[index][0], axis, why)
    _pair(steps, {index: (operands[index][0], axis) for index, axis in over.items() if both}, why)
    _set_apart(steps, {index: operands[index][0] for index in over if index in operands})
    _share_heads(steps)
    held = [s.labels for s in steps.values() if isinstance(s, Propagation)]
    return steps, any(varying(each) if both else each.shape[0] > 1 for each in held)


def _pair(
    steps: dict[int, Step], factors: Mapping[int, tuple[Labels | str, int]], why: str
) -> None:
    """Let channels meet one by one that a product runs over, if it runs over all of them."""
    alone = all(
        isinstance(labels, np.ndarray) and varying(labels) == (axis % labels.ndim,)
        for labels, axis in factors.values()
    )
    if not factors or not alone:
        return
    for index, (labels, _) in factors.items():
        paired = PairedChannels(why)
        paired.labels = np.ravel(labels)
        steps[index] = paired


def _set_apart(steps: dict[int, Step], factors: Mapping[int, Labels | str]) -> None:
    """Let heads go on where keys, or queries, are the same for all of them (multi-query)."""
    kept = [index for index in factors if isinstance(steps[index], Propagation)]
    for index, labels in factors.items():
        if len(kept) == 1 and index not in kept and not isinstance(labels, str):
            shared = SharedChannels(
                "all heads use the same keys or values, which stay as they are (multi-query)"
            )
            shared.labels = labels
            steps[index] = shared


def _share_heads(steps: dict[int, Step]) -> None:
    """Leave only the heads where rows and columns both hold channels, as in cross-covariance."""
    held = {i: s for i, s in steps.items() if isinstance(s, Propagation) and varying(s.labels)}
    if len(held) != 2:
        return
    (one, first), (other, second) = held.items()
    shared = set(varying(first.labels)) & set(varying(second.labels))
    for index, step, against in ((one, first, second), (other, second, first)):
        alone = set(varying(step.labels)) - shared
        if shared and alone and set(varying(against.labels)) - shared:
            kept, mapping = merged(step.labels, tuple(alone))
            whole = step.mapping.then(mapping) if step.mapping else mapping
            steps[index] = Propagation(kept, whole)


def _contracted(labels: Labels | str, axis: int, why: str) -> Step:
    """Follow one factor of a product that runs over an axis of both: whole heads stay apart."""
    if isinstance(labels, str):
        return labels
    if labels.shape[axis] == 1:
        return Propagation(labels)
    kept, mapping = merged(labels, (axis,))
    return Propagation(kept, mapping) if varying(kept) else why


def _attention(
    operands: Mapping[int, tuple[Labels | str, Shape]], why: str
) -> tuple[dict[int, Step], bool]:
    """Follow queries (0), keys (1), values (2) and a bias (3 and up) through fused attention."""
    heads = max(shape[-3] for index, (_, shape) in operands.items() if index < 3)
    steps: dict[int, Step] = {}
    for index, (labels, shape) in operands.items():
        if isinstance(labels, str):
            steps[index] = labels
            continue
        if labels.shape[-3] > 1 and shape[-3] < heads:  # grouped queries
            labels = labels.repeat(heads // shape[-3], axis=-3)
        if index < 2:
            over = tuple(axis for axis in (-2, -1) if labels.shape[axis] > 1)
            kept, mapping = merged(labels, over) if over else (labels, None)
            steps[index] = Propagation(kept, mapping) if varying(kept) else why
        elif index == 2 and labels.shape[-2] > 1:
            steps[index] = why
        else:
            steps[index] = Propagation(labels)
    both = {i: (operands[i][0], -1) for i in (0, 1) if i in operands}
    if len(both) == 2:
        _pair(steps, both, why)
    return steps, True


def _varies(labels: Labels | str, axis: int) -> bool:
    return isinstance(labels, np.ndarray) and labels.shape[axis] > 1
