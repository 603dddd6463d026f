"""Tuning: the record of `tune`, which says what a sweep searches for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from growmas.config.formatting import show
from growmas.config.record import Record
from growmas.settings import is_number

_FIXED = ("seed", "name", "stream", "sweep", "tune", "checkpoint", "device", "threads", "imports")
_RANGE = "a list of values, or a range {low: 1e-4, high: 1e-1, log: true}"


@dataclass(frozen=True)
class Range:
    """Range of a number; of whole numbers where both ends are written as such.

    Attributes:
        low: The smallest value.
        high: The largest value.
        log: True to search evenly over the orders of magnitude.
    """

    low: int | float
    high: int | float
    log: bool = False

    @property
    def whole(self) -> bool:
        """True if only whole numbers are tried."""
        return isinstance(self.low, int) and isinstance(self.high, int)


def _as_range(value: object) -> object:
    """Turn what is written for a key into a tuple of values or a range."""
    if isinstance(value, Range):
        return value
    if isinstance(value, list | tuple) and value:
        return tuple(value)
    if not isinstance(value, Mapping) or not {"low", "high"} <= {*value} <= {"low", "high", "log"}:
        raise ValueError(f"expected {_RANGE}, got {show(value)}")
    low, high, log = value["low"], value["high"], value.get("log", False)
    if not all(map(is_number, (low, high))):
        raise ValueError(f"expected numbers for low and high, got {show(value)}")
    if type(log) is not bool:
        raise ValueError(f"expected true or false for log, got {show(log)}")
    if low >= high:
        raise ValueError(f"expected low below high, got {low} and {high}")
    if log and low <= 0:
        raise ValueError(f"expected low above 0, as log is true, got {low}")
    return Range(low, high, log)


def _fitting_keys(keys: Mapping[str, Any]) -> Mapping[str, Any]:
    wrong = [key for key in keys if key.partition(".")[0] in _FIXED]
    if wrong:
        raise ValueError(
            f"{wrong[0]} cannot be tuned: expected keys below method, model or training"
        )
    return keys


def _each_once(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len({*seeds}) < len(seeds):
        raise ValueError(f"expected every seed once, got {show(list(seeds))}")
    return seeds


_Values = Annotated[Any, BeforeValidator(_as_range)]


class TuneConfig(Record):
    """Search for the values of keys, judged on validation data of one seed; others report it."""

    keys: Annotated[dict[str, _Values], AfterValidator(_fitting_keys)] = Field(
        min_length=1,
        description=f"a mapping of keys such as training.learning_rate, each with {_RANGE}",
    )
    trials: int = Field(20, ge=1, description="a whole number of runs to search with, at least 1")
    together: int = Field(
        4,
        ge=1,
        description="a whole number of trials that are chosen at once, so that they can run side "
        "by side, at least 1",
    )
    sampler: Literal["tpe", "random"] = Field("tpe", description="tpe or random")
    seed: int = Field(0, ge=0, lt=2**63, description="the seed of the trials and of the search")
    validation: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="a share of the training samples to judge trials on, between 0 and 1, unless "
        "stream.validation is set",
    )
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=2**63)], ...],
        Field(min_length=1, strict=False),
        AfterValidator(_each_once),
    ] = Field((1, 2, 3, 4, 5), description="a list of seeds, other than seed, that report the best")

    @model_validator(mode="after")
    def _reports_on_other_seeds(self) -> "TuneConfig":
        if self.seed in self.seeds:
            raise ValueError(
                f"expected seeds other than the {self.seed} of tune.seed, got "
                f"{show(list(self.seeds))}"
            )
        return self
