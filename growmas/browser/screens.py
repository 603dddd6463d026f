"""Screens that open over the browser: help, and the choice of an export format."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

HELP = """\
[b]growmas watch[/b]: groups × tasks, live or recorded

[b]←  →[/b]      step through tasks      [b]home  end[/b]  first, last
[b]↑  ↓[/b]      step through groups     [b]click[/b]      on a cell
[b]tab[/b]       to the list of runs and back; [b]enter[/b] folds a sweep
[b]r[/b]         next run                [b]s[/b]  sort the list
[b]t[/b]         how training goes, or the group again
[b]m  M[/b]      next measure, previous: width, born − pruned,
          importance, unused
[b]space[/b]     play the tasks, or stop
[b],  .[/b]      previous unit, next unit of the group at the task
[b]d[/b]         mark a task; mark another to see what is different;
          once more to clear
[b]/[/b]         filter groups, or a unit: fc1#17; in the list: runs
[b]e[/b]         export what is shown: SVG, JSON or CSV
[b]esc[/b]       back;  [b]q[/b]  quit

On the last task the cursor follows a run that goes on.
"""


class Help(ModalScreen[None]):
    """The list of all keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "Close"),
    ]

    def compose(self) -> ComposeResult:
        """Yield a box of text."""
        yield Static(HELP, classes="box")


class Export(ModalScreen[str | None]):
    """The choice of a format."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "choose('svg')", "SVG"),
        Binding("j", "choose('json')", "JSON"),
        Binding("c", "choose('csv')", "CSV"),
        Binding("escape,q", "choose('')", "Cancel"),
    ]

    def compose(self) -> ComposeResult:
        """Yield a box of text."""
        text = (
            "Export what is shown to this folder\n\n"
            "[b]s[/b]  SVG, a picture of the screen\n[b]j[/b]  JSON, the numbers\n"
            "[b]c[/b]  CSV, the numbers\n\n[b]esc[/b]  cancel"
        )
        yield Static(text, classes="box")

    def action_choose(self, kind: str) -> None:
        """Close the screen with the format; None if it is empty."""
        self.dismiss(kind or None)
