"""Experiments read from a config file, and written to one."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from growmas.config.bundled import find_config
from growmas.config.document import Mistake, read_document
from growmas.config.experiment import Experiment, conflicts
from growmas.config.formatting import KeyPath, dotted, show
from growmas.config.mistakes import explain
from growmas.config.origins import Origins
from growmas.config.overrides import as_texts
from growmas.config.paths import resolve
from growmas.config.yaml_loader import Dumper
from growmas.errors import ConfigError
from growmas.paths import as_path

_MACHINE = {"device", "threads", "checkpoint", "imports", "log", "sweep", "tune"}  # not the numbers
_OF_SWEEPS = ("sweep", "tune")  # not written where they are not given
_DIGITS = 16  # of a digest: 64 bits


def load_config(
    path: str | PathLike[str],
    overrides: Sequence[str] = (),
    *,
    imports: Sequence[str | PathLike[str]] = (),
) -> Experiment:
    """Read and check an experiment.

    Args:
        path: of the YAML file, or the name of a bundled config.
        overrides: changes to it, each ``key.sub=value`` with the value in YAML, such as
            ``training.epochs=2`` or ``model.hidden=[64, 64]``.
        imports: folders in which modules of targets are found first.

    Raises:
        ConfigError: if the file cannot be read, or with every mistake in it, a line each:
            ``file:line: key: what was expected, what came``.
    """
    file = find_config(as_path(path, ConfigError, "a config"))
    document = read_document(file, as_texts(overrides))
    resolve(document.values, file.parent, _folders(imports))
    mistakes = list(document.mistakes)
    try:
        experiment = Experiment.model_validate(document.values)
    except ValidationError as error:
        found = _once(explain(error), conflicts(document.values))
        mistakes += [Mistake(document.origin(at), at, text) for at, text in found]
    if mistakes:
        mistakes.sort(key=lambda mistake: (mistake.origin, str(mistake)))
        raise ConfigError("\n".join(map(str, mistakes)))
    return experiment.read_from(Origins(document.origins))


def _folders(given: object) -> list[Path]:
    if isinstance(given, str | bytes | PathLike) or not isinstance(given, Iterable):
        raise ConfigError(f"imports: expected a list of folders, got {show(given)}")
    return [as_path(each, ConfigError, "a folder of modules") for each in given]


def _once(
    wrong: list[tuple[KeyPath, str]], conflicting: list[tuple[KeyPath, str]]
) -> list[tuple[KeyPath, str]]:
    """Return all mistakes, without conflicts of values that are wrong by themselves."""
    paths = {path for path, _ in wrong}
    return wrong + [
        (path, text)
        for path, text in conflicting
        if not any(path[:end] in paths for end in range(1, len(path) + 1))
    ]


def dump_config(experiment: Experiment) -> str:
    """Return the experiment as YAML, defaults included; it loads as an equal experiment."""
    absent = {key for key in _OF_SWEEPS if getattr(experiment, key) is None}
    values = _kind_first(experiment.model_dump(mode="json", exclude=absent))
    return yaml.dump(values, Dumper=Dumper, sort_keys=False, default_flow_style=None, width=100)


def _kind_first(value: Any) -> Any:
    """Return mappings with the keys that say what they are in front."""
    if not isinstance(value, dict):
        return [_kind_first(each) for each in value] if isinstance(value, list) else value
    first = [
        key for key in ("kind", "target", "path", "source") if key in value and "kind" in value
    ]
    return {key: _kind_first(value[key]) for key in dict.fromkeys([*first, *value])}


def differing_keys(one: Experiment, other: Experiment) -> list[str]:
    """Return the top-level keys in which two experiments differ, device and threads left out."""
    keys = sorted(set(Experiment.model_fields) - _MACHINE)
    return [key for key in keys if getattr(one, key) != getattr(other, key)]


def differences(there: Experiment, here: Experiment) -> list[str]:
    """Return the differences of two experiments, key by key, device and threads left out."""
    sides = [_leaves(each.model_dump(mode="json", exclude=_MACHINE), ()) for each in (there, here)]
    keys = [*sides[0], *(key for key in sides[1] if key not in sides[0])]
    first, second = (
        {key: show(side[key]) if key in side else "absent" for key in keys} for side in sides
    )
    return [
        f"{key} is {first[key]} there and {second[key]} here"
        for key in keys
        if first[key] != second[key]
    ]


def config_digest(experiment: Experiment) -> str:
    """Return the identity of an experiment: a hash of all values that its numbers depend on.

    Defaults count as values that are written; device and threads are left out.
    """
    values = experiment.model_dump(mode="json", exclude=_MACHINE)
    text = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def config_leaves(path: str | PathLike[str]) -> dict[str, object]:
    """Return the values of a config in dotted keys, unchecked; device and threads left out.

    Raises:
        ConfigError: The file cannot be read or does not hold a mapping.
    """
    values = read_document(as_path(path, ConfigError, "a config")).values
    return _leaves({key: value for key, value in values.items() if key not in _MACHINE}, ())


def _leaves(values: object, path: KeyPath) -> dict[str, object]:
    if not isinstance(values, dict):
        return {dotted(path): values}
    found: dict[str, object] = {}
    for key, value in values.items():
        found |= _leaves(value, (*path, key))
    return found
