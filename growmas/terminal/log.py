"""The log of edits and their reasons, newest first, as `growmas log` prints it.

`summarise` computes; `as_data` and `render_log` only format the result.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from growmas.history import TopologyHistory
from growmas.history.records import EventRecord, TaskRecord
from growmas.terminal.lanes import LaneLine
from growmas.terminal.lookup import all_tasks, find_group, find_task
from growmas.terminal.naming import local_time, some_units
from growmas.terminal.symbols import Symbols, symbols

_MOST_LANES = 12  # with more groups, one lane stands for all of them
_MOST_UNITS = 8  # named in a line; `as_data` has them all
_MOST_NAMED = 3  # units are named if the entry changed at most so many groups


@dataclass(frozen=True)
class Change:
    """Effect of an edit on a group.

    Attributes:
        before: Units before it.
        after: Units after it.
        born: Ids of the units added.
        died: Ids of the units removed.
        parents: Ids of the units that the added ones were split from.
    """

    before: int
    after: int
    born: tuple[int, ...]
    died: tuple[int, ...]
    parents: tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """An edit or a note.

    Attributes:
        event: Record of the event.
        changes: Changes per group, of the groups to show that it changed.
    """

    event: EventRecord
    changes: Mapping[str, Change]


@dataclass(frozen=True)
class TaskEntry:
    """A task with its results and entries.

    Attributes:
        task: Record of the task.
        accuracy: Mean accuracy over the tasks so far, after it; None if not measured.
        parameters: Parameter count at its end, or now; None if not written.
        entries: Entries during the task, in the order of the log.
    """

    task: TaskRecord
    accuracy: float | None
    parameters: int | None
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class LogSummary:
    """Contents of the log.

    Attributes:
        began: Number of units when tracking began, per group to show.
        tasks: Tasks to show, in the order of the log.
        left_out: Number of older entries that are left out.
        reverse: True if the oldest entry comes first.
    """

    began: Mapping[str, int]
    tasks: tuple[TaskEntry, ...]
    left_out: int
    reverse: bool


def summarise(
    history: TopologyHistory,
    *,
    group: str | None = None,
    task: str | None = None,
    number: int | None = None,
    reverse: bool = False,
) -> LogSummary:
    """Compute the contents of the log, from one state of the file.

    Args:
        history: History to read.
        group: Name of a group: show only what changed it. None shows all.
        task: Name or index of a task: show only what happened in it. None shows all.
        number: Number of entries to show, the newest; None for all.
        reverse: True puts the oldest first.

    Raises:
        HistoryError: If the group or the task does not exist, or no task has begun.
    """
    with history.frozen():
        tasks = all_tasks(history)
        wanted = tasks if task is None else (find_task(history, task),)
        if group is not None:
            find_group(history, group)
        began = {
            name: next(iter(by_task.values())).before
            for name, by_task in history.turnover().items()
            if by_task and group in (None, name)
        }
        entries = _entries(history, began)
        parameters = history.parameters()
        accuracy = {each.name: history.metrics(each.index).get("accuracy") for each in wanted}
    names = {each.name for each in wanted}
    entries = [each for each in entries if each.event.task in names]
    if group is not None:
        entries = [each for each in entries if each.changes]
    kept = entries if number is None else entries[max(0, len(entries) - number) :]
    oldest = kept[0].event.task if len(kept) < len(entries) and kept else None
    by_task = {name: tuple(of) for name, of in groupby(kept, key=lambda each: each.event.task)}
    listed = [
        TaskEntry(each, accuracy[each.name], parameters.get(each.name), by_task.get(each.name, ()))
        for each in wanted
    ]
    if oldest is not None:
        listed = listed[next(i for i, each in enumerate(listed) if each.task.name == oldest) :]
    if not reverse:
        listed = [
            TaskEntry(each.task, each.accuracy, each.parameters, each.entries[::-1])
            for each in listed[::-1]
        ]
    return LogSummary(began, tuple(listed), len(entries) - len(kept), reverse)


def as_data(summary: LogSummary) -> dict[str, object]:
    """Return the log as a JSON-ready dict: tasks with their entries."""
    return {
        "began": dict(summary.began),
        "left_out": summary.left_out,
        "tasks": [
            {
                "task": each.task.name,
                "index": each.task.index,
                "started": each.task.started,
                "finished": each.task.finished,
                "accuracy": each.accuracy,
                "parameters": each.parameters,
                "entries": [_entry_data(entry) for entry in each.entries],
            }
            for each in summary.tasks
        ],
    }


def render_log(summary: LogSummary, *, ascii: bool = False) -> RenderableType:
    """Return the log with a lane per group, in the width of a rich console.

    Args:
        summary: Contents to print.
        ascii: Use ASCII characters only (names and reasons are printed as they are).
    """
    return _Log(summary, symbols(ascii=ascii))


@dataclass(frozen=True)
class _Log:
    """A log that is laid out when it is printed."""

    summary: LogSummary
    symbols: Symbols

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self._lines():
            yield from line.wrapped(console, options.max_width)

    def _lines(self) -> Iterator[LaneLine]:
        names = list(self._lane_names())
        if self.summary.reverse:
            yield self._beginning()
            yield from self._older()
        else:
            yield from names
        for index, task in enumerate(self.summary.tasks):
            if index:
                yield self._line(Text())
            yield self._line(self._task(task), head=" ")
            for entry in task.entries:
                yield from self._entry(entry)
        if self.summary.reverse:
            yield from names[::-1]
        else:
            yield from self._older()
            yield self._beginning()

    def _line(self, text: Text, *, head: str = "") -> LaneLine:
        """Return a line in which no group changes."""
        return LaneLine(self._lanes(), self._lanes(), Text(head), text)

    def _lane_names(self) -> Iterator[LaneLine]:
        for lane, name in enumerate(self._groups):
            before = Text(f"{self.symbols.line} " * lane, "dim")
            yield LaneLine(before, before, text=Text(name, "bold"))

    def _beginning(self) -> LaneLine:
        counts = ", ".join(f"{name} {count}" for name, count in self.summary.began.items())
        marks = Text(f"{self.symbols.node} " * len(self._groups))
        text = Text(f"began with {counts}" if counts else "no groups of units")
        return LaneLine(marks, Text(" " * marks.cell_len), Text(" "), text)

    def _older(self) -> Iterator[LaneLine]:
        if self.summary.left_out:
            count = self.summary.left_out
            text = f"{self.symbols.ellipsis} {count} older edit{'s' * (count > 1)}: -n 0 for all"
            yield self._line(Text(text, "dim"), head=" ")

    @property
    def _single(self) -> bool:
        """True if one lane stands for all groups."""
        return len(self.summary.began) > _MOST_LANES

    @property
    def _groups(self) -> tuple[str, ...]:
        names = tuple(self.summary.began)
        return (f"{len(names)} groups",) if self._single else names

    def _lanes(self, entry: Entry | None = None) -> Text:
        """Return the lanes with a mark for the entry's change in each."""
        changes = entry.changes if entry else {}
        if self._single:
            return self._mark([*changes.values()])
        lanes = [self._mark([changes[n]] if n in changes else []) for n in self.summary.began]
        return Text().join(lanes)

    def _mark(self, changes: list[Change]) -> Text:
        born, died = any(each.born for each in changes), any(each.died for each in changes)
        if born and died:
            return Text(f"{self.symbols.both} ", "bold yellow")
        if born:
            return Text("+ ", "bold green")
        if died:
            return Text(f"{self.symbols.minus} ", "bold red")
        return Text(f"{self.symbols.line} ", "dim")

    def _task(self, entry: TaskEntry) -> Text:
        finished = entry.task.finished
        words = [f"finished {local_time(finished)}" if finished else "unfinished"]
        if entry.accuracy is not None:
            words.append(f"accuracy {entry.accuracy:.1%}")
        if entry.parameters is not None:
            words.append(f"{entry.parameters:,} parameters")
        if not entry.entries:
            words.append("no edits")
        return Text(entry.task.name, "bold").append(f"  {', '.join(words)}", "not bold dim")

    def _entry(self, entry: Entry) -> Iterator[LaneLine]:
        event = entry.event
        number = f" {event.event:>4}  "
        kind = "" if event.kind == "edit" else f"{event.kind}: "
        text = Text(f"{kind}{_reason(event)}")
        yield LaneLine(self._lanes(entry), self._lanes(), Text(number, "yellow"), text)
        widest = max(map(len, entry.changes), default=0)
        for name, change in entry.changes.items():
            head = f"{' ' * len(number)}{name:<{widest}}  "
            named = len(entry.changes) <= _MOST_NAMED
            yield self._line(self._change(change, named=named), head=head)

    def _change(self, change: Change, *, named: bool) -> Text:
        text = Text(f"{change.before} {self.symbols.arrow} {change.after}")
        if change.born:
            text.append(f"  +{len(change.born)}", "green")
            text.append(self._units(change.born) if named else "", "dim")
        if change.parents:
            text.append(f" split from{self._units(change.parents)}" if named else " by splitting")
        if change.died:
            text.append(f"  {self.symbols.minus}{len(change.died)}", "red")
            text.append(self._units(change.died) if named else "", "dim")
        return text

    def _units(self, ids: tuple[int, ...]) -> str:
        return f" {some_units(ids, most=_MOST_UNITS, ellipsis=self.symbols.ellipsis)}"


