"""Bundled configs: those that come with growmas, and what their headers say."""

import re
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from growmas.data.names import did_you_mean
from growmas.errors import ConfigError

# A wheel has them inside the package, a checkout or an editable install at its top level.
_PLACES = (Path(__file__).parent / "files", Path(__file__).parents[2] / "configs")


@dataclass(frozen=True)
class BundledConfig:
    """One config that comes with growmas.

    Attributes:
        name: As `growmas run` and `load_config` take it.
        path: Of the file.
        shows: Its purpose, from its header.
        run_time: Its run time, from its header.
    """

    name: str
    path: Path
    shows: str
    run_time: str


def bundled_configs() -> tuple[BundledConfig, ...]:
    """Return all bundled configs, sorted by name."""
    return tuple(_read(path) for path in _paths().values())


def bundled_config(name: str) -> BundledConfig:
    """Return the bundled config of a name, with or without `.yaml`.

    Raises:
        ConfigError: It does not exist; names the nearest.
    """
    if not isinstance(name, str):
        raise ConfigError(f"expected the name of a bundled config, got {type(name).__name__}")
    known = {config.name: config for config in bundled_configs()}
    plain = name.removesuffix(".yaml")
    if plain not in known:
        raise ConfigError(f'there is no bundled config "{name}"; {did_you_mean(plain, known)}')
    return known[plain]


def find_config(path: Path) -> Path:
    """Return the file at a path, or the bundled config of that name.

    A path that is neither is returned as it is: reading it raises the error.
    """
    if path.exists() and not path.is_dir():
        return path
    return _paths().get(str(path), path)


def bundled_names() -> list[str]:
    """Return the names of all bundled configs."""
    return list(_paths())


def _paths() -> dict[str, Path]:
    place = next((place for place in _PLACES if place.is_dir()), None)
    return {path.stem: path for path in sorted(place.glob("*.yaml"))} if place else {}


def _read(path: Path) -> BundledConfig:
    fields: dict[str, list[str]] = {}
    field = ""
    for line in takewhile(_is_comment, path.read_text(encoding="utf-8").splitlines()):
        named = re.match(r"# ([A-Z][A-Za-z ]*):\s+(.*)", line)
        if named:
            field = named[1]
            fields[field] = [named[2]]
        elif field and line.startswith("#  "):
            fields[field].append(line.removeprefix("#").strip())
    shows, run_time = (" ".join(fields.get(name, [])) for name in ("Shows", "Run time"))
    return BundledConfig(path.stem, path, shows, run_time)


def _is_comment(line: str) -> bool:
    return line.startswith("#")
