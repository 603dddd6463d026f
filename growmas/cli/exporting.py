"""`growmas export`: a history as a graph or a table, for other tools."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from growmas.atomic_write import atomic_write
from growmas.cli.reading import open_history
from growmas.errors import RunError
from growmas.history import TopologyHistory

if TYPE_CHECKING:
    from growmas.history.formats import GraphParts

GRAPHS = ("architecture", "lineage")
_BY_SUFFIX = {".gv": "dot", ".mmd": "mermaid"}  # others end in the name of their format


def export(
    run: str,
    root: Path,
    *,
    graph: str | None,
    table: str | None,
    format: str | None,
    task: str | None,
    group: str | None,
    out: Path | None,
) -> None:
    """Write a graph or a table of a run to a file, or to the standard output.

    Raises:
        RunError: The options do not say what to write, or contradict each other.
    """
    if (graph is None) == (table is None):
        raise RunError(
            "say what to export: either --graph architecture or lineage, or --table units, "
            "importance, metrics, events, layers or sizes"
        )
    format = format or _format_of(out, "json" if graph else "csv")
    from growmas.history.formats import parts_of_graph, parts_of_lineage

    with open_history(run, root) as history, history.frozen():
        if table is not None:
            refuse("--table", {"--task": task, "--group": group})
            _write_table(history, table, format, out)
        elif graph == "architecture":
            refuse("--graph architecture", {"--group": group})
            _write_graph(parts_of_graph(history.graph(task)), format, out)
        elif graph == "lineage":
            refuse("--graph lineage", {"--task": task})
            _write_graph(parts_of_lineage(history, group), format, out)
        else:
            raise RunError(f"--graph {graph}: expected one of {', '.join(GRAPHS)}")


def _write_graph(parts: "GraphParts", format: str, out: Path | None) -> None:
    from growmas.history.formats import graph_lines

    lines = graph_lines(parts, format)
    if out is None:
        sys.stdout.writelines(lines)
    else:
        with atomic_write(out) as fresh, fresh.open("w", encoding="utf-8") as file:
            file.writelines(lines)


def _write_table(history: TopologyHistory, table: str, format: str, out: Path | None) -> None:
    from growmas.history.columns import write_csv, write_parquet

    if format not in ("csv", "parquet"):
        raise RunError(f"--format {format}: a table is written as csv or parquet")
    if format == "parquet":
        if out is None:
            raise RunError("Parquet cannot be printed: name a file with -o FILE")
        with atomic_write(out) as fresh:
            write_parquet(history, table, fresh)
    elif out is None:
        write_csv(history, table, sys.stdout)
    else:
        with atomic_write(out) as fresh, fresh.open("w", encoding="utf-8", newline="") as file:
            write_csv(history, table, file)


def _format_of(out: Path | None, default: str) -> str:
    suffix = out.suffix.lower() if out else ""
    return _BY_SUFFIX.get(suffix, suffix[1:]) or default


def refuse(what: str, options: dict[str, str | None]) -> None:
    """Refuse options that have no effect."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise RunError(f"{' and '.join(given)} has no effect with {what}: leave it out")
