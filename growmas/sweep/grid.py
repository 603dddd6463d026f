"""Grids: several values for keys of a config, and every combination of them."""

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from growmas.config.formatting import short_keys
from growmas.config.overrides import as_texts

MOST_RUNS = 10_000
"""More runs than this are taken for a mistake, such as `seed=1..100000`."""

_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
_OPENING, _CLOSING = "[{", "]}"
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_LONGEST = 100  # characters of a directory's name


@dataclass(frozen=True)
class Axis:
    """Key and the values it takes.

    Attributes:
        key: As in overrides, such as `method.strength`.
        values: In YAML, one text each.
        override: As given, such as `method.strength=0.1,1`.
    """

    key: str
    values: tuple[str, ...]
    override: str


@dataclass(frozen=True)
class Grid:
    """Axes, of which every combination is run, and the mistakes in the overrides."""

    axes: tuple[Axis, ...]
    mistakes: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of combinations."""
        return prod(len(axis.values) for axis in self.axes)

    def combinations(self) -> Iterator[dict[str, str]]:
        """Yield key -> value of each combination; the last key changes fastest."""
        keys = [axis.key for axis in self.axes]
        for values in product(*(axis.values for axis in self.axes)):
            yield dict(zip(keys, values, strict=True))


def read_grid(overrides: Sequence[str]) -> Grid:
    """Return the grid of `key=value,value` overrides, with the mistakes in them."""
    overrides = as_texts(overrides)
    axes: list[Axis] = []
    mistakes: list[str] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        key = key.strip()
        values = split_values(text)
        if not equals or not key:
            mistakes.append(f"override {override}: expected key=value or key=value,value")
        elif key in [axis.key for axis in axes]:
            mistakes.append(
                f"override {override}: {key} is given twice: write all of its values after one "
                f"{key}=, with commas between them"
            )
        elif not all(values):
            mistakes.append(
                f"override {override}: expected a value before and after every comma, got nothing; "
                "write null for none"
            )
        else:
            values, wrong = _counted(values)
            mistakes += [f"override {override}: {each}" for each in wrong]
            axes += [Axis(key, tuple(values), override)] if values else []
    grid = Grid(tuple(axes), tuple(mistakes))
    if grid.size > MOST_RUNS:
        text = f"these are {grid.size:,} runs: give fewer values, at most {MOST_RUNS:,} runs"
        return Grid((), (*mistakes, text))
    return grid


def split_values(text: str) -> list[str]:
    """Split at the commas outside of brackets and quotes.

    >>> split_values("[64, 64],[128, 128], null")
    ['[64, 64]', '[128, 128]', 'null']
    >>> split_values("'a, b',c")
    ["'a, b'", 'c']
    """
    parts, depth, at, begins = [""], 0, 0, True
    while at < len(text):
        quoted = _QUOTED.match(text, at) if begins else None
        token = quoted[0] if quoted else text[at]
        at += len(token)
        if token in _OPENING and (begins or depth):
            depth, begins = depth + 1, True
        elif token in _CLOSING and depth:
            depth, begins = depth - 1, False
        elif token == "," and not depth:
            parts.append("")
            begins = True
            continue
        elif token.isspace():
            begins = begins or text[at - 2 : at - 1] == ":"
        else:  # in the middle of a word, quotes and brackets are letters
            begins = depth > 0 and token in ",:"
        parts[-1] += token
    return [part.strip() for part in parts]


def directory_names(grid: Grid) -> list[str]:
    """Return a name for each combination, in their order, such as `strength=0.1,seed=1`.

    A key is shortened to its last part where no other key ends in it. Long names, and names that
    would be the same, end in a checksum of the values.
    """
    labels = short_keys([axis.key for axis in grid.axes])
    given = list(grid.combinations())
    names = [
        ",".join(f"{labels[key]}={_plain(value)}" for key, value in setting.items())
        for setting in given
    ]
    often = Counter(name.casefold() for name in names)  # some file systems ignore case
    return [
        name
        if often[name.casefold()] == 1 and len(name) <= _LONGEST
        else f"{name[:_LONGEST]}-{zlib.crc32(repr(setting).encode()):08x}"
        for name, setting in zip(names, given, strict=True)
    ]


def _counted(values: Sequence[str]) -> tuple[list[str], list[str]]:
    """Expand every `1..5`, and return the values and the mistakes in them."""
    counted: list[str] = []
    wrong: list[str] = []
    for value in values:
        between = _RANGE.fullmatch(value)
        if between is None:
            counted.append(value)
            continue
        first, last = int(between[1]), int(between[2])
        if last < first:
            wrong.append(f"expected a smaller number before a larger one, got {value}")
        elif last - first >= MOST_RUNS:
            wrong.append(f"expected at most {MOST_RUNS:,} values, got {value}")
        else:
            counted += map(str, range(first, last + 1))
    twice = [value for value, times in Counter(counted).items() if times > 1]
    if twice:
        wrong.append(f"{', '.join(twice)} is given twice: leave one out")
    return counted, wrong


def _plain(value: str) -> str:
    """Return a value in letters that are safe for shells and file systems."""
    joint = "x" if value.startswith("[") else "+"
    text = re.sub(r"[\[\]{}'\"]", "", value)
    text = re.sub(r"\s*,\s*", joint, text.strip())
    return re.sub(r"[^\w.+-]+", "-", text, flags=re.ASCII) or "empty"
