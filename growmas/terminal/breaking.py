"""Names that break at their separators rather than inside words."""

import re
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

_PARTS = re.compile(r"(?<=[/, ])")
_BREAKS = re.compile(r"(?<=[/,=_\- ])|(?<=\.)(?=\D)")


@dataclass(frozen=True)
class BreakingName:
    """A name of a file, a run or a layer; over several lines where it has to be.

    Attributes:
        name: In one line.
    """

    name: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text("\n".join(broken(self.name, options.max_width)), overflow="fold")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        lengths = [Text(piece).cell_len for piece in _BREAKS.split(self.name)]
        return Measurement(max(lengths), Text(self.name).cell_len)


def broken(name: str, width: int) -> list[str]:
    """Return a name in lines of at most `width` columns that end at separators.

    >>> broken("runs/mas-sweep/seed=1,strength=0.1", 16)
    ['runs/mas-sweep/', 'seed=1,', 'strength=0.1']

    A part between slashes, commas and blanks is only broken, at another separator, where it is
    wider than a line. A piece without any separator that is wider than that stays whole.

    >>> broken("runs/mas-sweep/seed=1,strength=0.1", 9)
    ['runs/mas-', 'sweep/', 'seed=1,', 'strength=', '0.1']
    """
    lines = [""]
    for part in _PARTS.split(name):
        for piece in [part] if Text(part).cell_len <= width else _BREAKS.split(part):
            if lines[-1] and Text(lines[-1] + piece).cell_len > width:
                lines.append("")
            lines[-1] += piece
    return lines
