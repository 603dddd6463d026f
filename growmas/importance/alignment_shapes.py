"""Alignment rules for functions that view, move, select or join: they compute no values."""

from math import prod
from typing import Any

import torch
from torch import Tensor

from growmas.importance.alignment_rules import (
    FIXED,
    RULES,
    UNIFORM,
    Aligned,
    Call,
    State,
    axis_of,
    dims_of,
    rule_for,
)


@rule_for("view reshape flatten unflatten view_as reshape_as")
def reshape(call: Call) -> State | None:
    """Keep samples that are outermost, or whose dimension stands at the same place."""
    state, before, after = call.source, call.first.shape, call.output.shape
    if isinstance(call.get(1, "dtype"), torch.dtype):
        return state if before == after else None
    if state.axis == 0:
        fits = len(after) > 0 and after[0] % call.samples == 0 and after[0] > 0
        return Aligned(0, after[0] // call.samples) if fits else None
    outside = prod(before[: state.axis])
    for axis, size in enumerate(after):
        if prod(after[:axis]) == outside and size == before[state.axis]:
            return Aligned(axis, state.each)
    return None


@rule_for("transpose swapaxes swapdims transpose_")
def transpose(call: Call) -> State | None:
    """Follow a swap of two dimensions."""
    rank = call.first.dim()
    one, other = (axis_of(d, rank) for d in (call.get(1, "dim0"), call.get(2, "dim1")))
    moved = {one: other, other: one}
    return Aligned(moved.get(call.source.axis, call.source.axis), call.source.each)


@rule_for("permute")
def permute(call: Call) -> State | None:
    """Follow a permutation of dimensions."""
    dims = call.kwargs.get("dims", call.args[1:])
    dims = dims[0] if len(dims) == 1 and isinstance(dims[0], tuple | list) else dims
    order = [axis_of(d, call.first.dim()) for d in dims]
    return Aligned(order.index(call.source.axis), call.source.each)


@rule_for("movedim moveaxis")
def movedim(call: Call) -> State | None:
    """Follow one dimension that is moved."""
    rank = call.first.dim()
    order = list(range(rank))
    source, target = axis_of(call.get(1, "source"), rank), axis_of(call.get(2, "destination"), rank)
    order.insert(target, order.pop(source))
    return Aligned(order.index(call.source.axis), call.source.each)


@rule_for("t")
def matrix_transpose(call: Call) -> State | None:
    """Swap the two dimensions of a matrix."""
    return Aligned(1 - call.source.axis, call.source.each) if call.first.dim() == 2 else None


def _last_two(call: Call) -> State | None:
    rank = call.first.dim()
    moved = {rank - 2: rank - 1, rank - 1: rank - 2}
    return Aligned(moved.get(call.source.axis, call.source.axis), call.source.each)


RULES[Tensor.mT.__get__] = _last_two  # type: ignore[attr-defined]
RULES[Tensor.T.__get__] = matrix_transpose  # type: ignore[attr-defined]


@rule_for("unsqueeze")
def unsqueeze(call: Call) -> State | None:
    """Shift the dimension behind a new one."""
    dim = axis_of(call.get(1, "dim"), call.first.dim() + 1)
    return Aligned(call.source.axis + (dim <= call.source.axis), call.source.each)


@rule_for("squeeze")
def squeeze(call: Call) -> State | None:
    """Shift the dimension behind those that are dropped."""
    state, shape = call.source, call.first.shape
    dims = call.get(1, "dim")
    if dims is None:
        dropped = {d for d, size in enumerate(shape) if size == 1}
    else:
        dropped = {d for d in dims_of(dims, len(shape)) if shape[d] == 1}
    if state.axis in dropped:
        return None
    return Aligned(state.axis - sum(d < state.axis for d in dropped), state.each)


@rule_for("expand expand_as broadcast_to")
def expand(call: Call) -> State | None:
    """Shift the dimension behind new ones."""
    axis = call.source.axis + call.output.dim() - call.first.dim()
    kept = call.output.shape[axis] == call.first.shape[call.source.axis]
    return Aligned(axis, call.source.each) if kept else None


@rule_for("repeat")
def repeat(call: Call) -> State | None:
    """Keep a dimension that is not repeated."""
    return expand(call)


@rule_for("repeat_interleave")
def repeat_interleave(call: Call) -> State | None:
    """Multiply the entries of each sample, or keep the dimension."""
    repeats, dim = call.get(1, "repeats"), axis_of(call.get(2, "dim"), call.first.dim())
    if not isinstance(repeats, int):
        return None
    state = call.source
    return Aligned(state.axis, state.each * repeats) if dim == state.axis else state


@rule_for("chunk split tensor_split")
def pieces(call: Call) -> State | None:
    """Keep a dimension that is not cut into pieces."""
    dim = axis_of(call.get(2, "dim", 0), call.first.dim())
    return call.source if dim != call.source.axis else None


@rule_for("narrow")
def narrow(call: Call) -> State | None:
    """Keep a dimension of which no part is taken."""
    dim = axis_of(call.get(1, "dim"), call.first.dim())
    return call.source if dim != call.source.axis else None


@rule_for("index_select gather")
def index_select(call: Call) -> State | None:
    """Keep a dimension in which nothing is selected."""
    dim, index = axis_of(call.get(1, "dim"), call.first.dim()), call.get(2, "index")
    if dim == call.source.axis:
        return None
    if index.dim() == 1 and call.independent(index):
        return call.source
    return call.source if call.state_of(index) == call.source else None


@rule_for("select unbind")
def select(call: Call) -> State | None:
    """Shift the dimension in front of which one is dropped."""
    dim = axis_of(call.get(1, "dim", 0), call.first.dim())
    state = call.source
    if dim == state.axis:
        return None
    return Aligned(state.axis - (dim < state.axis), state.each)


@rule_for("__getitem__")
def getitem(call: Call) -> State | None:
    """Follow slices, numbers and one fixed index; the samples must be taken whole."""
    state, index = call.source, call.args[1]
    entries = list(index) if isinstance(index, tuple) else [index]
    rank = call.first.dim()
    taken = sum(entry is not None and entry is not Ellipsis for entry in entries)
    if Ellipsis in [e for e in entries if not isinstance(e, Tensor)]:
        place = next(i for i, e in enumerate(entries) if e is Ellipsis)
        entries[place : place + 1] = [slice(None)] * (rank - taken)
    else:
        entries += [slice(None)] * (rank - taken)
    before, after, fancy = 0, 0, 0
    for entry in entries:
        if entry is None:
            after += 1
            continue
        if before == state.axis:
            whole = isinstance(entry, slice) and entry == slice(None)
            return Aligned(after, state.each) if whole and _plain_after(call, entries) else None
        if isinstance(entry, Tensor | list):
            fancy += 1
            size = entry.dim() if isinstance(entry, Tensor) else 1
            after += size
        elif isinstance(entry, slice):
            after += 1
        before += 1
    return None


@rule_for("__setitem__")
def setitem(call: Call) -> State | None:
    """Keep a tensor of which the same part of every sample is overwritten."""
    target, index, value = call.args
    part = target.detach()[index]
    place = getitem(Call((target, index), {}, part, call.samples, call.state_of))
    if not isinstance(place, Aligned) or not isinstance(value, Tensor):
        return call.source if isinstance(place, Aligned) else None
    state, right = call.state_of(value), part.dim() - place.axis
    if isinstance(state, Aligned):
        fits = value.dim() - state.axis == right and state.each == place.each
    else:
        same = value.dim() < right or value.shape[-right] == 1
        fits = call.independent(value) and (same or state == UNIFORM)
    return call.source if fits else None


def _plain_after(call: Call, entries: list[Any]) -> bool:
    """Return True if at most one entry is an index tensor, fixed and of numbers."""
    fancy = [entry for entry in entries if isinstance(entry, Tensor | list)]
    if len(fancy) > 1 or any(isinstance(entry, bool) for entry in entries):
        return False
    tensors = [entry for entry in fancy if isinstance(entry, Tensor)]
    return call.independent(tensors) and all(t.dtype != torch.bool for t in tensors)


@rule_for("cat concat concatenate stack")
def cat(call: Call) -> State | None:
    """Keep a dimension along which nothing is joined."""
    tensors = call.get(0, "tensors")
    # an empty vector may be joined with anything, as caches do that begin empty
    tensors = [tensor for tensor in tensors if tensor.shape != (0,)] or tensors
    states = [call.state_of(tensor) for tensor in tensors]
    found = {state for state in states if isinstance(state, Aligned)}
    if len(found) != 1 or any(state is FIXED for state in states):
        return None
    (state,) = found
    joined = call.output.dim()
    dim = axis_of(call.get(1, "dim", 0), joined)
    stacked = joined > tensors[0].dim()
    if stacked:
        return Aligned(state.axis + (dim <= state.axis), state.each)
    return state if dim != state.axis else None
