"""Record of a sweep: `sweep.json`, to which several sweeps of one folder add their runs.

A run that an earlier sweep of the folder has begun stays in the record. Its setting is completed:
keys that only other runs vary are given the values that its config has.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from growmas.atomic_write import atomic_write
from growmas.config.document import read_document
from growmas.config.formatting import show
from growmas.config.yaml_loader import Loader
from growmas.errors import ConfigError, RunError
from growmas.runs.directory import CONFIG
from growmas.runs.finding import SWEEP
from growmas.sweep.lock import record_lock
from growmas.sweep.summary import SweepRun, as_data, read_runs, summarise


class SweepRecord:
    """The record of a folder, as one sweep writes it.

    Args:
        folder: Of the sweep.
        names: Of the runs that this sweep runs; it leaves what others say of theirs.
    """

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._folder = folder
        self._mine = frozenset(names)
        self._values: dict[str, Mapping[str, object]] = {}

    def write(self, runs: Sequence[SweepRun]) -> tuple[SweepRun, ...]:
        """Write the runs of a sweep, and return them with what other sweeps have recorded.

        Args:
            runs: All of the sweep, in their order. They come first in the record.
        """
        with record_lock(self._folder):
            before = recorded_runs(self._folder)
            merged = [
                run if run.name in self._mine else _told(run, before.get(run.name)) for run in runs
            ]
            planned = {run.name for run in runs}
            others = [
                run for run in before.values() if run.name not in planned and self._begun(run)
            ]
            data = as_data(summarise(self._completed([*merged, *others])))
            with atomic_write(self._folder / SWEEP) as fresh:
                fresh.write_text(json.dumps(data, indent=1), encoding="utf-8")
        return tuple(merged)

    def _begun(self, run: SweepRun) -> bool:
        return (self._folder / run.name / CONFIG).is_file()

    def _completed(self, runs: Sequence[SweepRun]) -> list[SweepRun]:
        """Return the runs, all with the same keys where their configs have them."""
        texts: dict[str, dict[str, None]] = {}  # key -> how its values were written
        for run in runs:
            for key, text in run.setting.items():
                texts.setdefault(key, {})[text] = None
        return [
            replace(run, setting=self._setting(run, texts))
            if len(run.setting) < len(texts)
            else run
            for run in runs
        ]

    def _setting(self, run: SweepRun, texts: Mapping[str, Iterable[str]]) -> dict[str, str]:
        found = {
            key: run.setting.get(key) or self._value(run.name, key, known)
            for key, known in texts.items()
        }
        return {key: value for key, value in found.items() if value is not None}

    def _value(self, name: str, key: str, texts: Iterable[str]) -> str | None:
        """Return a value of a run's config, written as other runs have it; None if it has none."""
        if name not in self._values:
            try:
                self._values[name] = read_document(self._folder / name / CONFIG).values
            except ConfigError:  # it has not begun yet
                return None
        value: Any = self._values[name]
        for part in key.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return None
            value = value[part]
        alike = (text for text in texts if _read(text) == value)
        return next(alike, value if isinstance(value, str) else show(value))


def _read(text: str) -> object:
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError:
        return text


def recorded_runs(folder: Path) -> dict[str, SweepRun]:
    """Return name -> run of what a folder has recorded; nothing if it has no readable record."""
    try:
        return {run.name: run for run in read_runs(folder)}
    except RunError:
        return {}


def other_code(runs: Iterable[SweepRun]) -> list[str]:
    """Return a line for each module of which runs had several versions, which may matter."""
    found: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        for module, value in run.code.items():
            found.setdefault(module, {}).setdefault(value, []).append(run.name)
    return [
        f"{module} changed between these runs: "
        + ", ".join(
            f"{value} in {len(names)} (such as {names[0]})" for value, names in each.items()
        )
        + "; to compare them, remove the older ones and repeat the command"
        for module, each in found.items()
        if len(each) > 1
    ]


def _told(run: SweepRun, other: SweepRun | None) -> SweepRun:
    """Return a run of another shard with what that shard has recorded of it."""
    if other is None:
        return run
    return replace(run, message=other.message, code=other.code)
