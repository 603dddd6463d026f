"""The monitor of a penalty, which warns once if it is zero or too large."""

import warnings
from dataclasses import dataclass, field

import torch
from torch import Tensor

from growmas.errors import GrowmasWarning
from growmas.penalty.terms import Terms, norm

CHECKED_STEPS = (10, 100, 1000)
"""Steps after a consolidate at which the penalty is checked; other steps do not wait for a GPU."""

SWAMPED = 10.0
"""A penalty gradient of more than this many times the loss gradient dominates training."""

ZERO_IMPORTANCE = (
    "the importance just measured is zero for every parameter: this task is not protected. "
    "The output is zero, or does not depend on the parameters held: look for a detach, a no_grad "
    "or another head in the model or in forward=, and check function= and exclude="
)


def zero_penalty(terms: tuple[Terms, ...]) -> str | None:
    """Return the reason why the penalty is zero although parameters moved, or None.

    It is correctly zero if nothing moved, if the strength is zero, and if everything important is
    frozen and only parameters without importance, such as a new head, are trained.
    """
    if not any(t.strength and _any_important(t) for t in terms):
        return None
    moved = [
        name
        for t in terms
        for name, p, anchor in zip(t.names, t.parameters, t.anchors, strict=True)
        if not torch.equal(p.detach().to(anchor.dtype), anchor)
    ]
    if not moved:
        return None
    return (
        f"the penalty is exactly zero although {_some(moved)} moved since the last consolidate: "
        "all entries that moved have importance zero, and the important ones did not move. Check "
        "that the optimizer holds the parameters of mas.model; if importance is tiny, give "
        "normalize='mean'"
    )


def swamped(ratio: float) -> str | None:
    """Return the message for a ratio of gradients that is too large, or None."""
    if not ratio > SWAMPED:
        return None
    return (
        f"the gradient of the penalty is {ratio:.3g} times that of the loss (more than "
        f"{SWAMPED:g} is too much): the network hardly learns, or its steps overshoot. Divide the "
        f"strength by {ratio:.2g} or more, or use mas.propose_strength(...)"
    )


@dataclass
class Monitor:
    """Counts the steps since a consolidate, and warns once of each fault until the next.

    Attributes:
        tasks: Number of tasks consolidated at the last count.
        steps: Number of steps counted since then.
        loss: Largest gradient norm of the loss at a check. A loss that has been learnt has hardly
            a gradient left, and a penalty larger than it is then no fault.
        warned: Faults of which it has warned.
    """

    tasks: int = 0
    steps: int = 0
    loss: float = 0.0
    warned: set[str] = field(default_factory=set)

    def due(self, tasks: int) -> bool:
        """Count a step, and return True if the penalty is to be checked at it.

        Args:
            tasks: Number of tasks consolidated; a change starts the count anew.
        """
        if torch.compiler.is_compiling():  # a check would break the graph
            return False
        if tasks != self.tasks:
            self.tasks, self.steps, self.loss, self.warned = tasks, 0, 0.0, set()
        self.steps += 1
        return self.steps in CHECKED_STEPS

    def check(self, value: Tensor, terms: tuple[Terms, ...], loss_gradient: float | None) -> None:
        """Warn if the penalty is zero without a reason, or too large for the loss.

        Args:
            value: The penalty.
            terms: Its terms.
            loss_gradient: Norm of the loss's own gradient; None if it is not known.
        """
        if float(value) == 0:
            self._warn("zero", zero_penalty(terms))
        elif loss_gradient:
            self.loss = max(self.loss, loss_gradient)
            ratio = norm([g for t in terms for g in t.gradients().values()]) / self.loss
            self._warn("swamped", swamped(ratio))

    def _warn(self, fault: str, message: str | None) -> None:
        """Warn at the line that asked for the penalty, once for each fault."""
        if message and fault not in self.warned:
            self.warned.add(fault)
            warnings.warn(message, GrowmasWarning, stacklevel=4)


def loss_gradient(terms: tuple[Terms, ...], scale: float) -> float:
    """Return the norm of the loss's gradient in `.grad`, before the penalty's is added."""
    gradients = [p.grad for t in terms for p in t.parameters if p.grad is not None]
    return norm(gradients) / scale


def _any_important(terms: Terms) -> bool:
    """Return True if a trainable parameter has importance."""
    pairs = zip(terms.parameters, terms.omegas, strict=True)
    return any(p.requires_grad and bool(omega.any()) for p, omega in pairs)


def _some(names: list[str]) -> str:
    """Return the first three names and the number of the others, as text."""
    rest = len(names) - 3
    return ", ".join(map(repr, names[:3])) + (f" and {rest} more" if rest > 0 else "")
