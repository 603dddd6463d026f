"""Screens that open over the browser: help, and the choice of an export format."""

from typing import ClassVar

from rich.console import Group
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

KEYS = {
    "← →": "step through tasks; home and end: first, last",
    "↑ ↓": "step through groups; or click on a cell",
    "tab": "to the list of runs and back; enter folds a sweep",
    "r": "next run",
    "s": "sort the list",
    "t": "how training goes, or the group again",
    "m M": "next measure, previous: width, born − pruned, importance, unused",
    "space": "play the tasks, or stop",
    ", .": "previous unit, next unit of the group at the task",
    "d": "mark a task; mark another to see what is different; once more to clear",
    "/": "filter groups, or a unit: fc1#17; in the list: runs",
    "e": "export what is shown: SVG, JSON or CSV",
    "esc": "back",
    "q": "quit",
}
"""Keys -> what they do."""


class Help(ModalScreen[None]):
    """The list of all keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "Close"),
    ]

    def compose(self) -> ComposeResult:
        """Yield a box of text that scrolls where it does not fit."""
        keys = Table.grid(padding=(0, 2))
        keys.add_column(no_wrap=True, style="bold")
        keys.add_column()
        for key, meaning in KEYS.items():
            keys.add_row(key, meaning)
        heading = Text("growmas watch: groups × tasks, live or recorded\n")
        last = Text("\nOn the last task the cursor follows a run that goes on.")
        with VerticalScroll(classes="box"):
            yield Static(Group(heading, keys, last), id="keys")


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
