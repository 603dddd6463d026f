"""A table of the runs below a directory, as `growmas ls` shows it."""

from collections.abc import Iterable

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from growmas.runs import RunEntry
from growmas.terminal.symbols import symbols
from growmas.terminal.tables import with_notes


def render_runs(entries: Iterable[RunEntry], *, ascii: bool = False) -> RenderableType:
    """Draw a table of runs for a rich console; one that cannot be read shows why.

    Args:
        entries: The runs, in the order in which they are to be listed.
        ascii: Use ASCII characters only (names are printed as they are).
    """
    signs = symbols(ascii=ascii)
    table = Table(
        box=signs.rule, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold"
    )
    table.add_column("run", overflow="fold")
    for heading in ("method", "stream\nscenario", "started"):
        table.add_column(heading, overflow="fold")
    for heading in ("seed", "ACC %"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("status\ntasks", no_wrap=True)
    problems = []
    for entry in entries:
        result = entry.result
        if result is None:
            table.add_row(Text(entry.directory), *[Text(signs.nothing)] * 5, Text("unreadable"))
            problems.append(entry.problem)
            continue
        table.add_row(
            Text(entry.directory),
            Text(result.method),
            Text(f"{result.stream}\n{result.scenario}"),
            Text(entry.started),
            str(result.seed),
            signs.percent(result.average_accuracy),
            Text(f"{entry.status or result.status}\n{result.learnt}/{len(result.tasks)}"),
        )
        if entry.reason:
            problems.append(f"{entry.directory}: {entry.reason}")
    return with_notes(table, problems) if problems else table
