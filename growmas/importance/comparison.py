"""How far the batch approximation of Ω is from the exact Ω, on given data."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from torch import Tensor, nn

from growmas.batches import Forward
from growmas.importance.mas import mas_importance

TOP = 0.1
"""Share of the entries whose agreement is looked at."""


@dataclass(frozen=True)
class Agreement:
    """The batch approximation against the exact Ω of one parameter, or of all.

    Each is NaN where the exact Ω is zero everywhere, and the rank correlation also where either
    is the same everywhere.

    Attributes:
        entries: Number of them.
        l1: Σ |approximation − exact| / Σ exact; 0 is perfect.
        mass: Σ approximation / Σ exact; 1 is perfect. Never above 1 but for rounding.
        rank_correlation: Spearman's, with mean ranks for equal values; 1 is perfect.
        top_overlap: Share of the exact top 10% (at least one entry) that is also in the
            approximation's top 10%.
    """

    entries: int
    l1: float
    mass: float
    rank_correlation: float
    top_overlap: float


@dataclass(frozen=True)
class EstimatorComparison:
    """The batch approximation against the exact Ω; printing it with rich gives a table.

    Attributes:
        parameters: By qualified name.
        overall: All entries of all parameters taken together.
    """

    parameters: Mapping[str, Agreement]
    overall: Agreement

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table; in ASCII where the console has nothing else."""
        table = Table(
            box=box.ASCII if options.ascii_only else box.SIMPLE_HEAD,
            title="Importance: batch approximation against exact",
        )
        table.add_column("parameter", overflow="fold")
        for header in ("entries", "L1 error", "mass", "rank correlation", "top 10% overlap"):
            table.add_column(header, justify="right", overflow="fold")
        for name, found in (*self.parameters.items(), ("all", self.overall)):
            numbers = (found.l1, found.mass, found.rank_correlation, found.top_overlap)
            table.add_row(name, f"{found.entries}", *(f"{number:.3f}" for number in numbers))
        yield table


def compare_estimators(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    forward: Forward | None = None,
    function: str | Callable[[Any], Tensor] = "squared_norm",
) -> EstimatorComparison:
    """What |gradient of the batch mean| would have cost in place of the mean of |gradients|.

    Many implementations take the former for Ω. Its error depends on the size of the batches:
    give them as they would be used. The arguments are those of `mas_importance`; all batches are
    held in memory, since they are gone through twice.

    Raises:
        DataError: See `mas_importance`.
        ImportanceError: See `mas_importance`.
    """
    batches = list(batches)
    exact, approximate = (
        mas_importance(model, batches, forward=forward, function=function, estimator=estimator)
        for estimator in ("exact", "batch")
    )
    return EstimatorComparison(
        {name: agreement(approximate[name], exact[name]) for name in exact},
        agreement(*(torch.cat([o.flatten() for o in om.values()]) for om in (approximate, exact))),
    )


def agreement(approximate: Tensor, exact: Tensor) -> Agreement:
    """Compare two tensors of one shape, entry by entry."""
    given, wanted = approximate.flatten().double(), exact.flatten().double()
    total = float(wanted.sum())
    if total == 0:
        return Agreement(len(wanted), math.nan, math.nan, math.nan, math.nan)
    count = math.ceil(TOP * len(wanted))
    top = [values.topk(count).indices for values in (given, wanted)]
    return Agreement(
        entries=len(wanted),
        l1=float((given - wanted).abs().sum()) / total,
        mass=float(given.sum()) / total,
        rank_correlation=_correlation(_ranks(given), _ranks(wanted)),
        top_overlap=int(torch.isin(*top).sum()) / count,
    )


def _ranks(values: Tensor) -> Tensor:
    """Ranks from 1; equal values share their mean rank."""
    ordered = values.sort().values
    below = torch.searchsorted(ordered, values)
    not_above = torch.searchsorted(ordered, values, right=True)
    return (below + not_above + 1).double() / 2


def _correlation(left: Tensor, right: Tensor) -> float:
    left, right = left - left.mean(), right - right.mean()
    scale = float(left.norm() * right.norm())
    return float(left @ right) / scale if scale else math.nan
