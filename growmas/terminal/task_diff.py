"""The difference of two tasks of a run, as `growmas diff RUN TASK TASK` prints it.

`summarise` computes; `as_data` and `render_task_diff` only format the result.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from growmas.history import TopologyHistory
from growmas.history.records import GroupDiff, TopologyDiff
from growmas.terminal.breaking import BreakingName
from growmas.terminal.lookup import find_task
from growmas.terminal.naming import some_units
from growmas.terminal.numbers import Pair, number_table, pairs
from growmas.terminal.symbols import Symbols, symbols
from growmas.terminal.tables import Explanation, Fitting, plain_table, with_notes

_NAME_WIDTH = 20
_ROOM = 72  # columns for the units, with names in several lines
_BAR_WIDTH = 16
_MOST_MOVED = 3  # units of a group, those whose share of the importance changed most
_MOST_UNITS = 6  # named in a line
_MOVED = Explanation(
    "In percent. Pruned had: their share of the importance before. Born have: their share of the "
    "importance after. Moved most: the kept units whose share changed most."
)


@dataclass(frozen=True)
class Move:
    """Change of a group's importance from one task to another.

    Attributes:
        before: Sum over its units after the first task.
        after: Sum over its units after the second task.
        gone: Share of the first sum that units pruned since had.
        newborn: Share of the second sum that units born since have.
        units: Id of a kept unit -> its share of the first and of the second sum; those whose
            share changed most come first.
    """

    before: float
    after: float
    gone: float
    newborn: float
    units: Mapping[int, tuple[float, float]]


@dataclass(frozen=True)
class TaskDiff:
    """Contents of the tables.

    Attributes:
        topology: Units kept, born and pruned.
        moves: Change of importance per group, of groups measured after both tasks.
        numbers: Sizes, then metrics.
        sizes: How many of the numbers are sizes.
    """

    topology: TopologyDiff
    moves: Mapping[str, Move]
    numbers: tuple[Pair, ...]
    sizes: int


def summarise(history: TopologyHistory, a: str, b: str) -> TaskDiff:
    """Compute the contents of the tables, from one state of the file.

    Args:
        history: History to read.
        a: Name or index of the first task.
        b: Name or index of the second task.

    Raises:
        HistoryError: If a task does not exist.
    """
    with history.frozen():
        first, second = find_task(history, a), find_task(history, b)
        tasks = [task.name for task in history.tasks()]
        diff = history.diff(first.index, second.index)
        before, after = history.importance(first.index), history.importance(second.index)
    sizes = {
        "parameters": (diff.parameters_before, diff.parameters_after),
        "FLOPs": (diff.flops_before, diff.flops_after),
    }
    known = {name: both for name, both in sizes.items() if both != (None, None)}
    return TaskDiff(
        topology=diff,
        moves={
            name: _move(group, before[name], after[name])
            for name, group in diff.groups.items()
            if name in before and name in after
        },
        numbers=pairs(known, diff.metrics_before, diff.metrics_after, tasks),
        sizes=len(known),
    )


def as_data(summary: TaskDiff) -> dict[str, object]:
    """Return the difference as a JSON-ready dict."""
    diff = summary.topology
    return {
        "before": diff.before,
        "after": diff.after,
        "groups": {
            name: {"before": group.before, "after": group.after}
            | {key: list(getattr(group, key)) for key in ("kept", "born", "pruned")}
            for name, group in diff.groups.items()
        },
        "importance": {name: asdict(move) for name, move in summary.moves.items()},
        "numbers": {
            each.name: {"before": each.before, "after": each.after} for each in summary.numbers
        },
    }


def render_task_diff(summary: TaskDiff, *, ascii: bool = False) -> RenderableType:
    """Return tables of units, importance and numbers, for a rich console.

    Args:
        summary: Contents to print.
        ascii: Use ASCII characters only (names are printed as they are).
    """
    signs, diff = symbols(ascii=ascii), summary.topology
    parts: list[RenderableType] = [with_notes(_units(diff, signs), _notes(diff, signs))]
    if summary.moves:
        parts += [Text(), with_notes(_importance(summary.moves, signs), [_MOVED])]
    parts += [
        Text(),
        number_table(summary.numbers, (diff.before, diff.after), signs, keep=summary.sizes),
    ]
    return Group(*parts)


def _move(group: GroupDiff, before: Mapping[int, float], after: Mapping[int, float]) -> Move:
    old, new = sum(before.values()), sum(after.values())
    shares = {
        unit: (before[unit] / old if old else 0.0, after[unit] / new if new else 0.0)
        for unit in group.kept
        if unit in before and unit in after
    }
    moved = sorted(shares, key=lambda unit: (-abs(shares[unit][1] - shares[unit][0]), unit))
    return Move(
        before=old,
        after=new,
        gone=sum(before.get(unit, 0.0) for unit in group.pruned) / old if old else 0.0,
        newborn=sum(after.get(unit, 0.0) for unit in group.born) / new if new else 0.0,
        units={unit: shares[unit] for unit in moved},
    )


def _units(diff: TopologyDiff, signs: Symbols) -> RenderableType:
    table, narrow = plain_table(signs), plain_table(signs)
    table.add_column("units", max_width=_NAME_WIDTH, overflow="fold")
    for heading in (diff.before, diff.after):
        table.add_column(Text(heading), justify="right", overflow="fold")
    for heading in ("kept", "born", "pruned"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    narrow.add_column("units", overflow="fold")
    narrow.add_column(Text(f"{diff.before} {signs.arrow} {diff.after}"), overflow="fold")
    narrow.add_column("", no_wrap=True)
    widest = max((_union(group) for group in diff.groups.values()), default=0)
    groups = {name: [group] for name, group in diff.groups.items()}
    for name, members in {**groups, "all units": [*diff.groups.values()]}.items():
        if name not in diff.groups:
            table.add_section()
            narrow.add_section()
        bar = _bar(members[0], widest, signs) if name in diff.groups else Text()
        before, after, kept, born, pruned = _counts(members, signs)
        table.add_row(BreakingName(name), before, after, kept, born, pruned, bar)
        both = Text(f"{before} {signs.arrow} {after}")
        narrow.add_row(BreakingName(name), both, Text(" ").join([born, pruned]))
    return Fitting(table, narrow, room=_ROOM)


def _counts(groups: list[GroupDiff], signs: Symbols) -> tuple[Text, Text, Text, Text, Text]:
    """Return the units before, after, kept, born and pruned, over some groups."""
    born = sum(len(group.born) for group in groups)
    pruned = sum(len(group.pruned) for group in groups)
    return (
        Text(f"{sum(group.before for group in groups):,}"),
        Text(f"{sum(group.after for group in groups):,}"),
        Text(f"{sum(len(group.kept) for group in groups):,}"),
        Text(f"+{born:,}", "green") if born else Text(signs.nothing),
        Text(f"{signs.minus}{pruned:,}", "red") if pruned else Text(signs.nothing),
    )


def _union(group: GroupDiff) -> int:
    return len(group.kept) + len(group.born) + len(group.pruned)


def _bar(group: GroupDiff, widest: int, signs: Symbols) -> Text:
    """Return a bar as in `git diff --stat`: kept, then born, then pruned units."""
    room = max(1, round(_BAR_WIDTH * _union(group) / widest)) if widest else 0
    text = Text()
    done = 0
    for count, sign, style in (
        (len(group.kept), "=", "dim"),
        (len(group.born), "+", "green"),
        (len(group.pruned), signs.minus, "red"),
    ):
        end = done + count
        width = round(room * end / _union(group)) - round(room * done / _union(group))
        text.append(sign * max(width, int(count > 0)), style)
        done = end
    return text


def _notes(diff: TopologyDiff, signs: Symbols) -> list[str]:
    lines = []
    for name, group in diff.groups.items():
        parts = [
            f"{word} {some_units(units, most=_MOST_UNITS, ellipsis=signs.ellipsis)}"
            for word, units in (("born", group.born), ("pruned", group.pruned))
            if units
        ]
        if parts:
            lines.append(f"{name}: {', '.join(parts)}")
    return [
        *lines,
        Explanation(
            f"= kept, + born, {signs.minus} pruned; units born and pruned in between are left out."
        ),
    ]


def _importance(moves: Mapping[str, Move], signs: Symbols) -> RenderableType:
    table, narrow = plain_table(signs), plain_table(signs)
    for each in (table, narrow):
        each.add_column("importance", max_width=_NAME_WIDTH, overflow="fold")
        each.add_column("pruned had", justify="right", overflow="fold")
        each.add_column("born have", justify="right", overflow="fold")
    table.add_column("moved most", overflow="fold")
    below: list[RenderableType] = []
    for name, move in moves.items():
        row = BreakingName(name), signs.percent(move.gone), signs.percent(move.newborn)
        moved = list(_moved(move, signs))
        table.add_row(*row, Text("\n").join(moved))
        narrow.add_row(*row)
        if moved:
            below += [Text(f"{name}, moved most"), *(Padding(line, (0, 0, 0, 2)) for line in moved)]
    return Fitting(table, Group(narrow, *below))


def _moved(move: Move, signs: Symbols) -> Iterator[Text]:
    for unit, (before, after) in list(move.units.items())[:_MOST_MOVED]:
        if before != after:
            text = Text(f"#{unit:<6} {signs.percent(before):>5} {signs.arrow} ")
            yield text.append(
                f"{signs.percent(after):>5}  {signs.signed(100 * (after - before), '.1f'):>5}"
            )
