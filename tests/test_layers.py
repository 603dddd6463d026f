"""Arrows between modules point downward only, and what reads histories never meets torch."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import growmas

ROOT = Path(growmas.__file__).parent

LAYERS = (
    {"closeable", "errors", "moments", "preserving", "suggestion"},
    {"batches", "metrics"},
    {"atomic_write", "importance"},
    {"structure", "data"},
    {"penalty", "contexts", "history", "config"},
    {"manager", "shift", "models"},
    {"integrations", "checkpoint"},
    {"training"},
    {"run"},
    {"terminal"},
    {"report", "browser", "sweep"},
    {"cli"},
)
"""The lowest first. A part imports those of lower layers only; type checkers may see more."""

ALONE = {"importance", "penalty", "structure", "history", "shift"}
WITHOUT_TORCH = {
    *("history", "terminal", "report", "browser", "sweep"),
    *("shift", "metrics", "errors", "config"),
}

LIVE = {"growmas.history.observed"}
"""Modules of those parts that look at live networks; they are imported when one is given."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): ast.parse(path.read_text("utf-8")) for path in ROOT.rglob("*.py")}
PARTS = sorted({name.split(".")[1] for name in MODULES if "." in name})


def imports(tree: ast.AST, *, types: bool, late: bool) -> Iterator[str]:
    """Names of modules that are imported, and of what is imported from them.

    Args:
        tree: Where.
        types: Also what only the type checker imports.
        late: Also what functions import.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports say the whole name"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            if types:
                yield from imports(node, types=types, late=late)
        elif late or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports(node, types=types, late=late)


def parts_used(part: str, *, types: bool) -> set[str]:
    """The parts of growmas that one of them imports, at any time."""
    used = set()
    for name, tree in MODULES.items():
        if name.split(".")[1:2] == [part]:
            for found in imports(tree, types=types, late=True):
                if found.startswith("growmas."):
                    used.add(found.split(".")[1])
    return (used - {part}) & set(PARTS)


def test_every_part_has_a_layer():
    named = [part for layer in LAYERS for part in layer]
    assert sorted(named) == PARTS


@pytest.mark.parametrize("part", PARTS)
def test_nothing_imports_upward(part):
    height = {name: row for row, layer in enumerate(LAYERS) for name in layer}
    upward = {other for other in parts_used(part, types=False) if height[other] >= height[part]}
    assert not upward


@pytest.mark.parametrize("part", sorted(ALONE))
def test_the_nouns_stand_alone(part):
    assert not parts_used(part, types=True) & {"training", "config", "cli", "run"}


@pytest.mark.parametrize("part", sorted(WITHOUT_TORCH))
def test_torch_is_not_loaded_by_what_reads_histories_and_losses(part):
    reached: dict[str, str] = {}  # module -> which one imports it
    waiting = [n for n in MODULES if n.split(".")[1:2] == [part] and n not in LIVE]
    while waiting:
        name = waiting.pop()
        for found in imports(MODULES[name], types=False, late=False):
            names = found.split(".")
            for parent in (".".join(names[:n]) for n in range(1, len(names) + 1)):
                if parent not in reached:
                    reached[parent] = name
                    waiting += [parent] if parent in MODULES else []
    assert "growmas.errors" in reached or part == "errors"
    assert "torch" not in reached, f"{reached['torch']} imports torch"
