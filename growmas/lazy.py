"""Packages that load their names on first use.

A package lists its public names once, in `__init__.pyi` beside its `__init__.py`, as imports:

    from growmas.penalty import MAS as MAS

Type checkers read that file and know every name, so that a typing error is an error to them. At
run time the same file says where a name is to be imported from when it is first used (PEP 562);
until then nothing is imported.
"""

import ast
from collections.abc import Callable
from importlib import import_module
from pkgutil import get_data


def attach_stub(package: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` for a package with an `__init__.pyi`.

    Args:
        package: Name of the package, its `__name__`.
    """
    homes = stub_imports(package)

    def __getattr__(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if homes[name] == package:  # a module of its own, which is public as a whole
            return import_module(f"{package}.{name}")
        return getattr(import_module(homes[name]), name)

    def __dir__() -> list[str]:
        return sorted([*vars(import_module(package)), *homes])

    return __getattr__, __dir__, sorted(homes)


def stub_imports(package: str) -> dict[str, str]:
    """Return name -> module it is imported from, as the package's stub says."""
    stub = get_data(package, "__init__.pyi")
    if stub is None:
        raise ImportError(f"{package} was installed without its __init__.pyi: install it again")
    return {
        alias.name: statement.module
        for statement in ast.parse(stub).body
        if isinstance(statement, ast.ImportFrom) and statement.module
        for alias in statement.names
    }
