"""Certificate: a measurement, on the whole batch, of which sample each row belongs to.

A worked example: 3 samples with 2, 1 and 3 valid tokens. The model computes `linear(x[mask])`, six
rows whose owners 0, 0, 1, 2, 2, 2 follow from the values of the mask, so that no proof by shapes is
possible.

Choose random numbers r₀, r₁, r₂ near 1 and take two backward passes to the output of the linear
layer, of Σ_n g_n and of Σ_n r_n g_n. They give δ and δʳ. If only sample n depends on a row, then
δʳ[row] = r_n δ[row], and the quotient names the owner. If two samples depend on a row, then
δʳ[row] = r_n δ_n[row] + r_m δ_m[row], which equals r_p (δ_n[row] + δ_m[row]) for some p only by
accident, since r is random. Such a row has no owner, and its parameters go to the fallback.

Rows are compared through random projections u·δ[row], a few numbers per row, so that nothing as
large as δ is held. A row with δ = 0 does not matter and has no owner.

What the certificate cannot see is an influence without a gradient, for instance through a batch
mean under `no_grad`. Therefore `check_company` compares the objective of the batch with that of
the same samples in two halves.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from growmas.importance.backward import pass_gradients
from growmas.importance.graph import Graph
from growmas.importance.rows import UNOWNED, RowOwners
from growmas.importance.uses import Use

EXACT = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Largest relative difference between δʳ and r δ that rounding may cause, by dtype."""

PROJECTIONS = 4
"""Number of projections of each row: one alone may be almost 0 by accident."""

SEED = 20180908
"""Seed of the certificate's own random numbers; the global generators are not used."""


def precision(dtypes: Iterable[torch.dtype]) -> float:
    """Return the relative difference that the coarsest of these dtypes may cause."""
    return max((EXACT.get(dtype, 1.0) for dtype in dtypes), default=1.0)


def can_measure(samples: int, exact: float) -> bool:
    """Return True if rounding of this size still tells so many samples apart."""
    return exact * 8 * samples <= 1


def owners_of_rows(
    values: Tensor, uses: Sequence[Use], graph: Graph, exact: float
) -> dict[Use, RowOwners | None]:
    """Measure the owners of the rows of every use by two backward passes.

    Args:
        values: The objective, [N, K].
        uses: The recorded uses.
        graph: Graph of `values`.
        exact: Largest relative difference that rounding may cause.

    Returns:
        Use -> owners of its rows; None if some row belongs to several samples, or if the dtype is
        too coarse to tell so many samples apart.
    """
    samples, columns = values.shape
    if not can_measure(samples, exact):
        return dict.fromkeys(uses)
    generator = torch.Generator().manual_seed(SEED)
    weight = _weights(samples, generator)
    mix = torch.rand(columns, generator=generator, dtype=torch.float64) + 0.5
    # column weights make one pass do for all columns; a single column keeps weight 1
    objective = values * mix.to(values) if columns > 1 else values
    plain = _projections(objective.sum(), uses, graph)
    weighted = _projections((objective * weight.to(values)[:, None]).sum(), uses, graph)
    none = torch.zeros(0, PROJECTIONS, dtype=torch.float64)
    return {
        use: _owners(plain.get(use, none), weighted.get(use, none), weight, exact) for use in uses
    }


def _weights(samples: int, generator: torch.Generator) -> Tensor:
    """Return N random numbers in [1, 2) in random order, at least 1 / 2N apart."""
    jitter = torch.rand(samples, generator=generator, dtype=torch.float64) / 2
    return 1 + (torch.randperm(samples, generator=generator) + jitter) / samples


class _Projector:
    """Receives the gradients of one backward pass and projects each row to a few numbers."""

    def __init__(self, uses: Sequence[Use]) -> None:
        self.uses = list(uses)
        self.found: dict[Use, Tensor] = {}

    def arrive(self, use: Use, delta: Tensor | None) -> None:
        rows = use.shape[: use.rows].numel()
        if delta is None:
            self.found[use] = torch.zeros(rows, PROJECTIONS, dtype=torch.float64)
            return
        flat = delta.reshape(rows, use.shape[use.rows :].numel())
        generator = torch.Generator().manual_seed(SEED)
        directions = torch.randn(
            flat.shape[1], PROJECTIONS, generator=generator, dtype=torch.float64
        )
        precise = torch.float32 if flat.device.type == "mps" else torch.float64
        self.found[use] = (flat.to(precise) @ directions.to(flat.device, precise)).cpu().double()

    def finish(self) -> None:
        """Do nothing: projections need no sum over uses."""


def _projections(objective: Tensor, uses: Sequence[Use], graph: Graph) -> Mapping[Use, Tensor]:
    projector = _Projector(uses)
    pass_gradients(objective, graph, projector, keep_graph=True)
    return projector.found


def _owners(plain: Tensor, weighted: Tensor, weight: Tensor, exact: float) -> RowOwners | None:
    """Find the sample whose weight is the quotient of the projections of each row."""
    size, widest = plain.abs().max(1)
    silent_below = exact * 1e-4 * float(size.max()) if len(size) else 0.0
    silent = (size <= silent_below) & (weighted.abs().amax(1) <= silent_below)
    chosen = widest[:, None]
    quotient = (weighted.gather(1, chosen) / plain.gather(1, chosen)).squeeze(1)
    ordered, order = weight.sort()
    right = torch.searchsorted(ordered, quotient).clamp(max=len(weight) - 1)
    left = (right - 1).clamp(min=0)
    nearer = (ordered[left] - quotient).abs() < (ordered[right] - quotient).abs()
    owner = order[torch.where(nearer, left, right)]
    off = (weighted - weight[owner][:, None] * plain).abs().amax(1)
    if bool((~silent & ~(off <= exact * size)).any()):
        return None
    return RowOwners(torch.where(silent, UNOWNED, owner), len(weight))
