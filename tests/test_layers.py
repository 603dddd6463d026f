"""Imports point downward only, and reading a history never imports torch."""

import ast
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

import growmas

ROOT = Path(growmas.__file__).parent

LAYERS = (
    {
        "closeable",
        "errors",
        "explanation",
        "failures",
        "file_lock",
        "lazy",
        "moments",
        "preserving",
        "rollback",
        "rounding",
        "start_up",
        "visible",
        "suggestion",
    },
    {"batches", "checkpoint_files", "metrics", "paths", "settings"},
    {"atomic_write", "importance"},
    {"structure", "data"},
    {"penalty", "contexts", "history", "config"},
    {"plasticity"},
    {"manager", "shift", "models"},
    {"checkpoint", "runs", "distributed"},
    {"training", "report", "integrations"},
    {"loggers"},
    {"experiment"},
    {"sweep"},
    {"terminal"},
    {"browser"},
    {"cli"},
    {"__main__"},
)
"""The parts of growmas, lowest first. A part imports lower ones only, for type checkers too."""

ROOMS = (
    {"layers"},
    {"units"},
    {"analysis", "views", "followers"},
    {"reconstruction", "initialisation"},
    {"surgery"},
    {"inspection"},
    {"selection"},
    {"queries"},
    {"tasks"},
    {"structure"},
    {"gains"},
)
"""The rooms of growmas.structure, lowest first, and the modules above them."""

ALONE = {"importance", "penalty", "structure", "history", "shift"}
WITHOUT_TORCH = {
    *("history", "terminal", "report", "browser", "sweep", "runs"),
    *("shift", "metrics", "errors", "config"),
}

LIVE = {"growmas.history.external_model"}
"""Modules of those parts that look at live networks; they are imported when one is given."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): ast.parse(path.read_text("utf-8")) for path in ROOT.rglob("*.py")}
PARTS = sorted({name.split(".")[1] for name in MODULES if "." in name})


def imports(tree: ast.AST, *, at_start: bool) -> Iterator[str]:
    """Names of modules that are imported, and of what is imported from them.

    Args:
        tree: Where.
        at_start: Only imports that run when the module is loaded; not those for type checkers,
            nor those inside functions.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports say the whole name"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif at_start and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        elif not (at_start and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            yield from imports(node, at_start=at_start)


def inner_imports(name: str) -> set[str]:
    """The modules of growmas that one of them imports, at any time."""
    return {m for m in imports(MODULES[name], at_start=False) if m in MODULES} - {name}


def direct_imports(name: str) -> set[str]:
    """`inner_imports` without packages that are named only to reach one of their modules."""
    found: set[str] = set()
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.ImportFrom):
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= parts & {*MODULES} if parts <= {*MODULES} else {node.module, *parts}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return (found & {*MODULES}) - {name}


def parts_used(part: str) -> set[str]:
    """The parts of growmas that one of them imports, at any time."""
    inside = [name for name in MODULES if name.split(".")[1:2] == [part]]
    used = {m.split(".")[1] for name in inside for m in inner_imports(name) if "." in m}
    return used - {part}


def heights(layers: tuple[set[str], ...]) -> dict[str, int]:
    return {name: row for row, layer in enumerate(layers) for name in layer}


def test_every_part_has_a_layer():
    assert sorted(heights(LAYERS)) == PARTS


@pytest.mark.parametrize("part", PARTS)
def test_nothing_imports_upward(part):
    height = heights(LAYERS)
    assert not {other for other in parts_used(part) if height[other] >= height[part]}


def test_rooms_of_structure_import_downward():
    """A room, or a module above the rooms, imports lower ones only."""
    height = heights(ROOMS)
    rooms = {n: n.split(".")[2] for n in MODULES if n.startswith("growmas.structure.")}
    assert {*rooms.values()} == {*height}
    upward = [
        (name, other)
        for name, room in rooms.items()
        for other in inner_imports(name)
        if other in rooms and rooms[other] != room and height[rooms[other]] >= height[room]
    ]
    assert not upward


def test_no_modules_import_each_other_in_a_circle():
    graph = nx.DiGraph((name, other) for name in MODULES for other in direct_imports(name))
    assert list(nx.simple_cycles(graph)) == []


@pytest.mark.parametrize("part", sorted(ALONE))
def test_the_nouns_stand_alone(part):
    assert not parts_used(part) & {"training", "config", "cli", "experiment"}


@pytest.mark.parametrize("part", sorted(WITHOUT_TORCH))
def test_torch_is_not_loaded_by_what_reads_histories_and_losses(part):
    reached: dict[str, str] = {}  # module -> which one imports it
    waiting = [n for n in MODULES if n.split(".")[1:2] == [part] and n not in LIVE]
    while waiting:
        name = waiting.pop()
        for found in imports(MODULES[name], at_start=True):
            names = found.split(".")
            for parent in (".".join(names[:n]) for n in range(1, len(names) + 1)):
                if parent not in reached:
                    reached[parent] = name
                    waiting += [parent] if parent in MODULES else []
    assert "growmas.errors" in reached or part == "errors"
    assert "torch" not in reached, f"{reached['torch']} imports torch"
