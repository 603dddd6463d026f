"""The figure of lineage: births of units, their origin, and how many of each task still live."""

from collections.abc import Sequence
from itertools import groupby

from growmas.history.records import Cohort
from growmas.report.figure import WIDTH, Figure, Frame, Numbers, draw_legend, draw_tasks
from growmas.report.run_summary import GroupSummary, RunSummary
from growmas.report.scale import fitted, row_labels
from growmas.report.svg import Drawing

_SHOWN = 6
_SHOWN_OF_MANY_TASKS = 4
_LEFT = 96
_RIGHT = 62
_GAP = 24


def draw_lineage(run: RunSummary, width: float = WIDTH) -> Figure:
    """Draw cohorts by birth, one row each, which narrows as its units are pruned."""
    most = _SHOWN if len(run.tasks) <= 40 else _SHOWN_OF_MANY_TASKS
    shown = sorted(run.by_change[:most], key=run.groups.index)
    drawing = Drawing(width)
    draw_legend(drawing, 12, (("kept", "alive"), ("gone", "pruned since")))
    top = 48.0
    if any(group.links for group in shown):
        x, y = (190, 12) if width >= WIDTH else (0, 29)
        drawing.path(f"M{x} {y}c10 0 10 -9 22 -9", "link")
        drawing.text(x + 28, y, "split from, or in the place of, a unit of another row")
        top += y - 12
    across = min(2 if width >= WIDTH else 1, len(shown)) or 1
    room = (width - (across - 1) * _GAP) / across
    for start in range(0, len(shown), across):
        bottoms = []
        for k, group in enumerate(shown[start : start + across]):
            rows = len(group.cohorts)
            height = max(rows * min(22.0, max(4.0, 360 / max(rows, 1))), 22.0)
            inner = room - _LEFT - _RIGHT
            frame = Frame(k * (room + _GAP) + _LEFT, top, inner, height)
            _draw_group(drawing, frame, group, run.tasks)
            bottoms.append(frame.bottom)
        top = max(bottoms) + 68
    drawing.height = top - 26
    left_out = ""
    if len(shown) < len(run.groups):
        left_out = f" The {len(shown)} of {len(run.groups)} groups that changed most are drawn."
    return Figure(
        key="lineage",
        title="Births, and who survived",
        caption=(
            "A row holds the units born in one task. It is full at their birth and as thick as "
            "the share of them that still lives; the numbers on the right count the living."
            + left_out
        ),
        drawing=drawing,
        numbers=_numbers(run),
    )


def _draw_group(drawing: Drawing, frame: Frame, group: GroupSummary, tasks: Sequence[str]) -> None:
    drawing.text(frame.x, frame.y - 10, fitted(group.name, frame.width - 60), "tb")
    living, ever = group.turnover[-1].width, group.ever
    drawing.text(frame.right + _RIGHT, frame.y - 10, f"{living:,} of {ever:,} live", anchor="end")
    row = frame.height / max(len(group.cohorts), 1)
    step = frame.width / len(tasks)
    tall = row >= 12
    names = row_labels(tasks, _LEFT - 8)
    every = max(1, -(-13 // int(row)))
    for i, cohort in enumerate(group.cohorts):
        y, birth = frame.y + i * row, tasks.index(cohort.task)
        x = frame.x + birth * step
        thick = row - (3 if tall else 0.5)
        drawing.rect(x, y, frame.right - x, thick, "gone")
        drawing.path(_ribbon(cohort, x, y, step, thick), "kept", tip=_tip(group, cohort))
        middle = y + row / 2 + 3
        if i % every == 0:
            name = "at the start" if cohort.initial else names[birth]
            drawing.text(frame.x - 8, middle, fitted(name, _LEFT - 8), anchor="end")
            drawing.text(frame.right + 8, middle, _survivors(cohort))
    _draw_links(drawing, frame, group, tasks, row, step)
    draw_tasks(drawing, frame, tasks)


def _survivors(cohort: Cohort) -> str:
    now = list(cohort.alive.values())[-1]
    words = f"{now:,} of {cohort.size:,}"
    return words if len(words) <= 9 else f"{100 * now / cohort.size:.0f}%"


def _ribbon(cohort: Cohort, x: float, y: float, step: float, thick: float) -> str:
    """Return a path whose height is the share that lives, on the row's lower edge."""
    d = f"M{x:.1f} {y + thick:.1f}"
    for alive, same in groupby(enumerate(cohort.alive.values()), key=lambda pair: pair[1]):
        last = max(i for i, _ in same)
        d += f"V{y + thick * (1 - alive / cohort.size):.1f}H{x + (last + 1) * step:.1f}"
    return f"{d}V{y + thick:.1f}z"


def _draw_links(
    drawing: Drawing,
    frame: Frame,
    group: GroupSummary,
    tasks: Sequence[str],
    row: float,
    step: float,
) -> None:
    """Draw curves from the rows of parents, or of replaced units, to the rows of successors."""
    rows = {
        -1 if cohort.initial else tasks.index(cohort.task): i
        for i, cohort in enumerate(group.cohorts)
    }
    for (child, parent, how), count in group.links.items():
        lower = rows.get(child, rows.get(-1, 0))
        upper = rows.get(-1, 0) if parent == 0 and -1 in rows else rows.get(parent, 0)
        x, y1, y2 = (frame.x + child * step, *(frame.y + (r + 0.5) * row for r in (upper, lower)))
        word = "split from" if how == "split" else "in the place of"
        tip = f"{group.name} · {tasks[child]}\n{count:,} units {word} units born in {tasks[parent]}"
        bend = min(14.0, step * 0.4)
        drawing.path(f"M{x:.1f} {y1:.1f}C{x - bend:.1f} {y1:.1f} {x - bend:.1f} {y2:.1f} "
                     f"{x:.1f} {y2:.1f}", "link", tip=tip)  # fmt: skip


def _tip(group: GroupSummary, cohort: Cohort) -> str:
    born = "there at the start" if cohort.initial else f"born in {cohort.task}"
    last, alive = list(cohort.alive.items())[-1]
    share = f"{100 * alive / cohort.size:.0f}%"
    return f"{group.name}: {cohort.size:,} units {born}\n{alive:,} alive after {last} ({share})"


def _numbers(run: RunSummary) -> Numbers:
    rows = tuple(
        (group.name, "start" if cohort.initial else cohort.task, task, alive, cohort.size)
        for group in run.groups
        for cohort in group.cohorts
        for task, alive in cohort.alive.items()
    )
    return Numbers(("group", "born in", "after", "alive", "of"), rows)
