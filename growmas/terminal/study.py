"""Settings side by side, as `growmas compare` shows them, and as text for papers and notes."""

import csv
import io
from collections.abc import Sequence

from rich.console import RenderableType

from growmas.runs.study import METRIC_KINDS, Study
from growmas.runs.study_cells import cells, notes
from growmas.terminal.settings import settings_table
from growmas.terminal.symbols import ASCII, UNICODE, symbols
from growmas.terminal.tables import with_notes
from growmas.visible import as_cell

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
    return with_notes(settings_table(*cells(study, signs), signs), notes(study, signs))


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


def _markdown_row(cells: Sequence[str], *, escape: bool = True) -> str:
    return f"| {' | '.join(_escaped(cell) if escape else cell for cell in cells)} |"


def _escaped(cell: str) -> str:
    text = cell.replace("\\", "\\\\").replace("|", "\\|").replace("_", "\\_").replace("\n", " ")
    text = text.replace("*", "\\*").replace("<", "\\<").replace("](", "]\\(")
    return text.replace("`", "\\`").replace("~", "\\~").strip()


def _latex_row(cells: Sequence[str]) -> str:
    return f"{' & '.join(_as_latex(cell) for cell in cells)} \\\\"


def _as_latex(cell: str) -> str:
    """Return a cell; in braces if it begins with what the end of the row above would take."""
    text = " ".join(cell.split()).translate(_LATEX).replace("<", "$<$").replace(">", "$>$")
    return f"{{{text}}}" if text.startswith(("[", "*")) else text
