"""Health of a run directory: its files are complete, and belong to the same run."""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from growmas.checkpoint_files import (
    OTHERS,
    STATE,
    UNREADABLE,
    NewerFormat,
    read_whole,
    strange_files,
)
from growmas.config import load_config
from growmas.errors import GrowmasError
from growmas.history.schema import open_to_read
from growmas.history.tables import ALL
from growmas.runs.directory import CHECKPOINT, CONFIG, REMEDY, read_run_id
from growmas.runs.finding import HISTORY
from growmas.runs.lock import LOCK
from growmas.runs.result import METRICS, read_result
from growmas.runs.status import read_status
from growmas.runs.trace import TRACE, read_trace

RUN_FILES = (CONFIG, METRICS, HISTORY, CHECKPOINT, TRACE, LOCK)
"""Files by which a run directory is known."""


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        subject: Of the check.
        state: "ok", "missing" or "damaged" (something has to be done), or "absent" (something
            optional, or not there yet).
        text: The finding, and the remedy.
    """

    subject: str
    state: str
    text: str


def check_run(folder: Path) -> list[Finding]:
    """Check every file of a run directory."""
    found = [*_config(folder), *_metrics(folder), *_history(folder), *_checkpoint(folder)]
    return [*found, *_trace(folder)]


def _config(folder: Path) -> Iterator[Finding]:
    if not (folder / CONFIG).is_file():
        begun = (folder / METRICS).exists() or (folder / CHECKPOINT).exists()
        said = f"it was deleted: {REMEDY}" if begun else "the run has not begun"
        yield Finding(CONFIG, "missing", said)
        return
    try:
        load_config(folder / CONFIG)
    except GrowmasError as error:
        yield Finding(CONFIG, "damaged", str(error))
        return
    yield Finding(CONFIG, "ok", f"run {read_run_id(folder) or 'without an id'}")


def _metrics(folder: Path) -> Iterator[Finding]:
    if not (folder / METRICS).is_file():
        yield Finding(METRICS, "absent", "no result yet: --resume writes it")
        return
    try:
        result = read_result(folder)
    except GrowmasError as error:
        yield Finding(METRICS, "damaged", str(error))
        return
    status, reason = read_status(folder, result)
    text = f"{status}, {result.learnt} of {len(result.tasks)} tasks"
    yield Finding(METRICS, "ok", f"{text}; {reason}" if reason else text)
    yield from _same_run(METRICS, result.run_id, folder)


def _history(folder: Path) -> Iterator[Finding]:
    path = folder / HISTORY
    if not path.is_file():
        if (folder / CHECKPOINT).is_dir():
            yield Finding(HISTORY, "missing", f"it was deleted: {REMEDY}")
        else:
            yield Finding(HISTORY, "absent", "no history yet")
        return
    try:
        with closing(open_to_read(path)) as database:
            said = [str(row[0]) for row in database.execute("PRAGMA quick_check(3)")]
            if said == ["ok"]:
                _read_rows(database)
                meta = dict(database.execute("SELECT key, value FROM meta"))
    except (GrowmasError, sqlite3.Error) as error:
        yield Finding(HISTORY, "damaged", f"{error}: {REMEDY}")
        return
    if said != ["ok"]:
        yield Finding(HISTORY, "damaged", f"{'; '.join(said)}: {REMEDY}")
        return
    yield Finding(HISTORY, "ok", "PRAGMA quick_check: ok")
    yield from _same_run(HISTORY, str(meta.get("run", "")), folder)


def _read_rows(database: sqlite3.Connection) -> None:
    """Read every row of every table; only the numbers of importance are left out.

    Raises:
        sqlite3.Error: A table or a column is missing, or a text is not one.
    """
    for table in re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", ALL):
        columns = "COUNT(*)" if table in ("importance_data", "scalars") else "*"
        for _ in database.execute(f"SELECT {columns} FROM {table}"):
            pass


def _checkpoint(folder: Path) -> Iterator[Finding]:
    path = folder / CHECKPOINT
    if not path.is_dir():
        if os.path.lexists(path):
            yield Finding(CHECKPOINT, "damaged", "it is not a folder: move it elsewhere")
        elif _learnt(folder):
            yield Finding(CHECKPOINT, "missing", f"it was deleted: {REMEDY}")
        else:
            yield Finding(CHECKPOINT, "absent", "no checkpoint yet: --resume begins the run anew")
        return
    strange = strange_files(path)
    if strange:
        said = f"{', '.join(strange)} is not of a checkpoint: move it elsewhere"
        yield Finding(CHECKPOINT, "damaged", said)
    try:
        whole = read_whole(path, STATE)
    except NewerFormat as error:
        yield Finding(CHECKPOINT, "damaged", str(error))
        return
    except (GrowmasError, *UNREADABLE) as error:
        yield Finding(CHECKPOINT, "damaged", f"{error!s:.200}: {_instead(path)}")
        return
    yield Finding(CHECKPOINT, "ok", f"{whole.tensors.stat().st_size:,} bytes, of {whole.saved}")
    yield from _same_run(CHECKPOINT, str(whole.value("run", "id") or ""), folder)


def _instead(checkpoint: Path) -> str:
    """Say what is used in the place of a damaged state."""
    for name, where in OTHERS:
        with suppress(GrowmasError, *UNREADABLE):
            return f"the one {where} it, of {read_whole(checkpoint, name).saved}, is used"
    return f"and no other is whole; {REMEDY}"


def _learnt(folder: Path) -> int:
    """Return the number of tasks that a run has learnt; 0 if that is not known."""
    with suppress(GrowmasError):
        return read_result(folder).learnt
    return 0


def _trace(folder: Path) -> Iterator[Finding]:
    saved = _saved_step(folder)
    if not (folder / TRACE).is_file():
        if saved is not None:
            yield Finding(TRACE, "missing", f"the checkpoint is of step {saved}: {REMEDY}")
        return
    try:
        trace = read_trace(folder)
    except GrowmasError as error:
        yield Finding(TRACE, "damaged", str(error))
        return
    short = trace.missing
    if not short and saved is not None and len(trace.losses) < saved:
        short = f"the checkpoint is of step {saved}: {REMEDY}"
    text = f"{len(trace.losses)} of {trace.steps} steps"
    yield Finding(TRACE, "damaged" if short else "ok", f"{text}; {short}" if short else text)


def _saved_step(folder: Path) -> int | None:
    """Return the step of a task-free run at which its checkpoint was written; None if unknown."""
    with suppress(GrowmasError, *UNREADABLE):
        step = read_whole(folder / CHECKPOINT, STATE).value("step")
        return step if type(step) is int else None
    return None


def _same_run(subject: str, found: str, folder: Path) -> Iterator[Finding]:
    wanted = read_run_id(folder)
    if found and wanted and found != wanted:
        text = f"it belongs to the run {found}, the config to {wanted}"
        yield Finding(subject, "damaged", f"{text}: two runs are mixed")
