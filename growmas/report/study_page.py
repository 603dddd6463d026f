"""The page of a study: its table with intervals and tests, its figures, and its runs."""

import json
from html import escape
from typing import NamedTuple

from growmas.report.figure import NARROW
from growmas.report.page import document, figure_blocks
from growmas.report.scale import percent
from growmas.report.study_figures import study_figures
from growmas.report.study_summary import StudySummary
from growmas.report.writing import breakable, points, seconds
from growmas.runs.study_cells import cells, notes


class _Signs(NamedTuple):
    """The characters of the table."""

    nothing: str = "·"
    minus: str = "−"
    best: str = "*"


_SIGNS = _Signs()
_SHORT = {
    "intervals": "intervals",
    "cost": "numbers kept",
    "learning": "accuracy",
    "losses": "losses",
}


def build_study_page(study: StudySummary) -> str:
    """Return the whole report of a study as HTML."""
    figures = study_figures(study)
    tasks = escape(json.dumps(study.tasks or ()))
    body = (
        f'<section id="study" data-tasks="{tasks}"><header><h1>{breakable(study.name)}</h1>'
        f'<p class="where">{escape(_where(study))}</p>'
        f'<p class="lead">{escape(_headline(study))}</p></header>'
        f"{_comparison(study)}"
        f"{figure_blocks(figures, study_figures(study, NARROW))}"
        f"{_runs(study)}</section>"
    )
    contents = [("comparison", "table")]
    contents += [(figure.key, _SHORT[figure.key]) for figure in figures]
    return document(study.name, [*contents, ("runs", "runs")], body)


def _where(study: StudySummary) -> str:
    """Return streams, scenarios and the number of runs in one line."""
    runs = [run for each in study.settings for run in each.runs]
    streams = sorted({f"{run.stream}, {run.scenario}-incremental" for run in runs})
    unfinished = sum(each.unfinished for each in study.study.settings)
    rest = f", {unfinished} not finished and left out" if unfinished else ""
    return f"{'; '.join(streams)} · {len(study.settings)} settings, {len(runs)} runs{rest}"


def _headline(study: StudySummary) -> str:
    """Return the result in one or two sentences; a difference is claimed where the test holds."""
    metric, baseline = study.study.metric, study.settings[study.study.baseline]
    if study.study.reasons:
        return f"These runs do not compare: {'; '.join(study.study.reasons)}."
    if len(study.settings) == 1 or baseline.metric is None:
        return ""
    mean = baseline.metric.mean
    value = percent(mean) if metric.percent else f"{mean:,.1f}"
    others = len(study.settings) - 1
    differ = sum(1 for each in study.study.differences if each is not None and each.holds)
    tested = sum(1 for each in study.study.differences if each is not None and each.p is not None)
    text = f"{baseline.label} has a mean {metric.heading} of {value}."
    if not tested:
        return f"{text} With fewer than two common seeds no difference was tested."
    if others == 1:
        verb = "differs" if differ else "does not differ"
        return f"{text} The other setting {verb} from it by the paired test."
    which = {0: "None", 1: "One", others: "All"}.get(differ, str(differ))
    verb = "differ" if differ > 1 else "differs"
    return f"{text} {which} of the {others} other settings {verb} from it by the paired test."


def _comparison(study: StudySummary) -> str:
    names, numbers, rows = cells(study.study, _SIGNS)
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in names)
    head += "".join(f"<th scope=col class=n>{escape(name)}</th>" for name in numbers)
    lines = "".join(
        "<tr>"
        + "".join(f"<td>{breakable(cell)}" for cell in row[: len(names)])
        + "".join(f"<td class=n>{escape(cell.strip())}" for cell in row[len(names) :])
        + "</tr>\n"
        for row in rows
    )
    below = "".join(
        f'<p class="note">{escape(line)}</p>'
        for line in [*notes(study.study, _SIGNS), *study.problems]
    )
    return (
        '<figure id="comparison"><figcaption><h3>Settings side by side</h3></figcaption>'
        f'<div class="plot"><table class="numbers study"><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{lines}"
        f"</tbody></table></div>{below}</figure>\n"
    )


def _runs(study: StudySummary) -> str:
    """Return a table of all finished runs."""
    heads = ("setting", "run", "seed", "ACC", "BWT", "forgetting", "numbers kept", "time")
    head = "".join(
        f"<th scope=col{' class=n' * (i > 1)}>{name}</th>" for i, name in enumerate(heads)
    )
    rows = "".join(
        f"<tr><td>{breakable(each.label)}<td>{breakable(run.name)}"
        + "".join(
            f"<td class=n>{escape(cell)}"
            for cell in (
                str(run.seed),
                percent(run.average_accuracy),
                "·" if run.backward_transfer is None else points(run.backward_transfer),
                "·" if run.forgetting is None else points(run.forgetting),
                f"{run.numbers_kept:,}",
                seconds(run.seconds),
            )
        )
        + "</tr>\n"
        for each in study.settings
        for run in each.runs
    )
    return (
        '<figure id="runs" class="long"><figcaption><h3>All finished runs</h3>'
        "<p>ACC in percent, BWT and forgetting in points. growmas report RUN writes a page about "
        "one of them.</p></figcaption><div class=scroll><table class='numbers study'><thead><tr>"
        f"{head}</tr></thead><tbody>\n{rows}</tbody></table></div></figure>\n"
    )
