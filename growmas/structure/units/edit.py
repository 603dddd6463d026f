"""Edits: the record of what surgery changed, and the means to change other tensors alike.

Growing and pruning are one operation: each axis of each tensor that carries a unit gets a new
order, `source[new position] = old position`, with −1 for a fresh entry. A worked example: unit 1 of
the first layer goes, and one unit comes.

    >>> import growmas
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> structure = growmas.Structure(net, torch.rand(4, 2))
    >>> edit = structure.apply(growmas.Plan(prune={"0": [1]}, grow={"0": 1}))
    >>> for name, changes in edit.changes.items():
    ...     print(name, [(change.dim, change.source.tolist()) for change in changes])
    0.weight [(0, [0, 2, -1])]
    0.bias [(0, [0, 2, -1])]
    2.weight [(1, [0, 2, -1])]

Anything of a parameter's shape follows through `Edit.reindex`, here the importance of `2.weight`:

    >>> edit.reindex("2.weight", torch.tensor([[10.0, 11.0, 12.0]]))
    tensor([[10., 12.,  0.]])

Copying is fast where entries that were neighbours still are, so a source is cut into runs:

    >>> change = edit.changes["2.weight"][0]
    >>> change.runs
    (Run(new=0, old=0, length=1), Run(new=1, old=2, length=1))
    >>> change.fresh_runs
    (Run(new=2, old=-1, length=1),)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from growmas.structure.layers.axes import Role
from growmas.structure.units.plan import Plan

_LEAST_VARIANCE = 0.01
"""Share of a copy's running variance that a correction leaves at least."""

_BLOCKS = 8
"""Largest number of blocks that are copied one by one; each costs some 5 µs, whatever its size."""


class Run(NamedTuple):
    """Consecutive entries of an axis that were consecutive before, too.

    Attributes:
        new: Position of the first one now.
        old: Position of the first one before; −1 for fresh entries.
        length: Number of entries.
    """

    new: int
    old: int
    length: int


@dataclass(frozen=True, eq=False)
class AxisChange:
    """One axis of one tensor: `source[new position] = old position`, −1 for a fresh entry.

    Attributes:
        dim: The axis.
        source: [new length] int64.
        role: Start of a fresh entry, see `TensorAxis`.
        constant: Value of a fresh entry of role "norm".
    """

    dim: int
    source: Tensor
    role: Role
    constant: float

    @cached_property
    def fresh(self) -> Tensor:
        """Positions of the fresh entries."""
        return (self.source < 0).nonzero().squeeze(1)

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Runs of surviving entries that stay together."""
        return tuple(run for run in self._all_runs if run.old >= 0)

    @cached_property
    def fresh_runs(self) -> tuple[Run, ...]:
        """Runs of fresh entries."""
        return tuple(run for run in self._all_runs if run.old < 0)

    def share_runs(self, other: "AxisChange") -> None:
        """Take over the runs of a change that has the same source."""
        vars(self)["_all_runs"] = other._all_runs

    @cached_property
    def _all_runs(self) -> tuple[Run, ...]:
        source = self.source.numpy()
        if not len(source):
            return ()
        # An entry continues the run of the one before it if both are fresh, or if it is the old
        # neighbour of a surviving one. (−1 and 0 are neighbours too, hence `~fresh`.)
        step, fresh = source[1:] - source[:-1], source < 0
        together = np.where(fresh[1:], fresh[:-1], (step == 1) & ~fresh[:-1])
        starts = [0, *((~together).nonzero()[0] + 1).tolist()]
        stops = [*starts[1:], len(source)]
        olds = source[starts].tolist()
        return tuple(
            Run(start, old, stop - start)
            for start, old, stop in zip(starts, olds, stops, strict=True)
        )


Nature = Literal["state", "value", "importance"]
"""The nature of a tensor of a parameter's shape: state per entry, values of the parameter, or Ω."""


@dataclass(frozen=True, eq=False)
class AxisTransfer:
    """Entries along one axis that an edit derived from others, such as twins from a parent.

    Afterwards the entries at `to` are those that stood at `of`, times a factor. Importance has
    factors of its own: a column that is scaled down passes less gradient on to the rows before it.

    Attributes:
        dim: The axis.
        to: [n] int64, positions after the edit.
        of: [n] int64, positions after the edit.
        value: [n], the factors of values.
        shift: What is added to values.
        importance: [n], the factors of Ω.
    """

    dim: int
    to: Tensor
    of: Tensor
    value: Tensor
    importance: Tensor
    shift: float = 0.0


