"""The page of a report: one HTML file with its styles, its script and all figures inside."""

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files

from growmas import __version__
from growmas.report.accuracy import draw_accuracy
from growmas.report.comparison import draw_comparison
from growmas.report.figure import NARROW, WIDTH, Figure
from growmas.report.importance import draw_importance, draw_units
from growmas.report.lineage import draw_lineage
from growmas.report.palette import FONT, file_styles, page_patterns, page_styles
from growmas.report.run_summary import RunSummary
from growmas.report.size import draw_size
from growmas.report.training import draw_training
from growmas.report.widths import draw_widths
from growmas.report.writing import (
    MOST_CELLS,
    MOST_EVENTS,
    breakable,
    comparison_table,
    events_table,
    headline,
    layers_table,
    settings,
    table,
    tiles,
)

# A browser that honours this policy refuses to fetch anything.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def run_figures(run: RunSummary, width: float = WIDTH) -> tuple[Figure, ...]:
    """Return all figures for which the run has numbers, `width` pixels across."""
    drawn = (
        draw_widths(run, width),
        draw_size(run, width),
        draw_accuracy(run, width),
        draw_training(run, width),
        draw_lineage(run, width),
        draw_importance(run, width),
        draw_units(run, width),
    )
    return tuple(figure for figure in drawn if figure is not None)


def comparison_figures(runs: Sequence[RunSummary], width: float = WIDTH) -> tuple[Figure, ...]:
    """Return the figures that compare runs, `width` pixels across; none for a single run."""
    return (draw_comparison(runs, width),) if len(runs) > 1 else ()


def build_page(runs: Sequence[RunSummary]) -> str:
    """Return the whole report as HTML."""
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs side by side"
    body = _comparison(runs, title) if len(runs) > 1 else ""
    body += "".join(_run(run, i, alone=len(runs) == 1) for i, run in enumerate(runs))
    return document(title, _contents(runs), body)


def document(title: str, contents: Sequence[tuple[str, str]], body: str) -> str:
    """Return a page with its styles, its script and the bar at its top.

    Args:
        title: Of the page.
        contents: Id and name of each place that the bar links to.
        body: HTML of the page's content.
    """
    style = (_asset("page.css").replace("FONT", FONT)) + page_styles()
    links = "".join(f'<a href="#{target}">{escape(name)}</a>' for target, name in contents)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="generator" content="growmas {__version__}">
