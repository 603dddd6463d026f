"""Objectives: scalars per sample, computed from a model's output, whose gradients give Ω."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from growmas.errors import ImportanceError

Objective = Callable[[Any], Tensor]
"""Model output -> [N, K]: K scalars per sample; importance is the average over K."""

BatchObjective = Callable[[Any, Any], Tensor]
"""(model output, batch) -> [N, K], for objectives that depend on labels in the batch."""


def without_batch(objective: Objective) -> BatchObjective:
    """Make an objective that takes the batch and ignores it."""
    return lambda output, batch: objective(output)


NAMES = ("squared_norm", "vector")
"""Objectives that have a word."""

Function = Literal["squared_norm", "vector"] | Callable[[Any], Tensor]
"""A word, or a callable from the model's output to one scalar per sample, [N]."""


def make_objective(function: Function) -> Objective:
    """Return the objective for a word or a callable.

    Args:
        function: "squared_norm" is ‖F(x)‖₂² (MAS, Eq. 2), K = 1. "vector" is each output
            coordinate by itself, K = C, the paper's alternative. A callable maps the output to
            one scalar per sample, [N]. Of a dict such as an output of Hugging Face, the words
            measure the answer (logits, or last hidden state and pooler output), not by-products
            such as the encoder states of a sequence-to-sequence model.

    Raises:
        ImportanceError: An unknown word; later, a callable whose result is not a tensor [N].
    """
    if function == "squared_norm":
        return lambda output: _coordinates(output).square().sum(1, keepdim=True)
    if function == "vector":
        return _coordinates
    if callable(function):
        return lambda output: _column(function(output))
    raise ImportanceError(
        f"function={function!r} is not known: give one of {', '.join(map(repr, NAMES))}, "
        "or a callable from the model's output to one scalar per sample, [N]"
    )


BY_PRODUCTS = frozenset(
    {"loss", "past_key_values", "hidden_states", "attentions", "aux_loss", "router_logits"}
    | {"decoder_hidden_states", "decoder_attentions", "cross_attentions"}
    | {"encoder_last_hidden_state", "encoder_hidden_states", "encoder_attentions"}
    | {"encoder_router_logits", "decoder_router_logits", "mems", "image_hidden_states"}
)
"""Entries of Hugging Face outputs that are not the answer of the model."""


def _coordinates(output: Any) -> Tensor:
    """Return every output coordinate of every sample, [N, C]; several tensors are concatenated."""
    if isinstance(output, Tensor) and output.dim() == 2 and output.is_floating_point():
        return output
    tensors = [t for t in _outputs(output) if t.is_floating_point()]
    if not tensors or any(t.dim() == 0 for t in tensors):
        raise ImportanceError(
            f"the model returned {type(output).__name__}: expected tensors [N, ...] (or a tuple or "
            "dict of them); pass function= a callable from the output to one scalar per sample"
        )
    if len({len(t) for t in tensors}) > 1:
        shapes = ", ".join(str(tuple(t.shape)) for t in tensors)
        raise ImportanceError(
            f"the outputs {shapes} do not agree on the number of samples; "
            "pass function= a callable from the output to one scalar per sample"
        )
    flat = [t.flatten(1) if t.dim() > 1 else t.unsqueeze(1) for t in tensors]
    return flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)


def _outputs(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        answers = [
            key for key in output if key not in BY_PRODUCTS and not str(key).endswith("_loss")
        ]
        if "logits" in output and any(t.__name__ == "ModelOutput" for t in type(output).mro()):
            answers = ["logits"]
        kept = [t for key in answers for t in _outputs(output[key])]
        return kept or [t for value in output.values() for t in _outputs(value)]
    if isinstance(output, tuple | list):
        return [t for value in output for t in _outputs(value)]
    return []


def _column(values: Any) -> Tensor:
    if not isinstance(values, Tensor) or values.dim() != 1:
        came = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ImportanceError(
            f"function= must return one scalar per sample, a tensor [N]; it returned {came}"
        )
    return values.unsqueeze(1)
