"""Comparison of the batch approximation of Ω with the exact Ω, on given data."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from torch import Tensor, nn

from growmas.batches import Forward, check_batches
from growmas.importance.mas import Estimator, mas_importance
from growmas.importance.objective import Function

TOP = 0.1
"""Share of the largest entries that are compared."""


@dataclass(frozen=True)
class Agreement:
    """The batch approximation against the exact Ω of one parameter, or of all.

    Every number is NaN if the exact Ω is zero everywhere. The rank correlation is also NaN if
    either tensor is constant.

    Attributes:
        entries: Number of entries.
        l1: Σ |approximation − exact| / Σ exact; 0 is perfect.
        mass: Σ approximation / Σ exact; 1 is perfect. Never above 1, up to rounding.
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
        parameters: Qualified parameter name -> agreement.
        overall: Agreement over all entries of all parameters.
    """

    parameters: Mapping[str, Agreement]
    overall: Agreement

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table, in ASCII if the console is limited to it."""
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
    function: Function = "squared_norm",
) -> EstimatorComparison:
    """Compare |gradient of the batch mean| with the mean of per-sample |gradients|, the exact Ω.

    Many implementations use the former for Ω. Its error depends on the batch size, so give the
    batches as they would be used. The arguments and errors are those of `mas_importance`. All
    batches are held in memory, since they are read twice.
    """
    check_batches(batches)
    batches = list(batches)
    estimators: tuple[Estimator, ...] = ("exact", "batch")
    exact, approximate = (
        mas_importance(model, batches, forward=forward, function=function, estimator=estimator)
        for estimator in estimators
    )
    return EstimatorComparison(
        {name: agreement(approximate[name], exact[name]) for name in exact},
        agreement(*(torch.cat([o.flatten() for o in om.values()]) for om in (approximate, exact))),
    )


def agreement(approximate: Tensor, exact: Tensor) -> Agreement:
    """Compare two tensors of the same shape entry by entry."""
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
    """Return ranks from 1; equal values get their mean rank."""
    ordered = values.sort().values
    below = torch.searchsorted(ordered, values)
    not_above = torch.searchsorted(ordered, values, right=True)
    return (below + not_above + 1).double() / 2


def _correlation(left: Tensor, right: Tensor) -> float:
    left, right = left - left.mean(), right - right.mean()
    scale = float(left.norm() * right.norm())
    return float(left @ right) / scale if scale else math.nan
