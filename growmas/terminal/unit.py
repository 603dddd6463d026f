"""The life of one unit, as `growmas unit` prints it.

`summarise` computes; `as_data` and `render_unit` only format the result.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from growmas.history import TopologyHistory
from growmas.history.records import UnitRecord
from growmas.terminal.folding import fold, title
from growmas.terminal.lookup import find_group
from growmas.terminal.naming import some_units
from growmas.terminal.symbols import Symbols, symbols
from growmas.terminal.tables import Explanation, plain_table, with_notes

_MOST_ROWS = 16  # tasks listed; with more, neighbours in which least changed share a row
_MOST_READERS = 8
_MOST_UNITS = 8  # named in a line
_BAR_WIDTH = 16
_NAME_WIDTH = 30


@dataclass(frozen=True)
class Measurement:
    """Importance of a unit at a snapshot.

    Attributes:
        task: Task of the snapshot.
        importance: Importance of the unit.
        of_mean: Its importance divided by the mean of its group; None if the mean is 0.
        readers: Layer that reads the unit -> its share of the unit's importance.
    """

    task: str
    importance: float
    of_mean: float | None
    readers: Mapping[str, float]


@dataclass(frozen=True)
class UnitSummary:
    """Contents of the printed life.

    Attributes:
        record: Record of the unit.
        measurements: One per snapshot that measured it, in order.
        rank: Rank in its group at the last measurement, 1 for the most important unit; None
            without a measurement.
        among: Number of units of the group at that time.
    """

    record: UnitRecord
    measurements: tuple[Measurement, ...]
    rank: int | None
    among: int


def summarise(history: TopologyHistory, group: str, unit: int) -> UnitSummary:
    """Compute the contents, from one state of the file.

    Raises:
        HistoryError: If the group or the unit does not exist.
    """
    with history.frozen():
        find_group(history, group)
        record = history.unit(group, unit)
        means = {
            task: numbers.mean
            for task, numbers in history.importance_summary().get(group, {}).items()
        }
        last = next(reversed(record.importance), None)
        others = history.importance(last)[group].values() if last else ()
    measurements = tuple(
        Measurement(
            task=task,
            importance=value,
            of_mean=value / means[task] if means.get(task) else None,
            readers=record.consumers.get(task, {}),
        )
        for task, value in record.importance.items()
    )
    rank = (
        1 + sum(value > measurements[-1].importance for value in others) if measurements else None
    )
    return UnitSummary(record, measurements, rank, len(others))


def as_data(summary: UnitSummary) -> dict[str, object]:
    """Return the unit as a JSON-ready dict."""
    record = asdict(summary.record)
    del record["importance"], record["consumers"]  # `snapshots` has them
    return {
        **record,
        "rank": summary.rank,
        "among": summary.among,
        "snapshots": [asdict(measurement) for measurement in summary.measurements],
    }


def render_unit(summary: UnitSummary, *, ascii: bool = False) -> RenderableType:
    """Return a unit's birth, relatives and death, its importance by task, and its readers.

    Args:
        summary: Contents to print.
        ascii: Use ASCII characters only (names and reasons are printed as they are).
    """
    signs = symbols(ascii=ascii)
    parts: list[RenderableType] = [_title(summary), _life(summary.record, signs)]
    if summary.measurements:
        parts += [Text(), _importance(summary, signs)]
        if summary.measurements[-1].readers:
            parts += [Text(), _readers(summary.measurements[-1], signs)]
    else:
        parts += [Text(), Text("Its importance was never measured.")]
    return Group(*parts)


def _title(summary: UnitSummary) -> Text:
    record = summary.record
    text = Text(f"{record.group}#{record.unit}", "bold")
    fate = "alive" if record.death_task is None else f"pruned in {record.death_task}"
    text.append(f"  {fate}", "green" if record.death_task is None else "red")
    if summary.rank is not None:
        when = "" if record.death_task is None else f" after {summary.measurements[-1].task}"
        text.append(f", rank {summary.rank} of {summary.among} by importance{when}", "not bold")
    return text


def _life(record: UnitRecord, signs: Symbols) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _life_rows(record, signs):
        table.add_row(name, Text(text))
    return table


def _life_rows(record: UnitRecord, signs: Symbols) -> Iterator[tuple[str, str]]:
    if record.birth_reason is None:
        yield "born", f"{record.birth_task}, when the network began"
    else:
        yield "born", f"{record.birth_task}: {record.birth_reason or 'no reason given'}"
    if record.parent is not None:
        yield "split from", f"#{record.parent}"
    if record.replaced is not None:
        yield "in place of", f"#{record.replaced}"
    if record.children:
        named = some_units(record.children, most=_MOST_UNITS, ellipsis=signs.ellipsis)
        yield "children", named
    for first, last in record.frozen:
        yield "frozen", first if first == last else f"{first} to {last}"
    if record.death_task is not None:
        yield "pruned", f"{record.death_task}: {record.death_reason or 'no reason given'}"
    if record.replaced_by is not None:
        yield "replaced by", f"#{record.replaced_by}"


def _importance(summary: UnitSummary, signs: Symbols) -> RenderableType:
    measurements, ratios = summary.measurements, _ratios(summary.measurements)
    rows = fold([abs(b - a) for a, b in zip([0.0, *ratios], ratios, strict=False)], _MOST_ROWS)
    table = plain_table(signs)
    spark = signs.draw_spark([measurements[row[-1]].importance for row in rows])
    table.add_column(Text(f"importance {spark}"), max_width=_NAME_WIDTH, overflow="fold")
    for heading in ("value", "of the mean"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    names, top = [measurement.task for measurement in measurements], max(ratios)
    for row in rows:
        measurement = measurements[row[-1]]
        ratio = signs.nothing if measurement.of_mean is None else f"{measurement.of_mean:.2f}"
        bar = signs.draw_bar((measurement.of_mean or 0.0) / top if top else 0.0, _BAR_WIDTH)
        name = title(names, row, ellipsis=signs.ellipsis)
        table.add_row(Text(name), f"{measurement.importance:.4g}", ratio, Text(bar, "cyan"))
    notes: list[str] = [
        Explanation("Of the mean: over the mean of its group's units at that snapshot.")
    ]
    if len(rows) < len(measurements):
        notes.append(
            f"{len(measurements)} snapshots in {len(rows)} rows, joined where least changed; a row "
            "says how its last task ended."
        )
    return with_notes(table, notes)


def _ratios(measurements: Sequence[Measurement]) -> list[float]:
    return [measurement.of_mean or 0.0 for measurement in measurements]


def _readers(measurement: Measurement, signs: Symbols) -> RenderableType:
    listed = sorted(measurement.readers.items(), key=lambda pair: (-pair[1], pair[0]))
    table = plain_table(signs)
    table.add_column("read by", max_width=_NAME_WIDTH, overflow="fold")
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for layer, share in listed[:_MOST_READERS]:
        bar = Text(signs.draw_bar(share, _BAR_WIDTH), "cyan")
        table.add_row(Text(layer), f"{share:.0%}", bar)
    note = f"Shares of its importance after {measurement.task}."
    more = len(listed) - _MOST_READERS
    return with_notes(table, [note + (f" {more} more layers read it." if more > 0 else "")])
