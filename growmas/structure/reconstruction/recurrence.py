"""Recurrent layers as linear readers: the weights that feed the gates of an RNN, GRU or LSTM.

A gate computes σ(W_ih x_t + b_ih + W_hh h_{t−1} + b_hh): two products per sample and time step,
each of which can be refitted like a linear layer. What W_hh reads, and W_ih of the layers above the
first, is inside the module; so these layers are computed once more, one at a time.

    >>> lstm = nn.LSTM(3, 5)
    >>> x = torch.rand(7, 2, 3)
    >>> seen = dict(gate_inputs(lstm, (x,), {}))
    >>> {name: tuple(rows.shape) for name, rows in seen.items()}  # 7 steps of 2 samples
    {'weight_ih_l0': (14, 3), 'weight_hh_l0': (14, 5)}
    >>> torch.allclose(seen["weight_hh_l0"][2:], lstm(x)[0][:-1].flatten(0, 1), atol=1e-6)
    True
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._python_dispatch import _disable_current_modes

LAYERS = (nn.RNN, nn.GRU, nn.LSTM)
CELLS = (nn.RNNCell, nn.GRUCell, nn.LSTMCell)


class Gates(nn.Module):
    """One weight of a recurrent layer and its bias, seen as a linear layer; never called.

    Args:
        owner: The recurrent layer.
        name: Name of the weight in it, such as `weight_ih_l0`.
    """

    def __init__(self, owner: nn.Module, name: str) -> None:
        super().__init__()
        self._owner, self.name = (owner,), name  # in a tuple, it is not a submodule

    @property
    def weight(self) -> Tensor:
        """The weight, as it is now."""
        weight: Tensor = getattr(self._owner[0], self.name)
        return weight

    @property
    def bias(self) -> Tensor | None:
        """The bias, as it is now; None if there is none."""
        return getattr(self._owner[0], self.bias_name, None)

    @property
    def bias_name(self) -> str:
        """Name of the bias in the recurrent layer."""
        return self.name.replace("weight", "bias")

    @property
    def inner(self) -> bool:
        """True if it reads hidden states of the layer itself."""
        return not self.name.startswith("weight_ih") or (
            isinstance(self._owner[0], LAYERS) and not self.name.startswith("weight_ih_l0")
        )

    @property
    def problem(self) -> str:
        """Reason why what it reads is not known; empty if it is."""
        owner = self._owner[0]
        kind = next((k for k in (*LAYERS, *CELLS) if isinstance(owner, k)), None)
        if kind is None or type(owner).forward is not kind.forward:
            return f"a {type(owner).__name__} is not a matrix product per position"
        if not self.name.startswith(("weight_ih", "weight_hh")):
            return f"{self.name!r} reads values inside the cell, which are not seen"
        if self.name not in owner._parameters:
            return "its weights are computed from others"
        return ""


def is_recurrent(module: nn.Module) -> bool:
    """Return True for an RNN, GRU or LSTM, or a cell of one."""
    return isinstance(module, (*LAYERS, *CELLS))


def read_by(
    owner: nn.Module, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """Return what one weight of a recurrent layer reads in a call, and what it gives for it.

    Returns:
        [R, F] and [R, O], with a row for each sample at each step.
    """
    with _disable_current_modes():
        seen = next(rows for found, rows in gate_inputs(owner, args, kwargs) if found == name)
        gates = Gates(owner, name)
        return seen, F.linear(seen, gates.weight, gates.bias)


@torch.no_grad()
def gate_inputs(
    owner: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[tuple[str, Tensor]]:
    """Yield the name of each input weight of a recurrent layer with the rows [R, F] it reads.

    Args:
        owner: The layer, in eval mode.
        args: What it was called with.
        kwargs: The same.
    """
    x, states = (*args, *kwargs.values(), None)[:2]
    if isinstance(owner, CELLS):
        rows = x.reshape(-1, owner.input_size)
        yield "weight_ih", rows
        hidden = states[0] if isinstance(states, tuple) else states
        yield (
            "weight_hh",
            (
                rows.new_zeros(len(rows), owner.hidden_size)
                if hidden is None
                else hidden.reshape(-1, owner.hidden_size)
            ),
        )
        return
    data, sizes, states = _packed(owner, x, states)
    ways = 2 if owner.bidirectional else 1
    for layer in range(owner.num_layers):
        ends = [f"_l{layer}{suffix}" for suffix in ("", "_reverse")[:ways]]
        for end in ends:
            yield f"weight_ih{end}", data
        own = [state[layer * ways : (layer + 1) * ways] for state in states]
        given = _one_layer(owner, layer, data, sizes, own)
        for end, part, first in zip(ends, given.chunk(ways, -1), own[0], strict=True):
            yield f"weight_hh{end}", _shifted(part, first, sizes, backwards="reverse" in end)
        data = given


def _packed(owner: Any, x: Any, states: Any) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return the rows of all steps, the number of samples of each step, and the first states.

    The rows are in the order of a packed sequence: step after step, the longest samples first.
    """
    if isinstance(x, PackedSequence):
        data, sizes, order = x.data, x.batch_sizes, x.sorted_indices
        samples = int(sizes[0])
    else:
        x = x[:, None] if x.dim() == 2 else x.transpose(0, 1) if owner.batch_first else x
        steps, samples = x.shape[:2]
        data, sizes, order = x.flatten(0, 1), torch.full((steps,), samples), None
    if states is None:
        count = owner.num_layers * (2 if owner.bidirectional else 1)
        zero = data.new_zeros(count, samples, owner.proj_size or owner.hidden_size)
        cell = data.new_zeros(count, samples, owner.hidden_size)
        states = (zero, cell) if owner.mode == "LSTM" else zero
    held = [each if each.dim() == 3 else each[:, None] for each in _listed(states)]
    return data, sizes, held if order is None else [each[:, order] for each in held]


def _listed(states: Any) -> list[Tensor]:
    return list(states) if isinstance(states, tuple) else [states]


def _one_layer(owner: Any, layer: int, data: Tensor, sizes: Tensor, states: list[Tensor]) -> Tensor:
    """Return the hidden states [R, H] of all steps of one layer, its directions side by side."""
    ways = 2 if owner.bidirectional else 1
    names = owner._all_weights[layer * ways : (layer + 1) * ways]
    weights = [getattr(owner, name) for each in names for name in each]
    first: Any = tuple(states) if owner.mode == "LSTM" else states[0]
    kernel = getattr(torch._VF, owner.mode.lower())
    found: Tensor = kernel(
        data, sizes, first, weights, owner.bias, 1, 0.0, False, owner.bidirectional
    )[0]
    return found


def _shifted(given: Tensor, first: Tensor, sizes: Tensor, *, backwards: bool) -> Tensor:
    """Return the hidden state before each step: that of the neighbouring step, or the first."""
    steps = torch.split(given, sizes.tolist())
    before = []
    for step, own in enumerate(steps):
        other = step + 1 if backwards else step - 1
        known = steps[other][: len(own)] if 0 <= other < len(steps) else given[:0]
        before.append(torch.cat([known, first[len(known) : len(own)]]))
    return torch.cat(before)
