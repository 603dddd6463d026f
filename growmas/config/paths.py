"""Paths in a config: relative ones are below the folder of its file."""

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

_FILES = {"csv", "parquet", "folder"}
"""Kinds of sources whose `test` may be a path."""


def resolve(
    values: dict[str, Any], folder: Path, imports: Sequence[str | PathLike[str]] = ()
) -> None:
    """Make the paths of a config absolute, in place, and complete the folders of its modules.

    Args:
        values: Of a config, before they are checked.
        folder: Of the file.
        imports: Further folders of modules, which come first.
    """
    folder = folder.resolve()
    for source in _sources(values.get("stream")):
        keys = ["path", "test"] if source.get("kind") in _FILES else ["path"]
        for key in keys:
            _make_absolute(source, key, folder)
    model = values.get("model")
    if isinstance(model, dict):
        _make_absolute(model, "weights", folder)
    log = values.get("log")
    for each in log if isinstance(log, list) else ():
        if isinstance(each, dict):
            _make_absolute(each, "folder", folder)
    given = values.get("imports")
    if isinstance(given, list) and all(isinstance(each, str) for each in given):
        given = [_absolute(each, folder) for each in given]
        values["imports"] = given
    if imports or _has_target(values):
        first = [str(Path(each).resolve()) for each in imports]
        rest = given if isinstance(given, list) else []
        if given is None or isinstance(given, list):
            values["imports"] = list(dict.fromkeys([*first, *rest, str(folder)]))


def _make_absolute(mapping: dict[str, Any], key: str, folder: Path) -> None:
    value = mapping.get(key)
    if isinstance(value, str) and value:
        mapping[key] = _absolute(value, folder)


def _absolute(path: str, folder: Path) -> str:
    """Return a path below the config's folder, or below the working directory if only it exists."""
    below = folder / Path(path).expanduser()
    here = Path(path).expanduser().absolute()
    return str(here if here.exists() and not below.exists() else below)


def _sources(stream: object) -> Iterator[dict[str, Any]]:
    if not isinstance(stream, dict):
        return
    several = stream.get("sources")
    for source in [stream.get("source"), *(several if isinstance(several, list) else [])]:
        if isinstance(source, dict):
            yield source


def _has_target(values: dict[str, Any]) -> bool:
    training = values.get("training")
    transforms = training.get("transforms") if isinstance(training, dict) else None
    parts = [values.get("model"), values.get("method"), *_sources(values.get("stream"))]
    log = values.get("log")
    for each in (transforms, log):
        parts += each if isinstance(each, list) else []
    return any(isinstance(part, dict) and part.get("kind") == "python" for part in parts)
