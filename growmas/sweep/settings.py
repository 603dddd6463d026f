"""Settings of a sweep itself, which its config, overrides and options give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike

from growmas.config import Experiment
from growmas.config.bundled import find_config
from growmas.config.document import read_document
from growmas.config.overrides import as_texts
from growmas.errors import ConfigError
from growmas.paths import as_path

_OWN = ("sweep", "tune")
"""Top-level keys that concern a sweep and not its runs."""


@dataclass(frozen=True)
class SweepSettings:
    """Overrides of a sweep, those of its runs apart from its own.

    Attributes:
        axes: Overrides of the runs, as given.
        own: Overrides of the sweep's own keys.
        names: Own override -> the option that gave it, for messages.
    """

    axes: tuple[str, ...]
    own: tuple[str, ...]
    names: Mapping[str, str]

    @classmethod
    def read(
        cls,
        config: str | PathLike[str],
        overrides: Sequence[str],
        engine: str | None = None,
        options: Sequence[str] = (),
    ) -> "SweepSettings":
        """Return the settings; `engine` replaces an engine of another kind in the config.

        Raises:
            ConfigError: The config cannot be read.
        """
        overrides = as_texts(overrides)
        options = as_texts(options, "engine options, each key=value")
        axes = [each for each in overrides if not _is_own(each)]
        own = [each for each in overrides if _is_own(each)]
        names = {}
        if engine is not None and engine != _kind(config):
            given = f"sweep.engine={{kind: {engine}}}"
            own.append(given)
            names[given] = f"--engine {engine}"
        elif engine is None and options and _kind(config) is None:
            given = "sweep.engine={kind: local}"
            own.append(given)
            names[given] = "--engine"
        for option in options:
            own.append(f"sweep.engine.{option}")
            names[own[-1]] = f"--engine-option {option}"
        return cls(tuple(axes), tuple(own), names)

    def tunes(self, config: str | PathLike[str]) -> bool:
        """Return True if a config, or an override, has a mapping `tune`.

        Raises:
            ConfigError: The config cannot be read.
        """
        file = find_config(as_path(config, ConfigError, "a config"))
        document = read_document(file, self.own)
        return document.values.get("tune") is not None

    def as_given(self, mistakes: str) -> str:
        """Return the mistakes of a config, with options as they were given."""
        for override, option in self.names.items():
            mistakes = mistakes.replace(f"override {override}:", f"{option}:")
        return mistakes


def without_sweep(experiment: Experiment) -> Experiment:
    """Return the experiment of one run, which knows nothing of the sweep."""
    return experiment.model_copy(update=dict.fromkeys(_OWN))


def _is_own(override: str) -> bool:
    return override.strip().partition("=")[0].partition(".")[0].strip() in _OWN


def _kind(config: str | PathLike[str]) -> str | None:
    """Return the kind of engine that a config asks for; None if it asks for none."""
    file = find_config(as_path(config, ConfigError, "a config"))
    value: object = read_document(file).values
    for key in ("sweep", "engine", "kind"):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else None
