"""Making and opening a topology history; `growmas.history.tables` describes what is in it."""

import sqlite3
from contextlib import closing
from pathlib import Path

from growmas.errors import HistoryError
from growmas.history.migration import migrate
from growmas.history.tables import ALL, APPLICATION_ID, VERSION

_APPLICATION_ID_AT = 68  # where an SQLite file keeps it, so that no connection is needed to look


def create(path: Path, *, overwrite: bool = False) -> sqlite3.Connection:
    """Make a new, empty history and open it for writing.

    Raises:
        HistoryError: If `path` exists and `overwrite` is False, it exists and is not a history, or
            nothing can be written there.
    """
    if path.exists():
        if not overwrite:
            raise HistoryError(
                f"{path} exists: pass overwrite=True to replace it, continue it with "
                "TopologyTracker.resume(structure, path), or choose another path"
            )
        _delete(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _create(path)
    except (OSError, sqlite3.Error) as error:
        raise HistoryError(
            f"no history can be written at {path} ({error}): choose a path in a folder you can "
            "write, on a disk with room"
        ) from error


def _create(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    # The header is set before WAL begins, so the file can be told for a history from then on.
    connection.executescript(
        f"PRAGMA application_id = {APPLICATION_ID}; BEGIN; {ALL}"
        f"PRAGMA user_version = {VERSION}; COMMIT;"
    )
    return _ready_to_write(connection)


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open an existing history for writing.

    A file of an earlier growmas gets the tables of this one.

    Raises:
        HistoryError: If `path` is not a history that this version of growmas can read.
    """
    connection = _open(path, mode="rw")
    try:
        _ready_to_write(connection)
    except sqlite3.Error as error:
        connection.close()
        raise HistoryError(f"{path} cannot be written ({error}): choose a copy you can") from error
    if _version(connection) < VERSION:
        try:
            migrate(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open an existing history for reading only, also while a tracker writes it.

    A file of an earlier growmas is read into memory and given the tables of this one there; the
    file stays as it is.

    Raises:
        HistoryError: If `path` is not a history that this version of growmas can read.
    """
    connection = _open(path, mode="ro")
    if _version(connection) == VERSION:
        return connection
    copy = sqlite3.connect(":memory:", isolation_level=None)
    try:
        with closing(connection):
            connection.backup(copy)
        migrate(copy, path)
        copy.execute("PRAGMA query_only = ON")
    except BaseException:
        copy.close()
        raise
    return copy


def _open(path: Path, *, mode: str) -> sqlite3.Connection:
    if not path.is_file():
        raise HistoryError(
            f"no topology history at {path}: give the file that a TopologyTracker wrote"
        )
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode={mode}", uri=True, isolation_level=None
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
        version = _version(connection)
    except sqlite3.OperationalError as error:
        raise HistoryError(
            f"{path} cannot be opened ({error}): SQLite needs to write beside a file that is "
            "in use or was not closed; copy it, with its -wal file, to a folder you can write"
        ) from error
    except sqlite3.DatabaseError as error:
        raise HistoryError(f"{path} is not a topology history: {error}") from error
    if application != APPLICATION_ID:
        raise HistoryError(
            f"{path} is not a topology history: give the file that a TopologyTracker wrote"
        )
    if version > VERSION:
        raise HistoryError(
            f"{path} has schema version {version} and this growmas reads up to {VERSION}: "
            "upgrade growmas"
        )


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _ready_to_write(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _delete(path: Path) -> None:
    if not path.is_file() or not _is_marked(path):
        raise HistoryError(f"{path} is not a topology history, so it is not replaced: move it away")
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _is_marked(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(_APPLICATION_ID_AT)
        return file.read(4) == APPLICATION_ID.to_bytes(4, "big")
