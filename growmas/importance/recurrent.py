"""nn.LSTM, nn.GRU and nn.RNN step by step, so that their weights can be followed.

A worked example: an LSTM on x [N, T, I]. The fused function of torch hides what happens at each
step. Here the input part of all steps is one linear layer,

    a = W_ih x + b_ih                          [N, T, 4H], recorded like every linear layer
    z_t = a_t + W_hh h_{t-1} + b_hh            and so on, with W_hh and b_hh *detached*

Since ∂z_t/∂a_t is the identity, the gradient δ_t that arrives at a_t is also the gradient at
W_hh h_{t-1} + b_hh. One edge therefore serves all four parameters: the per-sample gradient of W_hh
is Σ_t δ_t h_{t-1}ᵀ, that of b_hh is Σ_t δ_t. Because the step uses detached weights, autograd
computes nothing for them, and the use is recorded as `hidden`: the graph has no read of W_hh to
compare.

The GRU multiplies the hidden part of its new gate by r_t, so there δ_t r_t takes the place of δ_t.

A packed sequence has one row for every step of every sequence, [R, I], and later steps have fewer
rows. Projections and inputs without a batch go to the module's own forward.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from growmas.importance.gradients import Gradient, PerSample, Products
from growmas.importance.operations import Bound, Rule

RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)
"""Layers that are unrolled."""


def _hidden(bound: Bound, delta: Tensor) -> dict[str, Gradient]:
    """Differentiate W_hh h + b_hh, given δ at the input part of the gates."""
    width = bound["weight"].shape[1]
    seen = bound["input"]
    if seen.shape[-1] > width:  # a GRU: the reset gate scales the hidden part of the new gate
        new = delta[..., 2 * width :] * seen[..., width:]
        delta = torch.cat([delta[..., : 2 * width], new], dim=-1)
    left = delta.reshape(len(delta), 1, -1, delta.shape[-1])
    right = seen[..., :width].reshape(len(seen), 1, -1, width)
    return {"weight": Products(left, right), "bias": PerSample(left.sum((1, 2)))}


HIDDEN = Rule(
    bind=lambda args, kwargs: dict(kwargs),
    data="input",
    parameters=("weight", "bias"),
    gradients=_hidden,
    rows=lambda bound, shape: len(shape) - 1,
    positions=True,
)
"""Rule of the hidden part of a recurrent layer."""

Note = Callable[[Tensor, Tensor, Tensor, Tensor | None], None]
"""(input part [N, T, G], hidden states and scales [N, T, ...], W_hh, b_hh): records a use."""


Follow = Callable[[Tensor, Any, Any], None]
"""(input, initial state, output): tells where the samples are in the output."""


def unrolled(module: Any, note: Note, follow: Follow) -> Any:
    """Return a forward that computes the same as the module's own, step by step.

    Args:
        module: An LSTM, GRU or RNN.
        note: Records the hidden part of a layer.
        follow: Tells where the samples are in the output.
    """
    original = module.forward

    def forward(given: Any, state: Any = None) -> Any:
        if module.proj_size or (isinstance(given, Tensor) and given.dim() != 3):
            return original(given, state)
        if isinstance(given, PackedSequence):
            return _packed(module, given, state, note, follow)
        x = given if module.batch_first else given.transpose(0, 1)
        initial = _initial(module, x, state)
        ends: list[tuple[Tensor, ...]] = []
        for layer in range(module.num_layers):
            outputs = []
            for direction in range(2 if module.bidirectional else 1):
                start = tuple(s[len(ends)] for s in initial)
                out, end = _direction(module, layer, direction, x, start, note)
                follow(x, state, (out, end))
                outputs.append(out)
                ends.append(end)
            x = torch.cat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]
        last = tuple(torch.stack(parts) for parts in zip(*ends, strict=True))
        out = x if module.batch_first else x.transpose(0, 1)
        return out, last if isinstance(module, nn.LSTM) else last[0]

    return forward


def _packed(
    module: Any, given: PackedSequence, state: Any, note: Note, follow: Follow
) -> tuple[PackedSequence, Any]:
    """Run all layers on a packed sequence, of which every step has its own number of rows."""
    sizes = given.batch_sizes.tolist()
    states = (state if isinstance(state, tuple) else (state,)) if state is not None else ()
    if given.sorted_indices is not None:
        states = tuple(s.index_select(1, given.sorted_indices) for s in states)
    if not states:
        count = module.num_layers * (2 if module.bidirectional else 1)
        zeros = given.data.new_zeros(count, sizes[0], module.hidden_size)
        states = (zeros, zeros) if isinstance(module, nn.LSTM) else (zeros,)
    x = given.data
    ends: list[tuple[Tensor, ...]] = []
    for layer in range(module.num_layers):
        outputs = []
        for direction in range(2 if module.bidirectional else 1):
            start = tuple(s[len(ends)] for s in states)
            out, end = _direction_packed(module, layer, direction, x, sizes, start, note)
            follow(x, state, (out, end))
            outputs.append(out)
            ends.append(end)
        x = torch.cat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]
    last = tuple(torch.stack(parts) for parts in zip(*ends, strict=True))
    if given.unsorted_indices is not None:
        last = tuple(part.index_select(1, given.unsorted_indices) for part in last)
    return given._replace(data=x), last if isinstance(module, nn.LSTM) else last[0]


def _direction_packed(
    module: Any,
    layer: int,
    direction: int,
    x: Tensor,
    sizes: list[int],
    start: tuple[Tensor, ...],
    note: Note,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run one direction of one layer; return its outputs [R, H] and the last states [N, H].

    Sequences are sorted, the longest first: the rows that end at a step are the last ones.
    """
    weight, hidden, bias, extra = _weights(module, layer, direction)
    parts = F.linear(x, weight, bias)
    with torch._C.DisableTorchFunction():  # which sample a row belongs to is measured
        step = _STEPS[type(module)]
        inputs = torch.split(parts, sizes)
        order = range(len(sizes))[::-1] if direction else range(len(sizes))
        fixed, added = hidden.detach().t(), None if extra is None else extra.detach()
        state, ended = tuple(s[: sizes[order[0]]] for s in start), []
        seen, outputs = [parts.new_empty(0)] * len(sizes), [parts.new_empty(0)] * len(sizes)
        for t in order:
            size, now = sizes[t], len(state[0])
            if size > now:  # backwards, shorter sequences begin later
                state = tuple(
                    torch.cat([s, f[now:size]]) for s, f in zip(state, start, strict=True)
                )
            elif size < now:
                ended.append(tuple(s[size:] for s in state))
                state = tuple(s[:size] for s in state)
            before = state[0]
            state, scale = step(module, inputs[t], state, fixed, added)
            seen[t] = before if scale is None else torch.cat([before, scale], dim=-1)
            outputs[t] = state[0]
        ends = [state, *ended[::-1]]
        last = tuple(torch.cat(list(rows)) for rows in zip(*ends, strict=True))
        out, data = torch.cat(outputs), torch.cat(seen).detach()
    note(parts, data, hidden, extra)
    return out, last


