"""The list of runs on the left of the browser, with those of a sweep below its name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from growmas.browser.watched_run import WatchedRun

SIGNS: Mapping[str, tuple[str, str]] = {
    "running": ("●", "bold #3fc79c"),
    "finished": ("✓", "#5fb2ee"),
    "stopped": ("■", "#e0b84a"),
    "failed": ("✗", "bold #f2946b"),
    "unreadable": ("✗", "bold #f2946b"),
}
"""Status -> its sign, and the style of the sign."""
_OTHER = ("○", "dim")
_ORDER = (*SIGNS, "unfinished", "history", "waiting")


def _started(run: WatchedRun) -> float:
    result = run.entry.result if run.entry else None
    return -(result.started or 0.0) if result else 0.0


def _accuracy(run: WatchedRun) -> float:
    return 1.0 if run.accuracy is None else -run.accuracy


def _rank(status: str) -> int:
    return _ORDER.index(status) if status in _ORDER else len(_ORDER)


SORTS: Mapping[str, Callable[[WatchedRun], Any]] = {
    "newest": _started,
    "name": lambda run: run.name,
    "accuracy": _accuracy,
    "status": lambda run: _rank(run.status),
}
"""Name of an order -> what runs are sorted by, the smallest first."""


@dataclass(frozen=True)
class _Row:
    """A line of the list.

    Attributes:
        run: The run; None for the name of a sweep.
        sweep: Folder of the sweep; None for a run of its own.
        text: What the line shows.
    """

    run: WatchedRun | None
    sweep: Path | None
    text: Text


class RunList(OptionList):
    """Runs in an order, those that a filter leaves; the runs of a sweep can be folded away."""

    def __init__(self, runs: Sequence[WatchedRun]) -> None:
        super().__init__(id="runs", markup=False)
        self.runs = list(runs)
        self.order = "newest"
        self.words = ""
        self._folded: set[Path] = set()
        self._rows: list[_Row] = []
        self.border_title = "runs"

    @property
    def shown(self) -> list[WatchedRun]:
        """The runs that the list shows, in its order."""
        return [row.run for row in self._rows if row.run is not None]

    def run_at(self, index: int) -> WatchedRun | None:
        """Return the run in a line; None for the name of a sweep, or a line that is gone."""
        return self._rows[index].run if index < len(self._rows) else None

    def fold(self, index: int) -> None:
        """Hide the runs of the sweep whose name is in a line, or show them again."""
        sweep = self._rows[index].sweep if index < len(self._rows) else None
        if sweep is not None:
            self._folded ^= {sweep}
            self.update_rows()
            self.highlighted = index

    def sort(self) -> None:
        """Take the next order."""
        names = list(SORTS)
        self.order = names[(names.index(self.order) + 1) % len(names)]
        self.update_rows()

    def keep(self, words: str) -> None:
        """Show only runs in whose name, method, stream or status all words occur."""
        self.words = words
        self.update_rows()

    def mark(self, run: WatchedRun | None) -> None:
        """Highlight a run, if it is shown."""
        for index, row in enumerate(self._rows):
            if run is not None and row.run is run:
                self.highlighted = index

    def update_rows(self) -> None:
        """Draw the list anew; the highlight stays on its run."""
        rows = self._arranged()
        if [(row.run, row.sweep) for row in rows] == [(r.run, r.sweep) for r in self._rows]:
            for index, (row, before) in enumerate(zip(rows, self._rows, strict=True)):
                if row.text != before.text:
                    self.replace_option_prompt_at_index(index, row.text)
            self._rows = rows
        else:
            at = self.highlighted
            now = self._rows[at] if at is not None and at < len(self._rows) else None
            self._rows = rows
            self.set_options([Option(row.text) for row in rows])
            if now is not None:
                same = [
                    i for i, row in enumerate(rows) if (row.run, row.sweep) == (now.run, now.sweep)
                ]
                self.highlighted = same[0] if same else None
        title = f"{len(self.shown)} of {len(self.runs)}" if self.words else f"{len(self.runs)}"
        self.border_title = f"{title} run{'s' * (len(self.runs) != 1)}"
        order = "by name" if self.order == "name" else f"{self.order} first"
        self.border_subtitle = _told(order, self.words, self._room - 2)

    def on_resize(self) -> None:
        """Fit the names to the new width."""
        self.update_rows()

    def _arranged(self) -> list[_Row]:
        kept = sorted(filter(self._wanted, self.runs), key=lambda run: (_started(run), run.name))
        kept.sort(key=SORTS[self.order])
        groups: dict[object, list[WatchedRun]] = {}
        for run in kept:
            groups.setdefault(run.sweep or run.path, []).append(run)
        rows: list[_Row] = []
        for members in groups.values():
            sweep = members[0].sweep
            if sweep is None:
                rows.append(_Row(members[0], None, self._line(members[0], members[0].name)))
                continue
            rows.append(_Row(None, sweep, self._heading(sweep, members)))
            if sweep not in self._folded:
                names = _own_names(members, sweep)
                rows += [
                    _Row(run, sweep, self._line(run, name))
                    for run, name in zip(members, names, strict=True)
                ]
        return rows

    def _wanted(self, run: WatchedRun) -> bool:
        result = run.entry.result if run.entry else None
        facts = (result.method, result.stream, result.scenario) if result else ()
        text = " ".join((run.name, run.status, *facts)).lower()
        return all(word in text for word in self.words.lower().split())

    def _line(self, run: WatchedRun, name: str) -> Text:
        sign, style = SIGNS.get(run.status, _OTHER)
        indent = "  " if run.sweep else ""
        room = self._room - len(indent) - 2
        text = Text(indent).append(f"{sign} ", style).append(fitted(name, room), "bold")
        return text.append(f"\n{indent}  {fitted(run.remark, room)}", "not bold dim")

    def _heading(self, sweep: Path, members: Sequence[WatchedRun]) -> Text:
        sign = "▸" if sweep in self._folded else "▾"
        counts: dict[str, int] = {}
        for run in members:
            counts[run.status] = counts.get(run.status, 0) + 1
        room, ranked = self._room - 2, sorted(counts.items(), key=lambda each: _rank(each[0]))
        told = ", ".join(f"{count} {status}" for status, count in ranked)
        if len(told) > room:
            told = "  ".join(f"{SIGNS.get(status, _OTHER)[0]} {count}" for status, count in ranked)
        text = Text(f"{sign} ").append(fitted(sweep.name, room), "bold underline")
        return text.append(f"\n  {fitted(told, room)}", "not bold dim")

    @property
    def _room(self) -> int:
        """Columns of a line."""
        return max(10, self.scrollable_content_region.width)


def _told(order: str, words: str, room: int) -> str:
    """Return the order, and the words of the filter, which win where there is no room for both.

    >>> _told("by name", "finished", 18), _told("by name", "finished", 12), _told("", "finished", 6)
    ('by name · finished', '/ finished', '/ fin…')
    """
    if not words or len(f"{order} · {words}") <= room:
        return f"{order} · {words}" if words else order
    text = f"/ {words}"
    return text if len(text) <= room else f"{text[: max(1, room - 1)]}…"


def _own_names(runs: Sequence[WatchedRun], sweep: Path) -> list[str]:
    """Return what tells the runs of a sweep apart: without the values that all of them share."""
    parts = [str(run.path.parent.relative_to(sweep)).split(",") for run in runs]
    shared = set.intersection(*map(set, parts)) if len(parts) > 1 else set()
    own = [",".join(part for part in each if part not in shared) for each in parts]
    return [name or ",".join(each) for name, each in zip(own, parts, strict=True)]


def fitted(name: str, width: int) -> str:
    """Return a name of at most `width` characters; its middle is left out where it is longer.

    >>> fitted("strength=0.1,seed=1", 12)
    'stren…seed=1'
    """
    if len(name) <= width:
        return name
    end = width // 2
    return f"{name[: width - end - 1]}…{name[-end:]}" if width > 2 else name[:width]
