"""Hashes of the code that a run depends on: this package, and the modules of the user."""

import ast
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from growmas.config import Experiment

_PACKAGE = "growmas"
_DIGITS = 16
MISSING = "missing"
"""Hash of a module that this machine does not have."""


def code_hashes(experiment: Experiment) -> dict[str, str]:
    """Return name -> hash of the package and of each module that a config names as a target.

    A module of the user counts with the modules that it imports from the folders of `imports`.
    What is installed as a package does not count. Nothing is imported.
    """
    folders = [Path(folder) for folder in experiment.imports]
    names = {target.partition(":")[0] for target in _targets(experiment.model_dump(mode="json"))}
    hashes = {name: _module_hash(name, folders) for name in sorted(names)}
    return {_PACKAGE: _package_hash(), **{name: found for name, found in hashes.items() if found}}


def differing_package(theirs: Mapping[str, str]) -> list[str]:
    """Return how this package differs from that of another machine, in a list of at most one."""
    return _differing(theirs, {_PACKAGE: _package_hash()}, [_PACKAGE])


def differing_code(theirs: Mapping[str, str], experiment: Experiment) -> list[str]:
    """Return what differs between the code of another machine and that of this one, name by name.

    Args:
        theirs: Of `code_hashes`, on the other machine.
        experiment: That is run.
    """
    ours = code_hashes(experiment)
    return _differing(theirs, ours, [*theirs, *ours])


def _differing(
    theirs: Mapping[str, str], ours: Mapping[str, str], names: Iterable[str]
) -> list[str]:
    return [
        f"{name} ({theirs.get(name, MISSING)} there, {ours.get(name, MISSING)} here)"
        for name in dict.fromkeys(names)
        if theirs.get(name, MISSING) != ours.get(name, MISSING)
    ]


@cache
def _package_hash() -> str:
    root = Path(__file__).parents[1]
    return _digest(_files(root, sorted(root.rglob("*.py"))))


def _module_hash(name: str, folders: list[Path]) -> str:
    """Return the hash of a module in a folder, with what it imports from there; "" if not there."""
    found: dict[str, Path] = {}
    waiting = [name]
    while waiting:
        module = waiting.pop()
        path = _file(module, folders)
        if path is not None and module not in found:
            found[module] = path
            waiting += sorted(_imported(path))
    return _digest(part for module in sorted(found) for part in _part(module, found[module]))


def _file(module: str, folders: list[Path]) -> Path | None:
    below = module.replace(".", "/")
    places = (folder / f"{below}{end}" for folder in folders for end in (".py", "/__init__.py"))
    return next((place for place in places if place.is_file()), None)


def _imported(path: Path) -> Iterator[str]:
    """Yield the modules that a file may import; relative imports as if they were absolute."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield from [module] if module else []
            yield from (f"{module}.{alias.name}".strip(".") for alias in node.names)


def _part(module: str, path: Path) -> Iterator[bytes]:
    yield module.encode()
    yield path.read_bytes()


def _files(root: Path, paths: list[Path]) -> Iterator[bytes]:
    for path in paths:
        yield path.relative_to(root).as_posix().encode()
        yield path.read_bytes()


def _digest(parts: Iterator[bytes]) -> str:
    """Return the hash of some parts, in their order; "" for none."""
    total = hashlib.sha256()
    empty = True
    for part in parts:
        total.update(len(part).to_bytes(8, "big"))
        total.update(part)
        empty = False
    return "" if empty else total.hexdigest()[:_DIGITS]


def _targets(values: Any) -> Iterator[str]:
    """Yield every target of a config."""
    if isinstance(values, dict):
        for key, value in values.items():
            if key == "target" and isinstance(value, str):
                yield value
            else:
                yield from _targets(value)
    elif isinstance(values, list):
        for value in values:
            yield from _targets(value)