@dataclass(frozen=True, eq=False)
class AxisMean:
    """Fresh entries along one axis that are the mean of others, in every copy of the parameter.

    Attributes:
        dim: The axis.
        to: [k, m] int64, positions of the fresh entries after the edit.
        of: [U, m] int64, positions after the edit, whose mean is taken column by column; the mean
            of no units (U = 0) is 0.
        weights: [U, m], what the entries are multiplied by before; None: 1.
    """

    dim: int
    to: Tensor
    of: Tensor
    weights: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Edit:
    """A change of the network that has been made.

    Attributes:
        plan: The plan that was carried out.
        task: Index of the task during which it was carried out.
        changes: Qualified parameter or buffer name -> changes of its axes.
        born: Group name -> ids of the new units.
        died: Group name -> ids of the units removed.
        parents: Group name -> {new unit: the unit it was split from}.
        swapped: Qualified parameter name -> the old parameter and the one in its place.
        sizes: Qualified attribute of a module, such as "fc1.out_features" -> its new value.
        transfers: Qualified parameter or buffer name -> entries derived from others.
        corrections: Qualified parameter or buffer name -> what reconstruction added to it, of its
            new shape; running statistics of norms are among the buffers.
        means: Qualified parameter name -> fresh entries that are the mean of others.
        mates: Group name -> families of new units whose effects add up to zero, see `Paired`.
    """

    plan: Plan
    task: int
    changes: Mapping[str, tuple[AxisChange, ...]]
    born: Mapping[str, tuple[int, ...]]
    died: Mapping[str, tuple[int, ...]]
    parents: Mapping[str, Mapping[int, int]]
    swapped: Mapping[str, tuple[nn.Parameter, nn.Parameter]]
    sizes: Mapping[str, Any] = field(default_factory=dict)
    transfers: Mapping[str, tuple[AxisTransfer, ...]] = field(default_factory=dict)
    corrections: Mapping[str, Tensor] = field(default_factory=dict)
    means: Mapping[str, tuple[AxisMean, ...]] = field(default_factory=dict)
    mates: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)

    def __repr__(self) -> str:
        groups = [
            f"{name!r} +{len(self.born.get(name, ()))} −{len(self.died.get(name, ()))}"
            for name in self.plan.groups
        ]
        why = f" because {self.reason!r}" if self.reason else ""
        return f"Edit({', '.join(groups)}; {len(self.changes)} tensors, task {self.task}{why})"

    @property
    def reason(self) -> str:
        """The plan's reason, in a few words."""
        return self.plan.reason

    @property
    def cause(self) -> Mapping[str, Any]:
        """The plan's cause, JSON values for programs."""
        return self.plan.cause

    @property
    def replaced(self) -> dict[nn.Parameter, nn.Parameter]:
        """Old parameter -> the parameter that took its place."""
        return dict(self.swapped.values())

    @property
    def replaced_units(self) -> dict[str, dict[int, int]]:
        """Group name -> {new unit: the unit it replaced}, for the plan's `replace`."""
        return {
            name: dict(zip(self.born[name][-len(ids) :], ids, strict=True))
            for name, ids in self.plan.replace.items()
            if ids
        }

    def reindex(
        self,
        name: str,
        tensor: Tensor,
        fresh: Tensor | float = 0.0,
        *,
        nature: Nature = "state",
    ) -> Tensor:
        """Re-index `tensor` as the parameter or buffer `name` was re-indexed.

        Entries that survive are bit-identical, except values and importance where the edit derived
        entries from others (`transfers`): splitting a unit does so, and widening a norm.

        Args:
            name: Qualified name; for a name that did not change, the tensor comes back as it is.
            tensor: Anything of the old parameter's shape: Ω, an anchor, an optimizer's state.
            fresh: Value of fresh entries: a number, or a tensor of the new shape.
            nature: "state" is only re-indexed. "value", for copies of the parameter (anchors,
                averages), and "importance", for Ω, take part in `transfers`. Values take part
                in `means` too, so that an average computes the same as before, and in
                `corrections`, so that an anchor does not pull back what reconstruction changed.
        """
        result = reindexed(tensor, self.changes.get(name, ()), fresh)
        if nature == "state":
            return result
        result = transferred(result, self.transfers.get(name, ()), nature)
        if nature == "value":
            result = with_means(result, self.means.get(name, ()))
        if nature == "value" and name in self.corrections:
            corrected = result + self.corrections[name].to(result)
            if name.endswith("running_var"):  # another one than the model's must stay positive
                return torch.maximum(corrected, _LEAST_VARIANCE * result)
            return corrected
        return result