<title>{escape(title)} · growmas report</title>
<style>
{style}
</style>
</head>
<body>
<div class="bar"><b>growmas</b><nav aria-label="Contents">{links}</nav>
<button id="theme" type="button">Theme: auto</button></div>
<main>
{body}
<footer>Written by growmas {__version__}. This page holds everything it shows.</footer>
</main>
<div id="tip" role="status"></div>
{page_patterns()}
<template id="file-style">{file_styles()}</template>
<script>
{_asset("page.js")}
</script>
</body>
</html>
"""


def _comparison(runs: Sequence[RunSummary], title: str) -> str:
    figures = figure_blocks(comparison_figures(runs), comparison_figures(runs, NARROW))
    longest = max(runs, key=lambda run: len(run.tasks))
    return (
        f'<section id="comparison-of-runs" {_tasks(longest)}>'
        f"<header><h1>{escape(title)}</h1></header>"
        f'<figure><figcaption><h3>Results</h3></figcaption><div class="plot">'
        f"{comparison_table(runs)}</div></figure>{figures}</section>"
    )


def _run(run: RunSummary, index: int, *, alone: bool) -> str:
    heading = "h1" if alone else "h2"
    where = settings(run)
    if run.unfinished is not None:
        where = " · ".join(part for part in (where, f"now at {run.unfinished}") if part)
    cards = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd><dd>{escape(remark)}</dd></div>"
        for name, value, remark in tiles(run)
    )
    figures = figure_blocks(run_figures(run), run_figures(run, NARROW), after=f"-{index}")
    return (
        f'<section id="run-{index}" {_tasks(run)}><header>'
        f"<{heading}>{breakable(run.name)}</{heading}>"
        f'<p class="where">{escape(where)}</p><p class="lead">{escape(headline(run))}</p>'
        f'<dl class="tiles">{cards}</dl></header>\n'
        f"{figures}{_events(run, index)}{_layers(run, index)}</section>\n"
    )


def figure_blocks(wide: Sequence[Figure], narrow: Sequence[Figure], *, after: str = "") -> str:
    """Return figures with their captions and numbers.

    Args:
        wide: The figures.
        narrow: The same, as a narrow window shows them.
        after: What ids on the page have after the key of a figure.
    """
    pairs = zip(wide, narrow, strict=True)
    return "".join(_figure_block(one, other, f"{one.key}{after}") for one, other in pairs)


def _figure_block(figure: Figure, narrow: Figure, name: str) -> str:
    pictures = "".join(
        f'<div class="{kind}">'
        + each.drawing.render(title=each.title, description=each.caption, name=f"{name}-{kind}")
        + "</div>"
        for kind, each in (("wide", figure), ("narrow", narrow))
    )
    cells = len(figure.numbers.rows) * len(figure.numbers.head)
    numbers = ""
    if cells <= MOST_CELLS:
        rows = table(figure.numbers)
        numbers = f'<details><summary>Numbers</summary><div class="scroll">{rows}</div></details>'
    return (
        f'<figure id="{name}"><figcaption><h3>{escape(figure.title)}</h3>'
        f"<p>{escape(figure.caption)}</p></figcaption>"
        f'<button class="save" type="button" title="Save this figure as SVG">SVG</button>'
        f'<div class="plot">{pictures}</div>{numbers}</figure>\n'
    )


def _events(run: RunSummary, index: int) -> str:
    if not run.events:
        return (
            f'<figure id="events-{index}"><figcaption><h3>Events</h3><p>The structure never '
            "changed.</p></figcaption></figure>"
        )
    left_out = len(run.events) - MOST_EVENTS
    note = f" The {left_out:,} oldest are left out." if left_out > 0 else ""
    boxes = "".join(
        f'<label><input type="checkbox" value="{kind}" checked>{kind}</label>'
        for kind in ("born", "pruned", "noted")
    )
    return (
        f'<figure id="events-{index}" class="long"><figcaption><h3>Events, and why</h3>'
        f"<p>Every change of the structure in the order it was made.{note}</p></figcaption>"
        f'<div class="filter"><input type="search" placeholder="Filter: a task, a group, a reason" '
        f'aria-label="Filter events">{boxes}<output></output></div>'
        f'<div class="scroll">{events_table(run.events)}</div></figure>'
    )


def _layers(run: RunSummary, index: int) -> str:
    if not run.layers:
        return ""
    return (
        f'<figure id="layers-{index}" class="long"><figcaption><h3>Layers at the end</h3>'
        f'</figcaption><div class="scroll">{layers_table(run.layers)}</div></figure>'
    )


def _contents(runs: Sequence[RunSummary]) -> list[tuple[str, str]]:
    if len(runs) > 1:
        links = [("comparison-of-runs", "side by side")]
        return links + [(f"run-{i}", run.name) for i, run in enumerate(runs)]
    links = [(f"{figure.key}-0", _SHORT[figure.key]) for figure in run_figures(runs[0])]
    return [*links, ("events-0", "events")]


_SHORT = {
    "widths": "units",
    "size": "size",
    "accuracy": "accuracy",
    "training": "training",
    "lineage": "survival",
    "importance": "importance",
    "units": "lives",
}


def _tasks(run: RunSummary) -> str:
    return f'data-tasks="{escape(json.dumps(run.tasks))}"'


def _asset(name: str) -> str:
    return files("growmas.report").joinpath(name).read_text(encoding="utf-8")
