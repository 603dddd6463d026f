"""Names that break at their separators rather than inside words."""

import re
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

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
    ['runs/mas-sweep/', 'seed=1,strength=', '0.1']

    A piece without a separator that is wider than that stays whole.
    """
    lines = [""]
    for piece in _BREAKS.split(name):
        if lines[-1] and Text(lines[-1] + piece).cell_len > width:
            lines.append("")
        lines[-1] += piece
    return lines
