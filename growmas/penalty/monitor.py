"""Is the penalty doing anything? Looked at now and then, and said once."""

import warnings
from dataclasses import dataclass, field

import torch
from torch import Tensor

from growmas.errors import GrowmasWarning
from growmas.penalty.terms import Terms, norm

LOOKS = (10, 100, 1000)
"""Steps after a consolidate at which the penalty is looked at; the others never wait for it."""

SWAMPED = 10.0
"""A penalty gradient of more than this many times the loss gradient leaves the loss no say."""

ZERO_IMPORTANCE = (
    "the importance just measured is zero for every parameter: this task is not protected. "
    "The output is zero, or does not depend on the parameters held: look for a detach, a no_grad "
    "or another head in the model or in forward=, and at function= and exclude="
)


def zero_penalty(terms: tuple[Terms, ...]) -> str | None:
    """Why the penalty is zero although parameters moved; None where that is as it should be.

    It is where nothing moved, where the strength is zero, and where everything important is
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
        "all that moved has importance zero, and what is important stays where it was. Look "
        "whether the optimizer holds the parameters of mas.model; if importance is tiny, give "
        "normalize='mean'"
    )


def swamped(ratio: float) -> str | None:
    """Why a ratio of gradients is too large, or None."""
    if not ratio > SWAMPED:
        return None
    return (
        f"the gradient of the penalty is {ratio:.3g} times that of the loss (more than "
        f"{SWAMPED:g} leaves the loss no say): the network hardly learns, or its steps overshoot. "
        f"Divide the strength by {ratio:.2g} or more, or take mas.propose_strength(...)"
    )


@dataclass
class Monitor:
    """Counts the steps since a consolidate, and warns of each fault once until the next.

    Attributes:
        tasks: How many tasks had been consolidated when it was last asked.
        steps: Times the penalty was asked for since then.
        loss: Largest gradient of the loss seen at a look. A loss that has been learnt has hardly
            a gradient left, and a penalty beside it is no fault.
        said: Messages given.
    """

    tasks: int = 0
    steps: int = 0
    loss: float = 0.0
    said: set[str] = field(default_factory=set)

    def due(self, tasks: int) -> bool:
        """Count a step after so many tasks; whether to look at it. Never inside compiled code."""
        if torch.compiler.is_compiling():
            return False
        if tasks != self.tasks:
            self.tasks, self.steps, self.loss, self.said = tasks, 0, 0.0, set()
        self.steps += 1
        return self.steps in LOOKS

    def look(self, value: Tensor, terms: tuple[Terms, ...], loss_gradient: float | None) -> None:
        """Warn where the penalty is zero without a reason, or swamps the loss.

        Args:
            value: The penalty.
            terms: What it is made of.
            loss_gradient: Norm of the loss's own gradient, None if it is not known.
        """
        if float(value) == 0:
            self.say("zero", zero_penalty(terms), stacklevel=4)
        elif loss_gradient:
            self.loss = max(self.loss, loss_gradient)
            ratio = norm([g for t in terms for g in t.gradients().values()]) / self.loss
            self.say("swamped", swamped(ratio), stacklevel=4)

    def say(self, fault: str, message: str | None, *, stacklevel: int) -> None:
        """Warn, unless there is nothing to say or it was said."""
        if message and fault not in self.said:
            self.said.add(fault)
            warnings.warn(message, GrowmasWarning, stacklevel=stacklevel)


def loss_gradient(terms: tuple[Terms, ...], scale: float) -> float:
    """Norm of what is in `.grad`, before the penalty's gradient joins it."""
    gradients = [p.grad for t in terms for p in t.parameters if p.grad is not None]
    return norm(gradients) / scale


def _any_important(terms: Terms) -> bool:
    pairs = zip(terms.parameters, terms.omegas, strict=True)
    return any(p.requires_grad and bool(omega.any()) for p, omega in pairs)


def _some(names: list[str]) -> str:
    rest = len(names) - 3
    return ", ".join(map(repr, names[:3])) + (f" and {rest} more" if rest > 0 else "")
