"""Config documents: their values, and the line of each value."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import yaml

from growmas.config.bundled import bundled_names
from growmas.config.formatting import KeyPath, dotted, show
from growmas.config.origins import Origin
from growmas.config.yaml_loader import Loader, fault
from growmas.errors import ConfigError
from growmas.paths import unlike_a_file
from growmas.suggestion import closest


class Mistake(NamedTuple):
    """Mistake in a config: its place, its key, and the remedy."""

    origin: Origin
    path: KeyPath
    text: str

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.origin.label, dotted(self.path), self.text)))


@dataclass(frozen=True)
class Document:
    """Mapping with the origin of every value, and the mistakes in its syntax."""

    values: dict[str, object]
    origins: dict[KeyPath, Origin]
    mistakes: list[Mistake]

    def origin(self, path: KeyPath) -> Origin:
        """Return the origin of the value at ``path``, or of the mapping that lacks it."""
        while path not in self.origins:
            path = path[:-1]
        return self.origins[path]


def read_document(path: Path, overrides: Sequence[str] = ()) -> Document:
    """Read a file and apply overrides to it.

    Args:
        path: of a YAML file in UTF-8 that holds one mapping.
        overrides: each ``key.sub=value`` with the value in YAML. They win over the file, and
            later ones over earlier ones.

    Raises:
        ConfigError: if the file cannot be read or does not hold a mapping. Duplicate keys, and
            overrides that cannot be applied, are returned as mistakes, to be reported together.
    """
    text = _text(path)
    document = Document({}, {}, [])
    try:
        values = _parse(text, (), document, lambda line: Origin(line, f"{path}:{line}"))
    except yaml.YAMLError as error:
        line, problem = fault(error, text)
        raise ConfigError(f"{path}:{line}: not valid YAML: {problem}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: the values are nested too deeply") from error
    if values is None:
        raise ConfigError(f"{path}: the file is empty: start from one of the bundled configs")
    if not isinstance(values, dict):
        label = document.origin(()).label
        raise ConfigError(f"{label}: expected a mapping of keys, got {show(values)}")
    document.values.update(values)
    for override in overrides:
        _apply_override(document, override)
    return document


def _text(path: Path) -> str:
    if strange := unlike_a_file(path):
        raise ConfigError(f"{path}: cannot be read: {strange}: save the config as a file first")
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        known = [*map(str, path.parent.glob("*.y*ml")), *bundled_names()]
        near = closest(str(path), known)
        hint = f'; did you mean "{near}"?' if near else ""
        raise ConfigError(f"{path}: there is no such file{hint}") from error
    except IsADirectoryError as error:
        inside = [
            each for each in (path / "config.yaml", *sorted(path.glob("*.y*ml"))) if each.is_file()
        ]
        hint = f"; the config in it is {inside[0]}" if inside else ""
        raise ConfigError(f"{path}: cannot be read: Is a directory{hint}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: expected text in UTF-8, got byte 0x{error.object[error.start]:02x} "
            f"at position {error.start}: save the file as UTF-8"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def _parse(
    text: str, path: KeyPath, document: Document, origin_at: Callable[[int], Origin]
) -> object:
    """Return the value written in ``text``, which replaces the one at ``path``."""
    loader = Loader(text)
    node = loader.get_single_node()
    for replaced in [known for known in document.origins if known[: len(path)] == path]:
        del document.origins[replaced]
    document.origins[path] = origin_at(node.start_mark.line + 1 if node else 1)
    return _Walk(loader, document, origin_at).value(node, path) if node else None


def _apply_override(document: Document, override: str) -> None:
    """Set the value that ``key.sub=value`` names, or note a mistake."""
    origin = Origin(math.inf, f"override {override}")
    keys, equals, text = override.partition("=")
    path = tuple(keys.strip().split("."))
    if not equals or not all(path):
        document.mistakes.append(Mistake(origin, (), "expected key=value or key.sub=value"))
        return
    parent = _mapping_at(document, path[:-1], origin)
    if parent is None:
        return
    try:
        parent[path[-1]] = _parse(text, path, document, lambda line: origin)
    except yaml.YAMLError as error:
        problem = f"not valid YAML: {fault(error, text)[1]}"
        document.mistakes.append(Mistake(origin, (), problem))
    except RecursionError:
        document.mistakes.append(Mistake(origin, (), "the values are nested too deeply"))


def _mapping_at(
    document: Document, path: tuple[str, ...], origin: Origin
) -> dict[str, object] | None:
    """Return the mapping at ``path``, made if absent; None, and a mistake, if it is not one."""
    values = document.values
    for depth, key in enumerate(path, start=1):
        if values.get(key) is None:
            values[key] = {}
            document.origins[path[:depth]] = origin
        below = values[key]
        if not isinstance(below, dict):
            text = f"expected a mapping, got {show(below)}: set it as a whole"
            document.mistakes.append(Mistake(origin, path[:depth], text))
            return None
        values = below
    return values


@dataclass(frozen=True)
class _Walk:
    """Pass over the nodes of a text that turns them into values and notes their lines."""

    loader: Loader
    document: Document
    origin_at: Callable[[int], Origin]

    def value(self, node: yaml.Node, path: KeyPath) -> object:
        self.document.origins.setdefault(path, self._origin(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        try:
            return self.loader.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            problem = f"{show(node.value)} does not fit its tag {node.tag}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, object]:
        values: dict[str, object] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._note(key_node, path, "expected text as a key, got a collection")
                continue
            key = str(key_node.value)
            here = (*path, key)
            if key in values:
                first = self.document.origins[here].label
                self._note(key_node, here, f"the key is given twice, first at {first}")
                continue
            self.document.origins[here] = self._origin(key_node)
            values[key] = self.value(value_node, here)
        return values

    def _note(self, node: yaml.Node, path: KeyPath, text: str) -> None:
        self.document.mistakes.append(Mistake(self._origin(node), path, text))

    def _origin(self, node: yaml.Node) -> Origin:
        return self.origin_at(node.start_mark.line + 1)
