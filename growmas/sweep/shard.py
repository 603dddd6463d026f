"""Shards: parts of a sweep that several machines take on side by side."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from growmas.errors import ConfigError

_Run = TypeVar("_Run")
_EXPECTED = "expected i/n, such as 1/4 for the first of four"


@dataclass(frozen=True)
class Shard:
    """One of n parts of a sweep; together they are all of it, and no two share a run.

    Attributes:
        index: From 1.
        count: Number of parts.
    """

    index: int
    count: int

    @classmethod
    def read(cls, text: str) -> "Shard":
        """Return the shard that a text such as "1/4" names.

        Raises:
            ConfigError: It names none.
        """
        if not isinstance(text, str):
            raise ConfigError(f"shard {text!r}: {_EXPECTED}")
        found = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
        if found is None:
            raise ConfigError(f"shard {text}: {_EXPECTED}")
        shard = cls(int(found[1]), int(found[2]))
        if not shard.count:
            raise ConfigError(f"shard {text}: {_EXPECTED}")
        if not 1 <= shard.index <= shard.count:
            raise ConfigError(
                f"shard {text}: shards count from 1: expected 1/{shard.count} to "
                f"{shard.count}/{shard.count}"
            )
        return shard

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def of(self, runs: Sequence[_Run]) -> tuple[_Run, ...]:
        """Return every n-th run, in the order of the sweep.

        >>> Shard.read("2/3").of("abcdefg")
        ('b', 'e')
        """
        return tuple(runs[self.index - 1 :: self.count])
