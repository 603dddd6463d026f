"""Row owners: which sample each row of an operation's output belongs to.

The rows of an operation are what it treats one by one: tokens of a linear layer, images of a
convolution. If sample n owns one row, in order, nothing has to be done. Otherwise the rows of every
sample are gathered: a linear layer on [6, D], of which sample 0 owns rows 0, 1, 3 and sample 1 rows
2 and 4, is treated as [2, 3, D], with zeros in place of the missing row; row 5 has no owner.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

UNOWNED = -1
"""Owner of a row that no objective depends on."""


@dataclass(frozen=True, eq=False)
class RowOwners:
    """Owners of the R rows of one operation.

    Attributes:
        owner: [R], the sample of each row, or `UNOWNED`.
        samples: N.
    """

    owner: Tensor
    samples: int
    _order: Tensor = field(init=False, repr=False)
    _counts: Tensor = field(init=False, repr=False)
    _starts: list[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Sort the rows by their owners."""
        owned = (self.owner >= 0).nonzero().squeeze(1)
        order = owned[self.owner[owned].argsort(stable=True)]
        counts = torch.bincount(self.owner[owned], minlength=self.samples)
        object.__setattr__(self, "_order", order)
        object.__setattr__(self, "_counts", counts)
        starts = [0, *counts.cumsum(0).tolist()]
        object.__setattr__(self, "_starts", starts)

    def largest(self) -> slice:
        """Return the slice of the sample with most rows."""
        sample = int(self._counts.argmax())
        return slice(sample, sample + 1)

    def take(self, cut: slice) -> "Taken":
        """Return the rows of some samples."""
        start, stop, _ = cut.indices(self.samples)
        rows = self._order[self._starts[start] : self._starts[stop]]
        counts = self._counts[start:stop]
        return Taken(rows, counts)


@dataclass(frozen=True, eq=False)
class Taken:
    """Rows of some samples, sorted by sample.

    Attributes:
        rows: [r], positions among all rows.
        counts: [n], number of rows of each sample.
    """

    rows: Tensor
    counts: Tensor

    def select(self, values: Tensor) -> Tensor:
        """Select the rows from all rows, [R, ...] -> [r, ...]."""
        return values.index_select(0, self.rows)

    def gather(self, values: Tensor) -> Tensor:
        """Arrange selected rows by sample, [r, ...] -> [n, k, ...], missing ones zero."""
        n, most = len(self.counts), int(self.counts.max()) if len(self.counts) else 0
        if bool((self.counts == most).all()):
            return values.reshape(n, most, *values.shape[1:])
        sample = torch.arange(n, device=self.counts.device).repeat_interleave(self.counts)
        first = self.counts.cumsum(0) - self.counts
        place = torch.arange(len(self.rows), device=self.counts.device) - first[sample]
        padded = values.new_zeros(n, most, *values.shape[1:])
        padded[sample, place] = values
        return padded


def regular(shape: torch.Size, axis: int, each: int, samples: int) -> RowOwners:
    """Return owners of rows [*shape] of which dimension `axis` is the samples, `each` apiece."""
    along = torch.arange(samples).repeat_interleave(each)
    view = [1] * len(shape)
    view[axis] = -1
    return RowOwners(along.view(view).expand(shape).reshape(-1), samples)
