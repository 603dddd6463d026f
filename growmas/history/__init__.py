"""The topology history: the life of every unit, recorded while a network learns.

`TopologyTracker` follows a structure and writes; `TopologyHistory` reads, at any moment. The file
is SQLite and its tables are documented in `growmas.history.tables`. Both classes are loaded on
first use: reading imports neither torch nor, until a graph is asked for, networkx.
"""

from growmas.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__)
