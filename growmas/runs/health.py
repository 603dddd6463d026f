"""Health of a run directory: its files are complete, and belong to the same run."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from growmas.config import load_config
from growmas.errors import GrowmasError
from growmas.runs.directory import CHECKPOINT, CONFIG, read_run_id
from growmas.runs.finding import HISTORY
from growmas.runs.result import METRICS, read_result
from growmas.runs.status import read_status
from growmas.runs.trace import TRACE, read_trace


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
        yield Finding(CONFIG, "missing", "the run has not begun, or its config was deleted")
        return
    try:
        load_config(folder / CONFIG)
    except GrowmasError as error:
        yield Finding(CONFIG, "damaged", str(error))
        return
    yield Finding(CONFIG, "ok", f"run {read_run_id(folder) or 'without an id'}")


def _metrics(folder: Path) -> Iterator[Finding]:
    if not (folder / METRICS).is_file():
        yield Finding(METRICS, "absent", "no result yet: --resume begins the run anew")
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
        yield Finding(HISTORY, "absent", "no history yet")
        return
    try:
        source = f"{path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(source, uri=True)) as database:
            said = [str(row[0]) for row in database.execute("PRAGMA quick_check(3)")]
            meta = dict(database.execute("SELECT key, value FROM meta"))
    except sqlite3.Error as error:
        yield Finding(HISTORY, "damaged", f"{error}: restore a copy, or run the experiment again")
        return
    if said != ["ok"]:
        yield Finding(HISTORY, "damaged", f"{'; '.join(said)}: run the experiment again")
        return
    yield Finding(HISTORY, "ok", "PRAGMA quick_check: ok")
    yield from _same_run(HISTORY, str(meta.get("run", "")), folder)


def _checkpoint(folder: Path) -> Iterator[Finding]:
    path = folder / CHECKPOINT
    if not path.is_dir():
        yield Finding(CHECKPOINT, "absent", "no checkpoint yet: --resume begins the run anew")
        return
    missing = [n for n in ("state.json", "tensors.safetensors") if not (path / n).is_file()]
    if missing:
        yield Finding(CHECKPOINT, "damaged", f"{' and '.join(missing)} missing")
        return
    try:
        size = (path / "tensors.safetensors").stat().st_size
        with (path / "tensors.safetensors").open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, size)))
        ends = [v["data_offsets"][1] for n, v in header.items() if n != "__metadata__"]
        whole = size == 8 + length + max(ends, default=0)
        json.loads((path / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
        yield Finding(CHECKPOINT, "damaged", f"{error}: the one before it is used")
        return
    said = f"{size:,} bytes" if whole else "its tensors are cut off: the one before it is used"
    yield Finding(CHECKPOINT, "ok" if whole else "damaged", said)


def _trace(folder: Path) -> Iterator[Finding]:
    if not (folder / TRACE).is_file():
        return
    try:
        trace = read_trace(folder)
    except GrowmasError as error:
        yield Finding(TRACE, "damaged", str(error))
        return
    short = trace.missing
    text = f"{len(trace.losses)} of {trace.steps} steps"
    yield Finding(TRACE, "damaged" if short else "ok", f"{text}; {short}" if short else text)


def _same_run(subject: str, found: str, folder: Path) -> Iterator[Finding]:
    wanted = read_run_id(folder)
    if found and wanted and found != wanted:
        text = f"it belongs to the run {found}, the config to {wanted}"
        yield Finding(subject, "damaged", f"{text}: two runs are mixed")
