"""The topology history: the life of every unit, recorded while a network learns.

`TopologyTracker` follows a structure and writes; `TopologyHistory` reads, at any moment. The file
is SQLite and its tables are documented in `growmas.history.tables`. Both classes are loaded on
first use: reading imports neither torch nor, until a graph is asked for, networkx.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from growmas.history.reader import TopologyHistory
    from growmas.history.tracker import TopologyTracker

__all__ = ["TopologyHistory", "TopologyTracker"]

_HOMES = {"TopologyHistory": "reader", "TopologyTracker": "tracker"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'growmas.history' has no attribute {name!r}")
    return getattr(import_module(f"growmas.history.{_HOMES[name]}"), name)
