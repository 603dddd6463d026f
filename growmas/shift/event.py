"""Shift events, and the protocol and the checks that detectors share."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

from growmas.errors import ShiftError
from growmas.settings import refuse_settings

check_settings = partial(refuse_settings, ShiftError)

Kind = Literal["plateau", "peak"]
"""A plateau: the task has been learnt. A peak: another task has come."""


@dataclass(frozen=True)
class ShiftEvent:
    """A plateau or a peak in a stream.

    Attributes:
        kind: "plateau": the task has been learnt; "peak": another task has come.
        step: Step at which the detector reported it, counted from 0.
        onset: Of a peak, the estimated step at which it began, at most `step`; of a plateau, the
            first step of its window.
        reason: The reason in words, with the numbers below.
        statistics: Name -> value measured.
        thresholds: Name -> value that the statistic was compared with.
    """

    kind: Kind
    step: int
    onset: int
    reason: str
    statistics: Mapping[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Detector(Protocol):
    """A detector that watches a loss, one number per step."""

    def update(self, loss: float) -> ShiftEvent | None:
        """Take in the next loss, and return an event if there is one."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything remembered, as JSON values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        ...


def finite(loss: float, step: int) -> float:
    """Return the loss as a finite number.

    Raises:
        ShiftError: The loss is not a single number, or it is NaN or infinite.
    """
    try:
        number = float(loss)
    except (TypeError, ValueError, RuntimeError) as error:  # torch's, for several elements
        raise ShiftError(
            f"the loss of step {step} is a {type(loss).__name__} that is not one number: give "
            "the mean over the batch, as a float or a tensor of one element"
        ) from error
    if not math.isfinite(number):
        raise ShiftError(
            f"the loss of step {step} is {number}: a detector needs finite losses; lower the "
            "learning rate, or leave the step out"
        )
    return number


def check_state(state: Mapping[str, Any], expected: Mapping[str, Any], what: str) -> None:
    """Refuse an incomplete state, or one of other settings.

    Raises:
        ShiftError: Names them.
    """
    missing = sorted(expected.keys() - state.keys())
    if missing:
        raise ShiftError(f"the state of a {what} lacks {', '.join(missing)}")
    ours, theirs = expected["settings"], state["settings"]
    if ours != theirs:
        differing = ", ".join(
            f"{name}={theirs.get(name)!r} instead of {ours.get(name)!r}"
            for name in sorted(ours.keys() | theirs.keys())
            if ours.get(name) != theirs.get(name)
        )
        raise ShiftError(
            f"the state is of a {what} with {differing}: make the detector with the settings of "
            "the state"
        )