def _reason(event: EventRecord) -> str:
    """Return the reason; without one, the cause as text."""
    cause = ", ".join(f"{name} {value}" for name, value in event.cause.items())
    return event.reason or cause or "no reason given"


def _entry_data(entry: Entry) -> dict[str, object]:
    event = entry.event
    return {
        "event": event.event,
        "kind": event.kind,
        "time": event.time,
        "reason": event.reason,
        "cause": dict(event.cause),
        "groups": {name: asdict(change) for name, change in entry.changes.items()},
    }


def _entries(history: TopologyHistory, began: Mapping[str, int]) -> list[Entry]:
    """Return all edits and notes, oldest first, with widths before and after."""
    parents: dict[str, dict[int, int]] = {}
    for line in history.lifelines():
        if line.parent is not None:
            parents.setdefault(line.group, {})[line.unit] = line.parent
    widths = dict(began)
    entries = []
    for event in history.log():
        if event.kind in ("begin", "snapshot"):  # the lines of tasks show them
            continue
        changes = {}
        for name in [each for each in widths if each in event.born or each in event.died]:
            born, died = event.born.get(name, ()), event.died.get(name, ())
            before = widths[name]
            widths[name] += len(born) - len(died)
            split = {parents.get(name, {}).get(unit, -1) for unit in born} - {-1}
            changes[name] = Change(before, widths[name], born, died, tuple(sorted(split)))
        entries.append(Entry(event, changes))
    return entries
