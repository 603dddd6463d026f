"""Settings side by side, as `growmas compare` shows them, and as text for papers and notes."""

import csv
import io
from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from growmas.config.formatting import short_keys, show
from growmas.runs.intervals import Difference, Interval
from growmas.runs.study import METRIC_KINDS, Metric, Setting, Study
from growmas.terminal.symbols import ASCII, UNICODE, Symbols, symbols
from growmas.terminal.tables import Explanation, Fitting, plain_table, with_notes
from growmas.visible import as_cell

_ALWAYS = ("forgetting", "numbers", "cpu_seconds")
_LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"−": "$-$", "·": "--"}
)


def render_study(study: Study, *, ascii: bool = False) -> RenderableType:
    """Draw a row for each setting, with intervals and differences, for a rich console.

    Args:
        study: Of `growmas.runs.study.compare_settings`.
        ascii: Use ASCII characters only (names are printed as they are).
    """
    signs = symbols(ascii=ascii)
    return with_notes(
        Fitting(_table(study, signs), _table(study, signs, narrow=True)), notes(study, signs)
    )


def _table(study: Study, signs: Symbols, *, narrow: bool = False) -> Table:
    """Return the table; a narrow one has intervals on lines of their own."""
    names, numbers, rows = cells(study, signs)
    table = plain_table(signs, gap=0 if narrow else 1)
    for heading in names:
        table.add_column(heading, overflow="fold")
    for heading in numbers:
        table.add_column(
            heading.replace(" ", "\n") if narrow else heading, justify="right", no_wrap=True
        )
    for row in rows:
        table.add_row(*(Text(cell.replace(" [", "\n[") if narrow else cell) for cell in row))
    return table


def markdown(study: Study) -> str:
    """Return the table in Markdown, with its notes below."""
    names, numbers, rows = cells(study, UNICODE)
    lines = [
        _markdown_row([*names, *numbers]),
        _markdown_row([*("---" for _ in names), *("---:" for _ in numbers)], escape=False),
        *map(_markdown_row, rows),
    ]
    return "\n".join([*lines, "", *(f"{note}  " for note in notes(study, UNICODE))]) + "\n"


