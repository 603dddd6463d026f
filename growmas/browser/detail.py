"""Details of the browser: a group at a task, the life of a unit, or the difference of tasks."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from growmas.browser.board import Board
from growmas.history import TopologyHistory
from growmas.history.records import EventRecord, UnitRecord
from growmas.rounding import short
from growmas.terminal import task_diff, unit
from growmas.terminal.naming import some_units

_MOST_UNITS = 8  # named in a line
_BAR = 12
_NAME = 16
_TOP = 6  # units listed by importance


def group_at(
    history: TopologyHistory, board: Board, events: Sequence[EventRecord], group: str, task: int
) -> RenderableType:
    """Return the changes of a group during a task with reasons; `events` are those of the task."""
    each = board.turnover[group][task]
    lines = [
        Text(f"{group} · {board.tasks[task]}", "bold"),
        Text(f"{each.before:,} + {each.born:,} born − {each.died:,} pruned = {each.width:,} units"),
    ]
    for event in events:
        for sign, style, ids in (
            ("+", "green", event.born.get(group)),
            ("−", "red", event.died.get(group)),
        ):
            if ids:
                words = some_units(ids, most=_MOST_UNITS, ellipsis="…")
                lines += [Text(f"\n{sign} {words}", style), Text(event.reason, "italic")]
    return Group(*lines, *_importance(history, board, group, task))


def unit_life(history: TopologyHistory, group: str, number: int) -> RenderableType:
    """Return the life of a unit: its origin, importance by task, readers and death.

    Raises:
        HistoryError: If the unit does not exist.
    """
    summary = unit.summarise(history, group, number)
    return Group(Text(f"{group}#{number}", "bold"), *_life(summary.record), *_measured(summary))


def two_tasks(history: TopologyHistory, board: Board, a: int, b: int) -> RenderableType:
    """Return the difference of the network between two tasks."""
    return task_diff.render_task_diff(task_diff.summarise(history, board.tasks[a], board.tasks[b]))


def during(board: Board, events: Sequence[EventRecord], task: int) -> RenderableType:
    """Return all changes and notes of a task with reasons; `events` are those of the task."""
    lines = [Text(f"during {board.tasks[task]}", "bold")]
    for event in events:
        born, died = (sum(map(len, units.values())) for units in (event.born, event.died))
        line = Text()
        line.append(f"+{born} " if born else "", "green")
        line.append(f"−{died} " if died else "", "red")
        lines.append(line.append(event.reason or event.kind))
    if len(lines) == 1:
        lines.append(Text("the structure did not change", "dim"))
    return Group(*lines)


def _life(record: UnitRecord) -> Iterator[Text]:
    """Yield birth, relatives, frozen stretches and death."""
    if record.birth_reason is None:
        yield Text("there when the network began")
    else:
        yield Text(f"born in {record.birth_task}: {record.birth_reason}", "green")
    for words, units in (
        ("split from", (record.parent,)),
        ("in the place of", (record.replaced,)),
        ("parent of", record.children),
        ("its place was taken by", (record.replaced_by,)),
    ):
        names = ", ".join(f"#{each}" for each in units if each is not None)
        if names:
            yield Text(f"{words} {names}")
    for first, last in record.frozen:
        yield Text(f"frozen in {first}" + (f" to {last}" if last != first else ""))
    if record.death_task is not None:
        yield Text(f"pruned in {record.death_task}: {record.death_reason}", "red")


def _measured(summary: unit.UnitSummary) -> Iterator[Text]:
    """Yield the importance by task, and the layers that read the unit."""
    values = summary.record.importance
    if not values:
        return
    yield Text(f"\nimportance, rank {summary.rank} of {summary.among} when last measured", "bold")
    most = max(values.values()) or 1.0
    for task, value in values.items():
        line = Text(f"{task[:_NAME]:<{_NAME}} {short(value, digits=1):>6} ")
        yield line.append_text(_bar(value / most))
    if summary.measurements[-1].readers:
        yield Text("\nread by", "bold")
        for layer, share in sorted(
            summary.measurements[-1].readers.items(), key=lambda pair: -pair[1]
        ):
            yield Text(f"{layer[:_NAME]:<{_NAME}} {share:>6.0%}")


def _importance(history: TopologyHistory, board: Board, group: str, task: int) -> Iterator[Text]:
    numbers = board.importance[group][task]
    if numbers is None:
        yield Text("\nimportance was not measured", "dim")
        return
    mean, least, most = (
        short(value, digits=1) for value in (numbers.mean, numbers.least, numbers.most)
    )
    yield Text(
        f"\nmean importance {mean}, from {least} to {most}; "
        f"{numbers.zeros:,} of {numbers.units:,} units unused (exactly 0)"
    )
    values = history.importance(task)[group]
    best = sorted(values, key=lambda each: -values[each])[:_TOP]
    for each in best:
        yield Text(f"#{each:<6}{short(values[each], digits=1):>7} ").append_text(
            _bar(values[each] / (numbers.most or 1))
        )


def _bar(share: float) -> Text:
    return Text("▆" * round(_BAR * share), "#5fb2ee")


def neighbour(
    history: TopologyHistory, group: str, task: int, now: int | None, step: int
) -> int | None:
    """Return the next unit alive at a task in the order of ids, cyclically; None if none lives."""
    ids = sorted(history.units(task)[group])
    if not ids:
        return None
    if now is None:
        return ids[0] if step > 0 else ids[-1]
    later = [each for each in ids if each > now] if step > 0 else [e for e in ids if e < now]
    return (later[0] if step > 0 else later[-1]) if later else (ids[0] if step > 0 else ids[-1])
