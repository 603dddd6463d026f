"""The public names: listed once, loaded on first use, and all of them there."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import growmas
from growmas.lazy import stub_imports

PROMISED = {
    *("mas_importance", "hebbian_importance", "MAS", "HardProtection"),
    *("Structure", "Plan", "Initialisation", "Newborns", "Lineage", "SplitUnits", "Split"),
    *("StructuralManager", "GrowPolicy", "PrunePolicy", "Policy", "Situation", "Budget"),
    *("TopologyTracker", "TopologyHistory", "PlateauDetector", "TaskFreeLearner"),
    *("GaussianContext", "RidgeContext", "SharedGaussianContext", "RandomFilters"),
    *("save", "load"),
}

REFERENCE = Path(__file__).parents[1] / "docs" / "reference.md"

REFERENCE_HEAD = """# Public names

Names that `import growmas as gm` provides, by the package that defines them. The docstrings have
shapes, units, errors and sources: `help(gm.mas_importance)`. Other names are private: they may
change."""

PACKAGES = ["growmas", "growmas.data", "growmas.history"]


def test_the_promised_names_and_every_error_are_public() -> None:
    errors = {
        name
        for name, value in vars(import_module("growmas.errors")).items()
        if isinstance(value, type) and issubclass(value, Exception | Warning)
    }
    assert PROMISED | errors <= {*growmas.__all__}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_listed_name_is_the_object_of_its_module(package: str) -> None:
    module = import_module(package)
    homes = stub_imports(package)
    assert module.__all__ == sorted(homes)
    assert {*homes} <= {*dir(module)}
    for name, home in homes.items():
        assert getattr(module, name) is getattr(import_module(home), name)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_typing_error_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Structre'"):
        _ = import_module(package).Structre


def test_public_names_are_documented() -> None:
    for name in growmas.__all__:
        value = getattr(growmas, name)
        if callable(value):
            assert (value.__doc__ or "").strip(), name


def reference_page() -> str:
    """docs/reference.md as it should be: every public name with the first line of its docstring."""
    lines = [REFERENCE_HEAD]
    homes = stub_imports("growmas")
    for package in dict.fromkeys(homes.values()):
        lines += [f"\n## {package}\n", "| name | |", "|---|---|"]
        for name in (name for name, home in homes.items() if home == package):
            lines.append(f"| `gm.{name}` | {first_line(getattr(growmas, name))} |")
    return "\n".join(lines) + "\n"


def first_line(value: object) -> str:
    """The first sentence of a docstring, on one line."""
    described = callable(value) or isinstance(value, ModuleType)
    text = (value.__doc__ or "").strip().split("\n\n")[0] if described else repr(value)
    return " ".join(text.split()).replace("|", "\\|")


def test_the_reference_page_is_up_to_date(request: pytest.FixtureRequest) -> None:
    """`pytest tests/test_public_face.py --regenerate` writes it."""
    if request.config.getoption("--regenerate"):
        REFERENCE.write_text(reference_page(), encoding="utf-8")
    assert REFERENCE.read_text(encoding="utf-8") == reference_page()


def test_importing_growmas_imports_nothing_else() -> None:
    code = "import growmas, sys; print({'torch', 'numpy', 'networkx', 'rich'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
