"""Targets: functions and classes of the user, named in a config as "module:name"."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from growmas.data.names import did_you_mean
from growmas.errors import ConfigError, GrowmasError


def find_target(target: str, folders: Sequence[str | Path] = ()) -> Any:
    """Import the object of a target.

    Args:
        target: "module:name", such as "mymodel:Net"; the module is a file mymodel.py in one of the
            folders, or any module that Python finds.
        folders: Where to look for modules first.

    Raises:
        ConfigError: It cannot be imported, or has no such name.
    """
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise ConfigError(
            f'expected "module:name" such as "mymodule:Name", got "{target}"', key=("target",)
        )
    with _found_in(folders):
        module = _imported(module_name, folders)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = [each for each in vars(found) if not each.startswith("_")]
            raise ConfigError(
                f'module {module_name} ({_file(module)}) has no "{part}"; '
                f"{did_you_mean(part, known)}",
                key=("target",),
            )
        found = getattr(found, part)
    return found


def call_target(
    target: str,
    args: Mapping[str, Any],
    *given: Any,
    folders: Sequence[str | Path] = (),
    **keywords: Any,
) -> Any:
    """Import the object of a target and call it.

    Args:
        target: "module:name".
        args: Keyword arguments from the config.
        *given: Positional arguments.
        folders: Where to look for modules first.
        **keywords: Keyword arguments besides those of the config.

    Raises:
        ConfigError: It cannot be imported, is not callable, or raises.
    """
    found = find_target(target, folders)
    if not callable(found):
        raise ConfigError(
            f"{target} is a {type(found).__name__}: expected a function or a class", key=("target",)
        )
    _check_arguments(found, target, given, {**keywords, **args})
    try:
        with _found_in(folders):
            return found(*given, **{**keywords, **args})
    except GrowmasError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{target} raised {raised(error)}", key=("target",)) from error


def _check_arguments(
    found: Any, target: str, given: tuple[Any, ...], args: Mapping[str, Any]
) -> None:
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return  # a function of C does not tell; the call will
    try:
        signature.bind(*given, **args)
    except TypeError as error:
        raise ConfigError(
            f"{target} cannot be called with args {sorted(args)}: {error}; it takes {signature}",
            key=("args",),
        ) from error


def target_hash(target: str) -> str:
    """Return the SHA-256 of the file that a target was imported from; "" where it has none."""
    module = sys.modules.get(target.partition(":")[0])
    path = getattr(module, "__file__", None)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""


def passes_target(error: BaseException, target: str) -> bool:
    """Return True if an error came from the module of a target, or from what it called."""
    path = getattr(sys.modules.get(target.partition(":")[0]), "__file__", None)
    return any(frame.filename == path for frame in traceback.extract_tb(error.__traceback__))


def raised(error: BaseException) -> str:
    """Return the type and text of an error, and the line of the user's file that raised it."""
    frames = [
        each for each in traceback.extract_tb(error.__traceback__) if each.filename[:1] != "<"
    ]
    own = [each for each in frames if not each.filename.startswith(_INSTALLED)]
    place = f" in {[*frames, *own][-1].filename}:{[*frames, *own][-1].lineno}" if frames else ""
    if isinstance(error, SyntaxError) and error.filename:
        place = f" in {error.filename}:{error.lineno}"
        error = type(error)(error.msg)
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}{place}"


_INSTALLED = (
    *{f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "purelib", "platlib")},
    f"{Path(__file__).parent.parent}{os.sep}",  # not growmas-mine beside it
)
"""Folders of files that are not the user's."""


def _imported(name: str, folders: Sequence[str | Path]) -> Any:
    old = sys.modules.get(name)
    mine = _own_file(name, folders)
    if old is not None and mine is not None:
        path = getattr(old, "__file__", None)
        if path is None or Path(path).resolve() != mine.resolve():
            return _fresh(name, mine)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise ConfigError(
                f"module {name} needs {error.name}, which is not installed", key=("target",)
            ) from error
        looked = ", ".join(map(str, folders)) or "the modules of Python"
        raise ConfigError(
            f"there is no module {name!r} in {looked}: put {name}.py next to the config, or add "
            "its folder to imports (or give --import FOLDER)",
            key=("target",),
        ) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"module {name} cannot be imported: {raised(error)}", key=("target",)
        ) from error


def _own_file(name: str, folders: Sequence[str | Path]) -> Path | None:
    for folder in folders:
        path = Path(folder) / f"{name.replace('.', '/')}.py"
        if path.is_file():
            return path
    return None


def _fresh(name: str, path: Path) -> Any:
    """Import a file whose name another module in memory has, such as one of another folder."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} cannot be imported: it is not a Python file", key=("target",))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ConfigError(
            f"module {name} cannot be imported: {raised(error)}", key=("target",)
        ) from error
    return module


def _file(module: Any) -> str:
    return getattr(module, "__file__", None) or "built in"


@contextmanager
def _found_in(folders: Sequence[str | Path]) -> Iterator[None]:
    """Let Python find modules in folders first, while the block runs."""
    before = list(sys.path)
    sys.path[:0] = [str(folder) for folder in folders]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before
