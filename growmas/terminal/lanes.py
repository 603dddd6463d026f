"""Text beside lanes that run down the page."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

_LEAST = 16  # columns of text, however many lanes there are


@dataclass(frozen=True)
class LaneLine:
    """A line of text and what stands in the lanes beside it.

    Attributes:
        lanes: Beside the first line.
        below: Beside the further lines, if the text needs any.
        head: Before the text; further lines are in by as much.
        text: The text.
    """

    lanes: Text
    below: Text
    head: Text = field(default_factory=Text)
    text: Text = field(default_factory=Text)

    def wrapped(self, console: Console, width: int) -> Iterator[Text]:
        """The lines it takes at a width."""
        room = width - max(self.lanes.cell_len, self.below.cell_len) - self.head.cell_len
        lines = self.text.wrap(console, max(_LEAST, room)) or [Text()]
        yield Text.assemble(self.lanes, self.head, lines[0])
        for line in lines[1:]:
            yield Text.assemble(self.below, " " * self.head.cell_len, line)
