"""Re-indexing tensors: blocks or single entries, the result is that of a loop."""

from itertools import pairwise

import torch
from hypothesis import given, strategies as st
from torch import Tensor

from growmas.structure import AxisChange
from growmas.structure.units.edit import gathered, reindexed

FRESH = -7.0


@st.composite
def changes(draw: st.DrawFn, length: int, dim: int) -> AxisChange:
    """Runs of old entries in any order, and fresh ones between."""
    source: list[int] = []
    for _ in range(draw(st.integers(1, 12))):
        start, stop = sorted(draw(st.tuples(*[st.integers(0, length)] * 2)))
        source += [-1] * draw(st.integers(0, 2)) + list(range(start, stop))
    return AxisChange(dim, torch.tensor(source, dtype=torch.int64), "out", 0.0)


def by_entry(tensor: Tensor, along: tuple[AxisChange, ...], fresh: float) -> Tensor:
    for change in along:
        parts = [
            torch.full_like(tensor.select(change.dim, 0), fresh)
            if old < 0
            else tensor.select(change.dim, old)
            for old in change.source.tolist()
        ]
        empty = tensor.narrow(change.dim, 0, 0)
        tensor = torch.stack(parts, change.dim) if parts else empty
    return tensor


@given(st.data())
def test_re_indexing_is_what_a_loop_over_entries_gives(data: st.DataObject) -> None:
    tensor = torch.arange(4.0 * 5 * 3 * 2).view(4, 5, 3, 2)
    if data.draw(st.booleans()):
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    along = tuple(data.draw(changes(tensor.shape[dim], dim)) for dim in (0, 1))
    found = reindexed(tensor, along, FRESH)
    assert torch.equal(found, by_entry(tensor, along, FRESH))
    if tensor.is_contiguous() and found.numel():
        assert found.is_contiguous()
    kept = torch.ones(tensor.shape)
    survivors = reindexed(kept, along) == 1
    assert torch.equal(gathered(tensor, along)[survivors], found[survivors])


@given(st.data())
def test_runs_are_the_source_again(data: st.DataObject) -> None:
    change = data.draw(changes(6, 0))
    rebuilt = torch.full((len(change.source),), -2)
    for run in change.runs:
        rebuilt[run.new : run.new + run.length] = torch.arange(run.old, run.old + run.length)
    for run in change.fresh_runs:
        rebuilt[run.new : run.new + run.length] = -1
    assert torch.equal(rebuilt, change.source)
    both = sorted([*change.runs, *change.fresh_runs])
    for run, following in pairwise(both):
        glued = run.old + run.length == following.old if run.old >= 0 else following.old < 0
        assert not glued or (run.old < 0) != (following.old < 0)
