"""The figure of widths: number of units after each task, born units and pruned units."""

from collections.abc import Sequence

from growmas.history.records import Turnover
from growmas.report.figure import (
    LEFT,
    WIDTH,
    Figure,
    Frame,
    Numbers,
    draw_legend,
    draw_targets,
    draw_tasks,
    draw_values,
)
from growmas.report.run_summary import GroupSummary, RunSummary
from growmas.report.scale import Scale, fitted
from growmas.report.svg import Drawing

_SHOWN = 12  # groups with their own panel; the table of numbers has all groups
_ACROSS = 3
_GAP = 26


def draw_widths(run: RunSummary, width: float = WIDTH) -> Figure:
    """Draw all units in a large panel, and a small panel per group."""
    drawing = Drawing(width)
    legend = draw_legend(
        drawing,
        12,
        (
            ("kept", "alive at the end of the task"),
            ("born", "born during it"),
            ("pruned", "pruned during it, drawn downward"),
        ),
    )
    changed = run.by_change[:_SHOWN] if len(run.groups) > 1 else ()
    shown = sorted(changed, key=run.groups.index)
    frame = Frame(LEFT, legend + 32, width - LEFT, 210)
    fresh = [sum(group.fresh[i] for group in run.groups) for i in range(len(run.tasks))]
    _panel(drawing, frame, "all units", run.total, fresh, run.tasks, wide=True)
    bottom = _small_panels(drawing, frame.bottom + 76, shown, run.tasks)
    drawing.height = bottom if shown else frame.bottom + 52
    return Figure(
        key="widths",
        title="Units over tasks",
        caption=_caption(len(shown), len(run.groups)),
        drawing=drawing,
        numbers=_numbers(run),
    )


def _small_panels(
    drawing: Drawing, top: float, groups: Sequence[GroupSummary], tasks: Sequence[str]
) -> float:
    """Draw rows of small panels, one per group; return their lower end."""
    across = min(_ACROSS if drawing.width >= WIDTH else 2, max(len(groups), 1))
    width = (drawing.width - (across - 1) * _GAP) / across
    height = 92.0
    for i, group in enumerate(groups):
        x = (i % across) * (width + _GAP)
        y = top + (i // across) * (height + 62)
        frame = Frame(x + LEFT, y, width - LEFT, height)
        _panel(drawing, frame, group.name, group.turnover, group.fresh, tasks)
    return top + -(-len(groups) // across) * (height + 62) - 38


def _panel(
    drawing: Drawing,
    frame: Frame,
    name: str,
    turnover: Sequence[Turnover],
    fresh: Sequence[int],
    tasks: Sequence[str],
    *,
    wide: bool = False,
) -> None:
    most = max((each.width for each in turnover), default=0) or 1
    lost = max((each.died for each in turnover), default=0)
    scale = frame.upward(-max(lost, most * 0.03), most * (1.1 if wide else 1.04))
    change = _sum(turnover, short=len(name) > 14 and not wide)
    drawing.text(frame.x, frame.y - 9, fitted(name, frame.width - 6.5 * len(change)), "tb")
    drawing.text(frame.right, frame.y - 9, change, anchor="end")
    _draw_rules(drawing, frame, scale)
    step = frame.width / len(tasks)
    gap = min(step * 0.28, 14.0)
    boxes: dict[str, list[tuple[float, float, float, float]]] = {
        style: [] for style in ("kept", "born", "pruned")
    }
    for i, (each, young) in enumerate(zip(turnover, fresh, strict=True)):
        x, width = frame.x + i * step + gap / 2, step - gap
        zero, top, joint = scale.at(0), scale.at(each.width), scale.at(each.width - young)
        boxes["kept"].append((x, joint, width, zero - joint))
        boxes["born"].append((x, top, width, joint - top))
        boxes["pruned"].append((x, zero, width, scale.at(-each.died) - zero))
        if wide and step > 44:
            _write_counts(drawing, x + width / 2, top, frame.bottom, each)
    for style, those in boxes.items():
        drawing.boxes(those, style)
    draw_tasks(drawing, frame, tasks, heading=wide, drop=47 if step > 44 else 31)
    tips = [
        f"{name} · {task}\n{each.before:,} before, +{each.born:,} born, −{each.died:,} pruned\n"
        f"{each.width:,} at its end"
        for task, each in zip(tasks, turnover, strict=True)
    ]
    draw_targets(drawing, frame, tips)


def _write_counts(drawing: Drawing, x: float, top: float, bottom: float, each: Turnover) -> None:
    drawing.text(x, top - 5, f"{each.width:,}", "tv", anchor="middle")
    if each.born:
        drawing.text(x - 2, bottom + 31, f"+{each.born:,}", "tplus", anchor="end")
    if each.died:
        drawing.text(x + 4, bottom + 31, f"−{each.died:,}", "tminus")


def _sum(turnover: Sequence[Turnover], *, short: bool) -> str:
    """Return the first and the last width, and the births and deaths in between."""
    first, last = turnover[0].before, turnover[-1].width
    if short:
        return f"{first:,} → {last:,}"
    born, died = sum(each.born for each in turnover), sum(each.died for each in turnover)
    changes = f"  (+{born:,} −{died:,})" if born or died else ""
    return f"{first:,} → {last:,}{changes}"


def _draw_rules(drawing: Drawing, frame: Frame, scale: Scale) -> None:
    """Draw lines for living units only; pruned units below 0 have the same scale."""
    positive = Scale(0, scale.high, scale.at(0), scale.end)
    draw_values(drawing, frame, positive)


def _caption(shown: int, groups: int) -> str:
    text = "A bar is the number of units at the end of a task."
    if shown < groups and groups > 1:
        text += f" Panels for the {shown} of {groups} groups that changed most."
    return text


def _numbers(run: RunSummary) -> Numbers:
    rows: list[tuple[str, int, str, int, int, int, int]] = []
    for i, task in enumerate(run.tasks):
        named = [(group.name, group.turnover[i]) for group in run.groups]
        for name, each in (*named, ("all units", run.total[i])):
            rows.append((task, i, name, each.before, each.born, each.died, each.width))
    return Numbers(("task", "index", "group", "before", "born", "pruned", "width"), tuple(rows))
