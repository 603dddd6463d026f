"""Texts and tables of a page: summaries, events, numbers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import zip_longest

from growmas.history.records import EventRecord, LayerRecord
from growmas.history.unit_ids import id_runs
from growmas.report.figure import Cell, Numbers
from growmas.report.run_summary import RunSummary
from growmas.report.scale import percent

MOST_CELLS = 6_000
"""A table of numbers with more cells is left out of the page; `growmas export` has them."""
MOST_EVENTS = 2_000
_RANGES = 12  # of ids that an event lists


def headline(run: RunSummary) -> str:
    """Return the result of the run in one or two sentences."""
    first, last = run.total[0].before, run.total[-1].width
    born = sum(each.born for each in run.total)
    died = sum(each.died for each in run.total)
    tasks = f"{len(run.tasks)} task{'s' * (len(run.tasks) != 1)}"
    if not born and not died:
        text = f"Over {tasks} the network kept its {last:,} units."
    else:
        text = (
            f"Over {tasks} the network went from {first:,} to {last:,} units: {born:,} were born "
            f"and {died:,} pruned."
        )
    if run.average_accuracy is not None:
        text += f" It ends at {percent(run.average_accuracy)} accuracy on average"
        if len(run.matrix) > 1 and run.forgetting is not None:
            lost = f"{points(run.forgetting)} points" if run.forgetting >= 0.0005 else "nothing"
            text += f", with {lost} forgotten on the way"
        text += "."
    return text


def points(share: float) -> str:
    """Return a difference of shares in percentage points."""
    return f"{100 * share:z.1f}".replace("-", "−")


def tiles(run: RunSummary) -> list[tuple[str, str, str]]:
    """Return the few numbers at the top: name, value, and a remark."""
    found = []
    if run.average_accuracy is not None:
        learnt = len(run.matrix)
        found.append(("average accuracy", percent(run.average_accuracy), f"over {learnt} tasks"))
    if run.forgetting is not None and len(run.matrix) > 1:
        found.append(("forgetting", points(run.forgetting), "points from each task's best"))
    first, last = run.total[0].before, run.total[-1].width
    ever = sum(group.ever for group in run.groups)
    found.append(("units", f"{last:,}", f"from {first:,}; {ever:,} ever lived"))
    sizes = [size for size in run.sizes if size is not None]
    if sizes:
        remark = f"from {sizes[0].parameters:,}"
        found.append(("parameters", f"{sizes[-1].parameters:,}", remark))
    if run.result is not None:
        found.append(("learning took", seconds(run.result.seconds), "evaluation left out"))
    return found


def seconds(value: float) -> str:
    """Return a time span in words.

    >>> seconds(12.4), seconds(754)
    ('12.4 s', '12 min 34 s')
    """
    if value < 120:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def table(numbers: Numbers, *, style: str = "numbers") -> str:
    """Return numbers as an HTML table; None is an empty cell."""
    first = numbers.rows[0] if numbers.rows else ()
    kinds = [" class=n" if isinstance(cell, int | float) else "" for cell in first]
    head = "".join(
        f"<th scope=col{kind}>{escape(name)}</th>"
        for name, kind in zip_longest(numbers.head, kinds, fillvalue="")
    )
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in numbers.rows)
    return f"<table class={style}><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table>"


def _cell(value: Cell) -> str:
    if value is None:
        return "<td></td>"
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    return f"<td class=n>{value:.6g}" if isinstance(value, float) else f"<td class=n>{value:,}"


def events_table(events: Sequence[EventRecord]) -> str:
    """Return events with their reasons, the newest last; rows have the words for the filter."""
    rows = "".join(map(_event_row, events[-MOST_EVENTS:]))
    heads = ("#", "task", "what", "units", "why")
    head = "".join(f"<th scope=col>{name}</th>" for name in heads)
    return f"<table class=events><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table>"


def _event_row(event: EventRecord) -> str:
    born, died = _count(event.born), _count(event.died)
    kinds = [word for word, count in (("born", born), ("pruned", died)) if count]
    if event.kind != "edit":
        kinds.append(event.kind)
    what = " ".join(
        f'<span class="tag {word}">{sign}{escape(text)}</span>'
        for word, sign, text in (
            ("born", "+", f"{born:,} born" if born else ""),
            ("pruned", "−", f"{died:,} pruned" if died else ""),
            ("noted", "", "" if event.kind == "edit" else event.kind),
        )
        if text
    )
    units = [f"+ {line}" for line in _listed(event.born)]
    units += [f"− {line}" for line in _listed(event.died)]
    return (
        f'<tr data-kind="{escape(" ".join(kinds))}"><td class=n>{event.event}'
        f"<td>{escape(event.task)}<td>{what}"
        f"<td class=units>{'<br>'.join(map(escape, units))}<td>{escape(event.reason)}</tr>\n"
    )


def _listed(units: Mapping[str, Sequence[int]]) -> Iterable[str]:
    for group, ids in units.items():
        yield f"{group} {ranges(ids)}"


def ranges(ids: Sequence[int]) -> str:
    """Return ids as text, with runs of consecutive ids joined.

    >>> ranges([3, 4, 5, 9])
    '#3–5, 9'
    """
    rows = id_runs(ids)
    shown = [f"{a}" if a == b else f"{a}–{b}" for a, b in rows[:_RANGES]]
    rest = sum(b - a + 1 for a, b in rows[_RANGES:])
    return f"#{', '.join(shown)}" + (f" and {rest:,} more" if rest else "")


def layers_table(layers: Sequence[LayerRecord]) -> str:
    """Return a table of the layers at the end of the last task."""
    rows = tuple(
        (layer.name, layer.kind, layer.group, layer.in_width, layer.out_width, layer.parameters)
        for layer in layers
    )
    return table(Numbers(("layer", "kind", "group", "in", "out", "parameters"), rows))


def settings(run: RunSummary) -> str:
    """Return stream, scenario, method, seed and status of the run in one line."""
    result = run.result
    if result is None:
        return ""
    parts = [
        result.stream,
        f"{result.scenario}-incremental",
        f"method {result.method}",
        f"seed {result.seed}",
        result.status,
    ]
    return " · ".join(parts)


def breakable(name: str) -> str:
    """Return a name as HTML that a browser breaks after separators rather than inside words."""
    return "<wbr>".join(escape(piece) for piece in re.split(r"(?<=[/,=_])(?=.)", name))


def comparison_table(runs: Sequence[RunSummary]) -> str:
    """Return a table of runs with the numbers that are usually reported."""
    rows = []
    for i, run in enumerate(runs):
        result = run.result
        size = run.sizes[-1]
        cells = (
            result.method if result else "",
            f"{result.seed}" if result else "",
            percent(run.average_accuracy),
            "·" if run.backward_transfer is None else points(run.backward_transfer),
            "·" if run.forgetting is None else points(run.forgetting),
            f"{run.total[-1].width:,}",
            "·" if size is None else f"{size.parameters:,}",
            seconds(result.seconds) if result else "·",
        )
        name = f'<td><a href="#run-{i}">{breakable(run.name)}</a>'
        rows.append(f"<tr>{name}{''.join(f'<td class=n>{escape(cell)}' for cell in cells)}</tr>")
    heads = ("run", "method", "seed", "ACC", "BWT", "forgetting", "units", "parameters", "time")
    head = "".join(f"<th scope=col>{name}</th>" for name in heads)
    notes = "ACC in percent, BWT and forgetting in points."
    if not _comparable(runs):
        notes += " These runs learnt different streams or scenarios: their numbers do not compare."
    return (
        f"<table class=compare><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        f"<p class=note>{notes}</p>"
    )


def _comparable(runs: Sequence[RunSummary]) -> bool:
    kinds = {(r.result.stream, r.result.scenario) if r.result else r.tasks for r in runs}
    return len(kinds) == 1


def _count(units: Mapping[str, Sequence[int]]) -> int:
    return sum(map(len, units.values()))
