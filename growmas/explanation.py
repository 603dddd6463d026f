"""Explanations: texts that say how to read a table, which can be left out."""


class Explanation(str):
    """A note that says how to read a table; notes that are data or warnings are plain texts."""

    __slots__ = ()