def _weights(module: Any, layer: int, direction: int) -> tuple[Tensor, Tensor, Any, Any]:
    """Return W_ih, W_hh, b_ih and b_hh of one direction of one layer."""
    suffix = f"l{layer}{'_reverse' if direction else ''}"
    names = ("bias_ih", "bias_hh") if module.bias else ()
    biases = [getattr(module, f"{name}_{suffix}") for name in names] or [None, None]
    weights = [getattr(module, f"weight_{kind}_{suffix}") for kind in ("ih", "hh")]
    return weights[0], weights[1], biases[0], biases[1]


def _initial(module: Any, x: Tensor, state: Any) -> tuple[Tensor, ...]:
    """Return the initial states, each [layers · directions, N, H]."""
    if state is not None:
        return tuple(state) if isinstance(module, nn.LSTM) else (state,)
    count = module.num_layers * (2 if module.bidirectional else 1)
    zeros = x.new_zeros(count, len(x), module.hidden_size)
    return (zeros, zeros) if isinstance(module, nn.LSTM) else (zeros,)


def _direction(
    module: Any, layer: int, direction: int, x: Tensor, start: tuple[Tensor, ...], note: Note
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run one direction of one layer; return its outputs [N, T, H] and last states."""
    weight, hidden, bias, extra = _weights(module, layer, direction)
    parts = F.linear(x, weight, bias)
    with torch._C.DisableTorchFunction():  # the steps keep samples apart; `follow` says so
        step = _STEPS[type(module)]
        times = list(range(x.shape[1]))
        order = times[::-1] if direction else times
        inputs = parts.unbind(1)
        fixed = hidden.detach().t()
        added = None if extra is None else extra.detach()
        state, seen, outputs = start, {}, {}
        for t in order:
            before = state[0]
            state, scale = step(module, inputs[t], state, fixed, added)
            seen[t] = before if scale is None else torch.cat([before, scale], dim=-1)
            outputs[t] = state[0]
        out = torch.stack([outputs[t] for t in times], dim=1)
        data = torch.stack([seen[t].detach() for t in times], dim=1)
    note(parts, data, hidden, extra)
    return out, state


Stepped = tuple[tuple[Tensor, ...], Tensor | None]


def _lstm(module: Any, x: Tensor, state: Any, weight: Tensor, bias: Tensor | None) -> Stepped:
    hidden, cell = state
    gates = torch.addmm(x if bias is None else x + bias, hidden, weight)
    width = cell.shape[1]
    enter, keep = gates[:, : 2 * width].sigmoid().chunk(2, 1)
    cell = torch.addcmul(keep * cell, enter, gates[:, 2 * width : 3 * width].tanh())
    return (gates[:, 3 * width :].sigmoid() * cell.tanh(), cell), None


def _gru(module: Any, x: Tensor, state: Any, weight: Tensor, bias: Tensor | None) -> Stepped:
    (hidden,) = state
    width = hidden.shape[1]
    own = hidden @ weight if bias is None else torch.addmm(bias, hidden, weight)
    reset, keep = (x[:, : 2 * width] + own[:, : 2 * width]).sigmoid().chunk(2, 1)
    new = torch.addcmul(x[:, 2 * width :], reset, own[:, 2 * width :]).tanh()
    return (torch.lerp(new, hidden, keep),), reset


def _rnn(module: Any, x: Tensor, state: Any, weight: Tensor, bias: Tensor | None) -> Stepped:
    (hidden,) = state
    total = torch.addmm(x if bias is None else x + bias, hidden, weight)
    return (total.tanh() if module.nonlinearity == "tanh" else total.relu(),), None


_STEPS: dict[type, Callable[..., Stepped]] = {nn.LSTM: _lstm, nn.GRU: _gru, nn.RNN: _rnn}