def reindexed(
    tensor: Tensor, changes: tuple[AxisChange, ...], fresh: Tensor | float = 0.0
) -> Tensor:
    """Return `tensor` with its axes re-indexed, in the same memory format.

    Args:
        tensor: A tensor of the old shape.
        changes: The changes of its axes.
        fresh: Value of fresh entries: a number, or a tensor of the new shape.
    """
    if tensor.is_sparse:  # the gradient of an embedding
        return reindexed(tensor.to_dense(), changes, fresh).to_sparse(tensor.sparse_dim())
    result = gathered(tensor, changes)
    for change in changes:
        if isinstance(fresh, Tensor):
            entries = fresh.index_select(change.dim, change.fresh.to(fresh.device))
            write_fresh(result, change, entries)
        else:
            write_fresh(result, change, fresh)
    return result


def gathered(tensor: Tensor, changes: tuple[AxisChange, ...]) -> Tensor:
    """Return the entries that survive, in their new places; fresh entries are undefined.

    A few long runs of entries, which growing leaves, are copied as blocks over all axes at once;
    many short ones entry by entry, axis after axis.
    """
    if not changes:
        return tensor
    kept = [change.runs for change in changes]
    channels_last = _is_channels_last(tensor)
    if prod(map(len, kept)) <= _BLOCKS:
        shape = list(tensor.shape)
        for change in changes:
            shape[change.dim] = len(change.source)
        result = tensor.new_empty(shape)
        if channels_last:
            result = result.contiguous(memory_format=torch.channels_last)
        for block in product(*kept):
            here, there = result, tensor
            for change, run in zip(changes, block, strict=True):
                here = here.narrow(change.dim, run.new, run.length)
                there = there.narrow(change.dim, run.old, run.length)
            here.copy_(there)
        return result
    result = tensor
    for change in changes:
        result = result.index_select(change.dim, change.source.clamp(min=0).to(tensor.device))
    return result.contiguous(memory_format=torch.channels_last) if channels_last else result


def write_fresh(tensor: Tensor, change: AxisChange, value: Tensor | float) -> None:
    """Write the fresh entries of an axis, in place.

    Args:
        tensor: The tensor, of its new shape.
        change: The change of the axis.
        value: A number, or a tensor that has along the axis the fresh entries only.
    """
    if len(change.fresh_runs) > _BLOCKS:
        where = change.fresh.to(tensor.device)
        if isinstance(value, Tensor):
            tensor.index_copy_(change.dim, where, value.to(tensor))
        else:
            tensor.index_fill_(change.dim, where, value)
        return
    done = 0
    for run in change.fresh_runs:
        here = tensor.narrow(change.dim, run.new, run.length)
        if isinstance(value, Tensor):
            here.copy_(value.narrow(change.dim, done, run.length))
        else:
            here.fill_(value)
        done += run.length


def _is_channels_last(tensor: Tensor) -> bool:
    return not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)


def transferred(
    tensor: Tensor, transfers: tuple[AxisTransfer, ...], nature: Literal["value", "importance"]
) -> Tensor:
    """Return `tensor` with the entries that transfers derive from others."""
    for transfer in transfers:
        factor = transfer.value if nature == "value" else transfer.importance
        shape = [-1 if dim == transfer.dim else 1 for dim in range(tensor.dim())]
        to, of = transfer.to.to(tensor.device), transfer.of.to(tensor.device)
        entries = tensor.index_select(transfer.dim, of) * factor.to(tensor).view(shape)
        if nature == "value" and transfer.shift:
            entries = entries + transfer.shift
        tensor = tensor.index_copy(transfer.dim, to, entries)
    return tensor


def with_means(tensor: Tensor, means: tuple[AxisMean, ...]) -> Tensor:
    """Return `tensor` with the fresh entries that are the means of others."""
    # MPS has no float64.
    precise = torch.float32 if tensor.device.type == "mps" else torch.float64
    for mean in means:
        (count, held), dim = mean.of.shape, mean.dim
        others = tensor.index_select(dim, mean.of.flatten().to(tensor.device))
        shape = (*tensor.shape[:dim], count, held, *tensor.shape[dim + 1 :])
        others = others.view(shape)
        if mean.weights is not None:
            along = [1] * dim + list(mean.of.shape) + [1] * (tensor.dim() - dim - 1)
            others = others.to(precise) * mean.weights.to(others.device, precise).view(along)
        entries = others.sum(dim, dtype=precise) / max(1, count)
        repeated = torch.cat([entries] * len(mean.to), dim).to(tensor.dtype)
        tensor = tensor.index_copy(dim, mean.to.flatten().to(tensor.device), repeated)
    return tensor
