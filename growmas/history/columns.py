"""Tables of a history, written as CSV or Parquet."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

from growmas.errors import HistoryError
from growmas.history.number_rows import number_rows
from growmas.history.reader import TopologyHistory
from growmas.visible import as_cell

Row = tuple[Any, ...]

_CHUNK = 4096  # rows in memory
_ROW_GROUP = 2**16  # rows of a Parquet file that are read together


@dataclass(frozen=True)
class Columns:
    """A table.

    Attributes:
        types: Column name -> type of its values, which may also be None.
        chunks: Rows, in lists that fit into memory.
    """

    types: Mapping[str, type]
    chunks: Iterator[list[Row]]


def write_csv(history: TopologyHistory, table: str, file: TextIO) -> None:
    """Write a table as CSV, with a line of column names; None is an empty field.

    Args:
        history: History to read.
        table: "units", "importance", "metrics", "events", "layers" or "sizes".
        file: Text file, opened with newline="".

    Raises:
        HistoryError: If the table is not one of these.
    """
    columns = _columns(history, table)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns.types)
    if table == "importance":  # millions of rows
        file.writelines(_importance_texts(history))
        return
    for chunk in columns.chunks:
        writer.writerows([as_cell(value) for value in row] for row in chunk)


def write_parquet(history: TopologyHistory, table: str, path: Path) -> None:
    """Write a table as Parquet.

    Args:
        history: History to read.
        table: "units", "importance", "metrics", "events", "layers" or "sizes".
        path: File to write.

    Raises:
        HistoryError: If the table is not one of these, or pyarrow is not installed.
    """
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise HistoryError(
            "Parquet needs pyarrow, which is not installed: pip install pyarrow, or write CSV"
        ) from error
    columns = _columns(history, table)
    kinds = {str: arrow.string(), int: arrow.int64(), float: arrow.float64()}
    schema = arrow.schema([(name, kinds[kind]) for name, kind in columns.types.items()])
    with parquet.ParquetWriter(path, schema) as writer:
        rows = chain.from_iterable(columns.chunks)
        while chunk := list(islice(rows, _ROW_GROUP)):
            values = zip(*chunk, strict=True)
            arrays = [arrow.array(c, f.type) for c, f in zip(values, schema, strict=True)]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))


def _columns(history: TopologyHistory, table: str) -> Columns:
    if table not in TABLES:
        known = ", ".join(map(repr, TABLES))
        raise HistoryError(f"table={table!r}: expected one of {known}")
    types, chunks = TABLES[table]
    return Columns(types, chunks(history))


def _units(history: TopologyHistory) -> Iterator[list[Row]]:
    lines = history.each_lifeline()
    while chunk := [
        (
            *(line.group, line.unit, line.birth_task, line.birth_reason, line.parent),
            *(line.replaced, line.death_task, line.death_reason),
        )
        for line in islice(lines, _CHUNK)
    ]:
        yield chunk


def _importance(history: TopologyHistory) -> Iterator[list[Row]]:
    for found in history.each_importance():
        pairs = zip(found.units.ids, found.values, strict=True)
        yield [(found.task, found.group, unit, value) for unit, value in pairs]


def _importance_texts(history: TopologyHistory) -> Iterator[str]:
    """Yield the rows of a group at a snapshot as text."""
    for found in history.each_importance():
        head = io.StringIO(newline="")
        cells = [as_cell(found.task), as_cell(found.group), ""]
        csv.writer(head, lineterminator="").writerow(cells)
        yield number_rows(head.getvalue(), found.units.ids, found.values)


def _metrics(history: TopologyHistory) -> Iterator[list[Row]]:
    for task, values in history.all_metrics().items():
        yield [(task, name, value) for name, value in values.items()]


def _events(history: TopologyHistory) -> Iterator[list[Row]]:
    yield [
        (
            *(event.event, event.task, event.kind, event.time, event.reason),
            sum(map(len, event.born.values())),
            sum(map(len, event.died.values())),
            json.dumps(event.cause, ensure_ascii=False),
        )
        for event in history.log()
    ]


def _layers(history: TopologyHistory) -> Iterator[list[Row]]:
    for task in history.tasks():
        yield [
            (
                *(task.name, layer.name, layer.kind, layer.group, layer.in_width),
                *(layer.out_width, layer.parameters, layer.flops),
            )
            for layer in history.layers(task.index)
        ]


def _sizes(history: TopologyHistory) -> Iterator[list[Row]]:
    yield [
        (task, size.units, size.parameters, size.flops) for task, size in history.sizes().items()
    ]


TABLES: dict[str, tuple[dict[str, type], Callable[[TopologyHistory], Iterator[list[Row]]]]] = {
    "units": (
        {
            "group": str,
            "unit": int,
            "birth_task": str,
            "birth_reason": str,
            "parent": int,
            "replaced": int,
            "death_task": str,
            "death_reason": str,
        },
        _units,
    ),
    "importance": ({"task": str, "group": str, "unit": int, "importance": float}, _importance),
    "metrics": ({"task": str, "metric": str, "value": float}, _metrics),
    "events": (
        {
            "event": int,
            "task": str,
            "kind": str,
            "time": str,
            "reason": str,
            "born": int,
            "died": int,
            "cause": str,
        },
        _events,
    ),
    "layers": (
        {
            "task": str,
            "layer": str,
            "kind": str,
            "group": str,
            "in_width": int,
            "out_width": int,
            "parameters": int,
            "flops": int,
        },
        _layers,
    ),
    "sizes": ({"task": str, "units": int, "parameters": int, "flops": int}, _sizes),
}
