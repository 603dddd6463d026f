"""Files of topology histories: made and opened; `growmas.history.tables` documents the tables."""

import sqlite3
from pathlib import Path

from growmas.errors import HistoryError
from growmas.history.tables import ALL, APPLICATION_ID, VERSION

BUSY_TIMEOUT = 30.0
"""Seconds for which a writer waits while another process holds the file."""

_APPLICATION_ID_AT = 68  # its byte offset in an SQLite file, so that no connection is needed


def create(
    path: Path, *, overwrite: bool = False, timeout: float = BUSY_TIMEOUT
) -> sqlite3.Connection:
    """Create a new, empty history and open it for writing.

    Raises:
        HistoryError: If `path` exists and `overwrite` is False, if it exists and is not a history,
            or if nothing can be written there.
    """
    _check_timeout(timeout)
    if path.exists():
        if not overwrite:
            raise HistoryError(
                f"{path} exists: pass overwrite=True to replace it, continue it with "
                "TopologyTracker.resume(structure, path), or choose another path"
            )
        _delete(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _create(path, timeout)
    except (OSError, sqlite3.Error) as error:
        raise HistoryError(
            f"no history can be written at {path} ({error}): choose a path in a folder you can "
            "write, on a disk with free space"
        ) from error


def _check_timeout(timeout: float) -> None:
    if not isinstance(timeout, int | float) or not 0 <= timeout < float("inf"):
        raise HistoryError(f"timeout: expected seconds, 0 or more, got {timeout!r:.80}")


def _create(path: Path, timeout: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=timeout)
    # The header is written before WAL mode begins, so that the file is a history from then on.
    connection.executescript(
        f"PRAGMA application_id = {APPLICATION_ID}; BEGIN; {ALL}"
        f"PRAGMA user_version = {VERSION}; COMMIT;"
    )
    return _ready_to_write(connection)


def open_to_write(path: Path, *, timeout: float = BUSY_TIMEOUT) -> sqlite3.Connection:
    """Open an existing history for writing.

    Raises:
        HistoryError: If `path` is not a history, has tables of another version, or cannot be
            written.
    """
    _check_timeout(timeout)
    connection = _open(path, mode="rw", timeout=timeout)
    try:
        _ready_to_write(connection)
    except sqlite3.Error as error:
        connection.close()
        raise HistoryError(
            f"{path} cannot be written ({error}): copy it to a folder you can write"
        ) from error
    return connection


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open an existing history for reading only, also while a tracker writes it.

    Raises:
        HistoryError: If `path` is not a history, or has tables of another version.
    """
    return _open(path, mode="ro")


def _open(path: Path, *, mode: str, timeout: float = BUSY_TIMEOUT) -> sqlite3.Connection:
    if not path.is_file():
        raise HistoryError(
            f"no topology history at {path}: give the file that a TopologyTracker wrote"
        )
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=timeout
    )
    try:
        _check_header(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_header(connection: sqlite3.Connection, path: Path) -> None:
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.OperationalError as error:
        raise HistoryError(
            f"{path} cannot be opened ({error}): SQLite needs to write next to a file that is "
            "in use or was not closed; copy it, with its -wal file, to a folder you can write"
        ) from error
    except sqlite3.DatabaseError as error:
        raise HistoryError(f"{path} is not a topology history: {error}") from error
    if application != APPLICATION_ID:
        raise HistoryError(
            f"{path} is not a topology history: give the file that a TopologyTracker wrote"
        )
    if version != VERSION:
        remedy = "upgrade growmas" if version > VERSION else "run the experiment again"
        raise HistoryError(
            f"{path} has schema version {version} and this growmas reads version {VERSION}: "
            f"{remedy}"
        )


def _ready_to_write(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _delete(path: Path) -> None:
    if not path.is_file() or not _is_marked(path):
        raise HistoryError(f"{path} is not a topology history and is not replaced: move it away")
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _is_marked(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(_APPLICATION_ID_AT)
        return file.read(4) == APPLICATION_ID.to_bytes(4, "big")
