"""Descriptions of failures in a user's code: what failed, in which layer, in which file and line.

A traceback leads through growmas and torch. The user's own line is the deepest frame outside them:

    RuntimeError: shape '[3, 7]' is invalid for input of size 8, net.py, line 12, in forward
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from traceback import walk_tb
from types import CodeType, FrameType
from typing import Any

_NOT_THE_USERS = frozenset({"growmas", "torch", "torch_pruning", "contextlib", "importlib"})
"""Packages whose frames are not those of the user."""


def failure(error: BaseException, names: Mapping[Any, str] | None = None) -> str:
    """Return type, message and place of an exception, in one line.

    Args:
        error: The exception, as it was caught.
        names: Module -> qualified name, to name the layer in which it was raised.
    """
    message = next(iter(str(error).strip().splitlines()), "")
    parts = [f"{type(error).__name__}: {message}" if message else type(error).__name__]
    layer = next((each for each in _layers(error, names or {}) if each), "")
    if layer:
        parts.append(f"in layer {layer!r}")
    code = next(_users_lines(error), "")
    if code:
        parts.append(code)
    return ", ".join(parts)


def _users_lines(error: BaseException) -> Iterator[str]:
    """Yield the user's lines that an exception came through, the deepest first."""
    for frame, line in reversed(list(walk_tb(error.__traceback__))):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in _NOT_THE_USERS:
            yield f"{_file(frame.f_code)}, line {line}, in {frame.f_code.co_name}"


def _layers(error: BaseException, names: Mapping[Any, str]) -> Iterator[str]:
    """Yield the names of the modules that ran when an exception was raised, the deepest first."""
    frames: list[FrameType] = [frame for frame, _ in walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        owner = frame.f_locals.get("self")
        for module, name in names.items():
            if module is owner:
                yield name


def _file(code: CodeType) -> str:
    """Return the file of some code, relative to the working directory if it lies there."""
    path = Path(code.co_filename)
    if not path.is_absolute():
        return code.co_filename
    here = Path(os.curdir).absolute()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