def latex(study: Study) -> str:
    """Return the table for the LaTeX package booktabs, with its notes as comments."""
    names, numbers, rows = cells(study, UNICODE)
    lines = [
        *(f"% {note}" for note in notes(study, ASCII)),
        rf"\begin{{tabular}}{{{'l' * len(names)}{'r' * len(numbers)}}}",
        r"\toprule",
        _latex_row([*names, *numbers]),
        r"\midrule",
        *map(_latex_row, rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def comma_separated(study: Study) -> str:
    """Return a line for each setting with all numbers unrounded, shares between 0 and 1."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = ("mean", "low", "high")
    heading = [f"{study.metric.name}_{end}" for end in ends] + [f"difference_{end}" for end in ends]
    others = [name for name in METRIC_KINDS if name != study.metric.name]
    names = study.varied or ("setting",)
    writer.writerow([*names, "seeds", *heading, "p", "p_holm", *others])
    for setting, row in zip(study.settings, study.as_data(), strict=True):
        difference = row["difference"] or {}
        writer.writerow(
            [
                *map(as_cell, [setting.values.get(key) for key in study.varied] or [setting.name]),
                row["n"],
                *(row[end] for end in ends),
                *(difference.get(end) for end in ends),
                row["p"],
                row["p_holm"],
                *(row[name] for name in others),
            ]
        )
    return text.getvalue()


def cells(study: Study, signs: Symbols) -> tuple[list[str], list[str], list[list[str]]]:
    """Return the headings of names, the headings of numbers, and the rows."""
    headings = short_keys(study.varied)
    names = [headings[key] for key in study.varied] or ["setting"]
    others = [METRIC_KINDS[name] for name in _ALWAYS if name != study.metric.name]
    seeds = max(each.n for each in study.intervals if each) > 1
    tested = seeds and len(study.settings) > 1 and not study.reasons
    numbers = ["seeds", study.metric.heading]
    numbers += ["difference", "p"] if tested else []
    numbers += [each.heading for each in others]
    rows = []
    for i, setting in enumerate(study.settings):
        values = setting.values
        row = [
            show(values[key]).strip('"') if key in values else signs.nothing for key in study.varied
        ] or [setting.name]
        row += [_seeds(setting), _interval(study.intervals[i], study.metric, signs)]
        if tested:
            row += _difference(study, i, signs)
        row += [_mean(setting, each, signs) for each in others]
        rows.append(row)
    return names, numbers, rows


def _seeds(setting: Setting) -> str:
    finished = len(setting.runs)
    return f"{finished}/{finished + setting.unfinished}" if setting.unfinished else str(finished)


def _number(value: float, metric: Metric, signs: Symbols, *, sign: str = "") -> str:
    if metric.percent:
        return f"{100 * value:{sign}.1f}".replace("-", signs.minus)
    return f"{value:{sign},.{0 if abs(value) >= 100 else 1}f}".replace("-", signs.minus)


def _interval(interval: Interval | None, metric: Metric, signs: Symbols, *, sign: str = "") -> str:
    if interval is None:
        return signs.nothing
    mean = _number(interval.mean, metric, signs, sign=sign)
    if interval.low is None or interval.high is None or interval.low == interval.high:
        return mean
    ends = (_number(end, metric, signs, sign=sign) for end in (interval.low, interval.high))
    return f"{mean} [{', '.join(ends)}]"


def _difference(study: Study, i: int, signs: Symbols) -> list[str]:
    if i == study.baseline:
        return ["baseline", ""]
    difference = study.differences[i]
    if difference is None:
        return [signs.nothing, signs.nothing]
    mark = signs.best if difference.holds else " "
    return [
        _interval(difference.interval, study.metric, signs, sign="+") + mark,
        _p(difference, signs),
    ]


def _p(difference: Difference, signs: Symbols) -> str:
    if difference.adjusted is None:
        return signs.nothing
    return "<.001" if difference.adjusted < 0.001 else f"{difference.adjusted:.3f}"


def _mean(setting: Setting, metric: Metric, signs: Symbols) -> str:
    mean = setting.mean(metric)
    return signs.nothing if mean is None else _number(mean, metric, signs)


def notes(study: Study, signs: Symbols) -> list[str]:
    """Return the lines that explain the table."""
    lines: list[str] = []
    counts = {each.n for each in study.intervals if each}
    if study.reasons:
        lines.append(f"These runs do not compare: {'; '.join(study.reasons)}.")
    if max(counts) > 1:
        lines.append(Explanation("[ ] 95% bootstrap interval of the mean over seeds."))
    common = sorted({each.interval.n for each in study.differences if each})
    if common and common[-1] > 1:
        lines.append(
            f"difference: to the baseline, seed by seed (n = {', '.join(map(str, common))}); p: "
            f"paired t-test with Holm's correction; {signs.best} p < .05."
        )
    elif len(study.settings) > 1 and not study.reasons:
        lines.append("Fewer than two common seeds: no difference was tested.")
    if any(setting.unfinished for setting in study.settings):
        lines.append("n/m seeds: only the n finished runs count.")
    if study.metric.percent:
        kept = "In percent. Numbers kept: parameters, and what the method stores."
        lines.append(Explanation(kept))
    return lines


def _markdown_row(cells: Sequence[str], *, escape: bool = True) -> str:
    return f"| {' | '.join(_escaped(cell) if escape else cell for cell in cells)} |"


def _escaped(cell: str) -> str:
    text = cell.replace("\\", "\\\\").replace("|", "\\|").replace("_", "\\_").replace("\n", " ")
    return text.replace("*", "\\*").replace("<", "\\<").strip()


def _latex_row(cells: Sequence[str]) -> str:
    return f"{' & '.join(_as_latex(cell) for cell in cells)} \\\\"


def _as_latex(cell: str) -> str:
    """Return a cell; in braces if it begins with what a row's end would take for its argument."""
    text = cell.strip().translate(_LATEX).replace("<", "$<$")
    return f"{{{text}}}" if text.startswith("[") else text
