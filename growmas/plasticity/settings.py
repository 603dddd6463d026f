"""Settings of the replacement of low-utility units."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor

from growmas.errors import PlanError
from growmas.structure import UnitGroup

UtilityWord = Literal["rms", "activation", "contribution", "importance"]

Utility = UtilityWord | Callable[[UnitGroup, Tensor], Tensor]
"""A word, or a function (group, activations [N, U]) -> [U], N samples or positions."""

Start = Literal["paired", "zero_out"]
"""The start of units that replace others."""


@dataclass(frozen=True, kw_only=True)
class ReplacementSettings:
    """Settings: the utility below which a unit is replaced, and how many are.

    Attributes:
        threshold: Share of the mean utility of its group below which a unit is replaced, 0 to 1.
        rate: Share of the mature units that is replaced per step, the least useful first, whatever
            their utility (continual backprop); fractions add up until they make a unit. None
            replaces by `threshold`.
        maturity: Number of steps for which a unit is safe.
        utility: "rms", √(mean h²), which a unit that is strong on a few samples keeps high;
            "activation", mean |h|; both of h − mean h where the units saturate; "contribution",
            mean |h| times the sum of |weights| that read the unit; "importance", Σ Ω θ² over those
            weights with the exact Ω of the batch; or a function
            (group, activations [N, U]) -> [U].
        decay: Share of the earlier utility that is kept at each measurement, 0 <= decay < 1.
        every: Number of steps from one measurement to the next.
        guard: Units for which Σ Ω θ*² over the weights that read them exceeds `guard` × the mean of
            their group are needed by old tasks, and stay; None guards none.
        init: "paired", families of mates that cancel each other, with columns as large as living
            ones and rows between the default length and the living one; or "zero_out", rows of the
            default length and columns of zero.
        protected: Groups left alone.
    """

    threshold: float = 0.2
    rate: float | None = None
    maturity: int = 100
    utility: Utility = "rms"
    decay: float = 0.9
    every: int = 10
    guard: float | None = 0.1
    init: Start = "paired"
    protected: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse settings out of range; all problems are listed."""
        given: object = self.protected
        names = (given,) if isinstance(given, str) else self.protected
        problems = [*_numbers(self), *_words(self, names)]
        if problems:
            raise PlanError("; ".join(problems))
        object.__setattr__(self, "protected", tuple(names))


def _numbers(of: ReplacementSettings) -> Iterable[str]:
    """Yield the problems of numbers."""
    checks: tuple[tuple[str, str, Callable[[Any], bool], bool, bool], ...] = (
        ("threshold", "0 < threshold <= 1", lambda x: 0 < x <= 1, False, False),
        ("rate", "0 < rate < 1, or None", lambda x: 0 < x < 1, False, True),
        ("maturity", "a whole number of steps >= 0", lambda n: n >= 0, True, False),
        ("decay", "0 <= decay < 1", lambda x: 0 <= x < 1, False, False),
        ("every", "a whole number of steps >= 1", lambda n: n >= 1, True, False),
        ("guard", "a number >= 0, or None", lambda x: 0 <= x < float("inf"), False, True),
    )
    for key, expected, fits, whole, optional in checks:
        value = getattr(of, key)
        kinds = int if whole else int | float
        if value is None and optional:
            continue
        if isinstance(value, bool) or not isinstance(value, kinds) or not fits(value):
            yield f"{key}={value!r:.80}: expected {expected}"


def _words(of: ReplacementSettings, names: object) -> Iterable[str]:
    """Yield the problems of words and names."""
    words = get_args(UtilityWord)
    if not callable(of.utility) and of.utility not in words:
        listed = ", ".join(map(repr, words))
        yield (
            f"utility={of.utility!r:.80}: expected {listed}, or a function "
            "(group, activations [N, U]) -> [U]"
        )
    if of.init not in get_args(Start):
        yield f"init={of.init!r:.80}: expected one of {', '.join(map(repr, get_args(Start)))}"
    if not isinstance(names, Iterable) or not all(isinstance(name, str) for name in names):
        yield f"protected={of.protected!r:.80}: expected names of groups, such as ('fc1',)"
