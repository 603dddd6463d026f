"""What a detector reports, and what all detectors have in common."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from growmas.errors import ShiftError

Kind = Literal["plateau", "peak"]


@dataclass(frozen=True)
class ShiftEvent:
    """Something happened in a stream.

    Attributes:
        kind: "plateau": what is learnt has been learnt; "peak": something else has come.
        step: At which it was noticed, counted from 0.
        onset: Of a peak: the step at which it is thought to have begun, at most `step`; of a
            plateau: the first step of the window.
        reason: In words, with the numbers below.
        statistics: Name -> what was measured.
        thresholds: Name -> what it was compared with.
    """

    kind: Kind
    step: int
    onset: int
    reason: str
    statistics: Mapping[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Detector(Protocol):
    """Watches a loss, one number a step."""

    def update(self, loss: float) -> ShiftEvent | None:
        """Take in the next loss; tells what happened, if anything did."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that it remembers, as JSON values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        ...


def finite(loss: float, step: int) -> float:
    """The loss as a number.

    Raises:
        ShiftError: It is no single number, or NaN or infinite.
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


def check_settings(**settings: tuple[object, bool, str]) -> None:
    """Refuse settings out of range, all at once.

    Args:
        settings: Name -> value, whether it is fine, and what was expected.

    Raises:
        ShiftError: Names each wrong one.
    """
    wrong = [
        f"{name}={value!r}: expected {words}"
        for name, (value, fine, words) in settings.items()
        if not fine
    ]
    if wrong:
        raise ShiftError("\n".join(wrong))


def check_state(state: Mapping[str, Any], expected: Mapping[str, Any], what: str) -> None:
    """Refuse a state with keys missing or of other settings.

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
        raise ShiftError(f"the state is of a {what} with {differing}: make one with its settings")
