"""Lines of text next to lanes that run down the page."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

_LEAST = 16  # columns of text at least, even next to many lanes


@dataclass(frozen=True)
class LaneLine:
    """A line of text and the characters of the lanes next to it.

    Attributes:
        lanes: Lanes next to the first line.
        below: Lanes next to further lines, if the text needs any.
        head: Text before `text`; further lines are indented by its width.
        text: The text, wrapped to the width.
    """

    lanes: Text
    below: Text
    head: Text = field(default_factory=Text)
    text: Text = field(default_factory=Text)

    def wrapped(self, console: Console, width: int) -> Iterator[Text]:
        """Yield the lines of the text at a width."""
        room = width - max(self.lanes.cell_len, self.below.cell_len) - self.head.cell_len
        lines = self.text.wrap(console, max(_LEAST, room)) or [Text()]
        yield Text.assemble(self.lanes, self.head, lines[0])
        for line in lines[1:]:
            yield Text.assemble(self.below, " " * self.head.cell_len, line)
