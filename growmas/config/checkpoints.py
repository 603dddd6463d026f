"""Checkpoints of a run: the record of `checkpoint`."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from growmas.config.formatting import show
from growmas.config.record import Record

_EVERY = "a number of steps, or a time such as 5 minutes"
_SECONDS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0}
_INTERVAL = re.compile(r"(\d+(?:\.\d+)?)\s*(steps?|s|seconds?|min|minutes?|h|hours?)")


def _interval(text: str) -> tuple[float, str]:
    """Return number and unit: steps, seconds, minutes or hours."""
    found = _INTERVAL.fullmatch(text.strip())
    number = float(found[1]) if found else 0.0
    units = ("steps", *_SECONDS)
    unit = next((unit for unit in units if found and unit.startswith(found[2])), "")
    if not unit or not 0 < number < 1e9 or (unit == "steps" and number % 1):
        raise ValueError(f"expected {_EVERY}, got {show(text)}")
    return number, unit


def _known_interval(text: str) -> str:
    _interval(text)
    return text


def _as_interval(value: object) -> object:
    """Turn a number of steps into text."""
    return f"{value} steps" if type(value) is int else value


_Interval = Annotated[str, AfterValidator(_known_interval), BeforeValidator(_as_interval)]


class CheckpointConfig(Record):
    """Interval at which a run saves its state within a task, besides the end of every task."""

    every: _Interval = Field("5 minutes", description=_EVERY)

    @property
    def steps(self) -> int | None:
        """Steps from one checkpoint to the next; None where time counts."""
        number, unit = _interval(self.every)
        return int(number) if unit == "steps" else None

    @property
    def seconds(self) -> float | None:
        """Seconds from one checkpoint to the next; None where steps count."""
        number, unit = _interval(self.every)
        return None if unit == "steps" else number * _SECONDS[unit]
