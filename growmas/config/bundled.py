"""The configs that come with growmas, and what their headers say of them."""

import re
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from growmas.data.names import did_you_mean
from growmas.errors import ConfigError

# A wheel has them inside the package, a checkout or an editable install at its top.
_PLACES = (Path(__file__).parent / "files", Path(__file__).parents[2] / "configs")


@dataclass(frozen=True)
class BundledConfig:
    """One of them.

    Attributes:
        name: By which `growmas run` and `load_config` find it.
        path: Of the file.
        shows: What it shows, as its header says.
        run_time: How long it takes, likewise.
    """

    name: str
    path: Path
    shows: str
    run_time: str


def bundled_configs() -> tuple[BundledConfig, ...]:
    """All of them, by name."""
    return tuple(_read(path) for path in _paths().values())


def bundled_config(name: str) -> BundledConfig:
    """The one of this name, with or without its `.yaml`.

    Raises:
        ConfigError: If there is none, with the nearest name.
    """
    known = {config.name: config for config in bundled_configs()}
    plain = name.removesuffix(".yaml")
    if plain not in known:
        raise ConfigError(f'there is no bundled config "{name}"; {did_you_mean(plain, known)}')
    return known[plain]


def find_config(path: Path) -> Path:
    """The file at a path, or the bundled config of that name where there is none.

    A path that leads to neither is given back: reading it says what is wrong.
    """
    if path.exists() and not path.is_dir():
        return path
    return _paths().get(str(path), path)


def bundled_names() -> list[str]:
    """Their names alone."""
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
