"""The one look of all tables: a rule under the head and one above the foot, nothing else."""

from rich.table import Table
from rich.text import Text

from growmas.terminal.symbols import Symbols


def plain_table(signs: Symbols, *, caption: str | None = None, gap: int = 1) -> Table:
    """An empty table.

    Args:
        signs: The characters to draw it with.
        caption: Stands below, after an empty line.
        gap: Blanks between columns, beside the one that rules need.
    """
    return Table(
        box=signs.rule,
        show_edge=False,
        pad_edge=False,
        header_style="bold",
        padding=(0, gap, 0, 0),
        caption=Text(f"\n{caption}") if caption else None,
        caption_justify="left",
        caption_style="",
    )
