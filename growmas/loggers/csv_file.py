"""Logger that writes a table as CSV, one row for each number."""

import csv
from pathlib import Path

from growmas.loggers.logger import Numbers, RunLogger
from growmas.runs.directory import LOG
from growmas.runs.observer import RunBegun

SCALARS = "scalars.csv"
HEAD = ("step", "task", "epoch", "name", "value")


class CsvLogger(RunLogger):
    """Writes `log/scalars.csv`: step, task, epoch, name and value.

    The file is complete after every line. Of a resumed run, rows of later steps than its checkpoint
    are removed before it goes on.
    """

    kind = "csv"
    _path = Path()

    def open(self, begun: RunBegun) -> None:
        """Write the head of the table, or remove the rows that are void."""
        self._path = begun.folder / LOG / SCALARS
        self._path.parent.mkdir(exist_ok=True)
        kept: list[list[str]] = []
        if begun.resumed and self._path.is_file():
            with self._path.open(encoding="utf-8", newline="") as file:
                rows = [row for row in csv.reader(file) if len(row) == len(HEAD)]
            kept = [row for row in rows[1:] if row[0].isdigit() and int(row[0]) < begun.step]
        with self._path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([HEAD, *kept])

    def write(self, numbers: Numbers, step: int, *, task: str, epoch: int | None) -> None:
        """Add a row for each number."""
        at = (step, task, "" if epoch is None else epoch)
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows((*at, name, repr(value)) for name, value in numbers.items())
