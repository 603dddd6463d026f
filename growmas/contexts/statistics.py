"""Statistics of classes for linear classifiers: sums that add up over batches, tasks and shards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from growmas.contexts.context import TaskKey
from growmas.contexts.density import Component

ROWS = 1024
"""Rows that are turned into float64 at once."""

STRIPE = 512
"""Rows of the matrix of products that are added to at once, from the diagonal on."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Central moments of N rows in D dimensions, which belong to M components. All are float64.

    Attributes:
        counts: [M], rows of each component, n_c.
        mean: [D], of all rows.
        scatter: [D, D], A = Σ (φ − mean)(φ − mean)ᵀ over all rows.
        between: [M, D], B_c = Σ (φ − mean) over the rows of component c.
    """

    counts: Tensor
    mean: Tensor
    scatter: Tensor
    between: Tensor

    @property
    def rows(self) -> int:
        """N."""
        return int(self.counts.sum())

    @property
    def dimensions(self) -> int:
        """D."""
        return len(self.mean)

    @property
    def offsets(self) -> Tensor:
        """Mean of each component less the mean of all, [M, D]."""
        return self.between / self.counts[:, None]

    @property
    def within(self) -> Tensor:
        """Covariance within components, [D, D]: their scatter about their own means over N."""
        return (self.scatter - self.between.mT @ self.offsets) / self.rows


class ClassSums:
    """Count and sum of the rows of each component, and one matrix of products for all of them.

    Rows are taken relative to a fixed reference, the mean of the first ones, so that features far
    from zero lose no digits. Everything is a plain sum in float64: the order of samples, batches
    and classes does not matter, and merging two is adding them.

    Attributes:
        tasks: The T tasks seen, in the order in which they came.
        counts: Rows of each of the M components.
        sums: Σ (φ − reference) over the rows of each component, [D].
        reference: [D]; None before the first row.
        products: [D, D], Σ (φ − reference)(φ − reference)ᵀ over all rows; only the part on and
            above the diagonal is up to date.
    """

    def __init__(self) -> None:
        self.tasks: tuple[TaskKey, ...] = ()
        self.counts: dict[Component, int] = {}
        self.sums: dict[Component, Tensor] = {}
        self.reference: Tensor | None = None
        self.products = torch.zeros(0, 0, dtype=torch.float64)

    @property
    def components(self) -> tuple[Component, ...]:
        """Task and label of each component: tasks as in `tasks`, labels in order."""
        place = {task: position for position, task in enumerate(self.tasks)}
        return tuple(sorted(self.counts, key=lambda c: (place[c[0]], c[1] or 0)))

    @property
    def rows(self) -> int:
        """Rows seen, N."""
        return sum(self.counts.values())

    def add(self, rows: Tensor, owners: Sequence[tuple[Component, Tensor]]) -> None:
        """Add rows [N, D]; each component comes with a mask [N] of those that are its own."""
        place = torch.device("cpu") if rows.device.type == "mps" else rows.device
        reference = self._begin(rows, place)
        for start in range(0, len(rows), ROWS):
            chunk = rows[start : start + ROWS].to(place).double() - reference
            _add_products(self.products, chunk)
            for component, mask in owners:
                mine = mask[start : start + ROWS].to(place)
                self._add_sum(component, int(mine.sum()), mine.double() @ chunk)

    def merge(self, other: "ClassSums") -> None:
        """Add what another one saw; tasks that are new here come after those that are not.

        With d = their reference − ours: S ← S + S' + n'd and G ← G + G' + Sd' + dS' + N'ddᵀ.
        """
        if other.reference is None:
            return
        if self.reference is None:
            self.reference = other.reference.clone()
            self.products = torch.zeros_like(other.products)
        here = self.reference.device
        shift = other.reference.to(here) - self.reference
        total = torch.zeros_like(shift)
        for component in other.components:
            theirs, count = other.sums[component].to(here), other.counts[component]
            total += theirs
            self._add_sum(component, count, theirs + count * shift)
        half = total + other.rows * shift / 2
        self.products += other.products.to(here)
        self.products += half[:, None] * shift + shift[:, None] * half

    def statistics(self) -> Statistics:
        """Return the central moments, components in the order of `components`."""
        if self.reference is None:
            raise ValueError("no row was added")  # contexts refuse to be asked before
        counts = torch.tensor([self.counts[c] for c in self.components], dtype=torch.float64)
        sums = torch.stack([self.sums[c] for c in self.components])
        counts = counts.to(sums.device)
        total, offset = counts.sum(), sums.sum(0) / counts.sum()
        upper = self.products.triu()
        scatter = upper + upper.triu(1).mT
        scatter -= total * offset[:, None] * offset
        return Statistics(counts, self.reference + offset, scatter, sums - counts[:, None] * offset)

    def state(self) -> dict[str, Any]:
        """Return all sums, on the CPU, of the products the part on and above the diagonal."""
        size = len(self.products)
        row, column = torch.triu_indices(size, size)
        sums = [self.sums[c].cpu() for c in self.components]
        return {
            "tasks": list(self.tasks),
            "components": [list(c) for c in self.components],
            "counts": [self.counts[c] for c in self.components],
            "sums": torch.stack(sums) if sums else torch.zeros(0, size, dtype=torch.float64),
            "reference": None if self.reference is None else self.reference.cpu().clone(),
            "products": self.products.cpu()[row, column],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        components: list[Component] = [(task, label) for task, label in state["components"]]
        reference = state["reference"]
        size = 0 if reference is None else len(reference)
        row, column = torch.triu_indices(size, size)
        self.products = torch.zeros(size, size, dtype=torch.float64)
        self.products[row, column] = state["products"]
        self.reference = None if reference is None else reference.clone()
        self.tasks = tuple(state["tasks"])
        self.counts = dict(zip(components, map(int, state["counts"]), strict=True))
        self.sums = dict(zip(components, state["sums"].clone().unbind(0), strict=True))

    def _begin(self, rows: Tensor, place: torch.device) -> Tensor:
        """Return the reference, set by the first rows; move everything to where rows are."""
        if self.reference is None:
            self.reference = rows.to(place).double().mean(0)
            size = len(self.reference)
            self.products = torch.zeros(size, size, dtype=torch.float64, device=place)
        elif self.reference.device != place:
            self.reference = self.reference.to(place)
            self.products = self.products.to(place)
            self.sums = {c: total.to(place) for c, total in self.sums.items()}
        return self.reference

    def _add_sum(self, component: Component, count: int, total: Tensor) -> None:
        if not count:
            return
        if component[0] not in self.tasks:
            self.tasks = (*self.tasks, component[0])
        self.counts[component] = self.counts.get(component, 0) + count
        held = self.sums.get(component)
        self.sums[component] = total if held is None else held + total


def _add_products(products: Tensor, rows: Tensor) -> None:
    """Add rowsᵀ rows to the part on and above the diagonal, which halves the work."""
    for start in range(0, len(products), STRIPE):
        stop = start + STRIPE
        products[start:stop, start:].addmm_(rows[:, start:stop].mT, rows[:, start:])
