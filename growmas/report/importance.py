"""The figures of importance: the groups over tasks, and every unit over tasks."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from growmas.report.figure import (
    WIDTH,
    Figure,
    Frame,
    Numbers,
    draw_legend,
    draw_shades,
    draw_tasks,
)
from growmas.report.palette import LEVELS, level, on_level
from growmas.report.run_summary import GroupSummary, RunSummary
from growmas.report.scale import fitted
from growmas.report.svg import Drawing
from growmas.report.unit_map import UnitMap
from growmas.rounding import short

_LEFT = 150  # pixels for the names of groups
_LEFT_IF_NARROW = 100
_LEFT_OF_UNITS = 46
_SHOWN = 30


@dataclass(frozen=True)
class _Shade:
    """A logarithmic scale from shade 0 to shade 1.

    Attributes:
        least: Value whose share is 0.
        most: Value whose share is 1; 0 without values.
    """

    least: float
    most: float

    @classmethod
    def over(cls, values: Iterable[float]) -> "_Shade":
        """Return a scale from nearly the smallest value to the largest, at most four decades."""
        known = sorted(value for value in values if value > 0)
        if not known:
            return cls(0.0, 0.0)
        most = known[-1]
        return cls(min(max(known[len(known) // 50], most * 1e-4), most * 0.5), most)

    def share(self, value: float) -> float:
        if value <= self.least or self.most <= 0:
            return 0.0
        return math.log(value / self.least) / math.log(self.most / self.least)

    @property
    def ends(self) -> tuple[str, str]:
        return f"{short(self.least)} or less", short(self.most)


def draw_importance(run: RunSummary, width: float = WIDTH) -> Figure | None:
    """Draw importance of groups × tasks; None if it was never measured."""
    measured = [group for group in run.by_change if any(group.importance)]
    if not measured:
        return None
    shown = sorted(measured[:_SHOWN], key=run.groups.index)
    shade = _Shade.over(e.mean for group in shown for e in group.importance if e)
    drawing = Drawing(width)
    draw_shades(drawing, 12, "m", shade.ends)
    row = min(34.0, max(14.0, 420 / len(shown)))
    left = _LEFT if width >= WIDTH else _LEFT_IF_NARROW
    frame = Frame(left, 30, width - left, row * len(shown))
    _draw_heat_map(drawing, frame, shown, shade)
    draw_tasks(drawing, frame, run.tasks)
    drawing.height = frame.bottom + 38
    return Figure(
        key="importance",
        title="Where importance lies",
        caption=(
            "Mean importance of a unit, per group and task, on a logarithmic scale. A strong shade "
            "is protected; “unused” is the share of units whose importance is exactly 0, which no "
            "task needs." + _left_out(len(shown), len(measured))
        ),
        drawing=drawing,
        numbers=_numbers(run),
    )


def _draw_heat_map(
    drawing: Drawing, frame: Frame, groups: Sequence[GroupSummary], shade: _Shade
) -> None:
    tasks = len(groups[0].importance)
    across, row = frame.width / tasks, frame.height / len(groups)
    gap = 2.0 if across > 8 else 0.0
    shares = [[shade.share(e.mean) if e else None for e in group.importance] for group in groups]
    styles = [[None if s is None else level(s, "m") for s in line] for line in shares]
    drawing.cells(frame.x, frame.y, (across, row), styles, gap=gap)
    for i, group in enumerate(groups):
        middle = frame.y + (i + 0.5) * row + 2.5
        drawing.text(frame.x - 8, middle, fitted(group.name, frame.x - 20), "tv", anchor="end")
        for j, each in enumerate(group.importance):
            share = shares[i][j]
            if each and each.zeros and share is not None and across > 54:
                unused = f"{_share(each.zeros, each.units)} unused"
                x = frame.x + (j + 0.5) * across - gap / 2
                drawing.text(x, middle, unused, on_level(share), anchor="middle")
    drawing.hit_area(
        frame.x,
        frame.y,
        frame.width,
        frame.height,
        {
            "kind": "importance",
            "rows": [group.name for group in groups],
            "columns": tasks,
            "values": [
                [[float(f"{e.mean:.4g}"), e.zeros, e.units] if e else None for e in g.importance]
                for g in groups
            ],
        },
    )


def draw_units(run: RunSummary, width: float = WIDTH) -> Figure:
    """Draw life and importance of every unit, for the groups that changed most."""
    maps = [(g.name, run.maps[g.name]) for g in run.groups if g.name in run.maps]
    shade = _Shade.over(
        value for _, each in maps for row in each.importance for value in row if value is not None
    )
    drawing = Drawing(width)
    x = draw_shades(drawing, 12, "m", shade.ends) if shade.most > 0 else 0
    kinds = {
        _style(alive, value, shade)
        for _, each in maps
        for lives, values in zip(each.alive, each.importance, strict=True)
        for alive, value in zip(lives, values, strict=True)
    }
    legend = [("unused", "importance exactly 0"), ("life", "alive, not measured")]
    below = draw_legend(drawing, 12, [entry for entry in legend if entry[0] in kinds], x=x)
    across = min(2 if width >= WIDTH else 1, len(maps)) or 1
    room = (width - (across - 1) * 30) / across
    top = below + 36
    for start in range(0, len(maps), across):
        heights = []
        for k, (name, units) in enumerate(maps[start : start + across]):
            height = min(340.0, max(60.0, 6.0 * len(units.first)))
            frame = Frame(k * (room + 30) + _LEFT_OF_UNITS, top, room - _LEFT_OF_UNITS, height)
            _draw_map(drawing, frame, name, units, run.tasks, shade)
            heights.append(height)
        top += max(heights) + 68
    drawing.height = top - 26
    return Figure(
        key="units",
        title="The life of every unit",
        caption=(
            "A row is a unit, or a few units born one after another where there are many; it "
            "begins with the task of their birth and ends where all of them are pruned. "
            "The shade is their mean importance." + _left_out(len(maps), len(run.groups))
        ),
        drawing=drawing,
        numbers=_unit_numbers(run),
    )


def _draw_map(
    drawing: Drawing,
    frame: Frame,
    name: str,
    units: UnitMap,
    tasks: Sequence[str],
    shade: _Shade,
) -> None:
    rows = len(units.first)
    across, down = frame.width / len(tasks), frame.height / rows
    styles = [
        [
            _style(alive, value, shade)
            for alive, value in zip(units.alive[i], units.importance[i], strict=True)
        ]
        for i in range(rows)
    ]
    gap = 1.0 if down > 4 and across > 6 else 0.0
    each = max(units.born)
    drawing.text(frame.x, frame.y - 10, fitted(name, frame.width - 90), "tb")
    text = "one unit per row" if each == 1 else f"{each} units per row"
    drawing.text(frame.right, frame.y - 10, text, anchor="end")
    drawing.cells(frame.x, frame.y, (across, down), styles, gap=gap)
    for i in range(0, rows, max(1, math.ceil(18 / down))):
        drawing.text(frame.x - 7, frame.y + i * down + 8, f"#{units.first[i]}", anchor="end")
    draw_tasks(drawing, frame, tasks)
    drawing.hit_area(
        frame.x,
        frame.y,
        frame.width,
        frame.height,
        {
            "kind": "units",
            "group": name,
            "rows": [list(pair) for pair in zip(units.first, units.last, strict=True)],
            "columns": len(tasks),
            "alive": [list(row) for row in units.alive],
            "values": ["".join(_code(style) for style in row) for row in styles],
            "ends": [float(f"{shade.least:.4g}"), float(f"{shade.most:.4g}")],
            "levels": LEVELS,
        },
    )


def _style(alive: int, value: float | None, shade: _Shade) -> str | None:
    if not alive:
        return None
    if value is None:
        return "life"
    return "unused" if value == 0 else level(shade.share(value), "m")


def _code(style: str | None) -> str:
    """Return one letter: a level, z for zero, u for not measured, a blank for none alive."""
    return {None: " ", "unused": "z", "life": "u"}.get(style) or str(style)[1:]


def _share(zeros: int, units: int) -> str:
    return f"{100 * zeros / units:.0f}%" if zeros * 200 >= units else "<1%"


def _left_out(shown: int, known: int) -> str:
    if shown == known:
        return ""
    return f" The {shown} of {known} groups that changed most are drawn."


def _numbers(run: RunSummary) -> Numbers:
    rows = tuple(
        (run.tasks[i], group.name, e.units, e.total, e.mean, e.least, e.most, e.zeros)
        for group in run.groups
        for i, e in enumerate(group.importance)
        if e is not None
    )
    head = ("task", "group", "units", "total", "mean", "least", "most", "zeros")
    return Numbers(head, rows)


def _unit_numbers(run: RunSummary) -> Numbers:
    rows = tuple(
        (name, units.first[i], units.last[i], task, units.alive[i][j], units.importance[i][j])
        for name, units in run.maps.items()
        for i in range(len(units.first))
        for j, task in enumerate(run.tasks)
        if units.alive[i][j]
    )
    return Numbers(("group", "from unit", "to unit", "task", "alive", "mean importance"), rows)
