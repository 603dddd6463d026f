"""Runs of consecutive unit ids."""

from collections.abc import Iterable


def id_runs(ids: Iterable[int]) -> list[tuple[int, int]]:
    """Return the first and the last id of every run of consecutive ids.

    >>> id_runs([3, 4, 5, 9])
    [(3, 5), (9, 9)]
    """
    runs: list[tuple[int, int]] = []
    for unit in sorted(ids):
        if runs and unit == runs[-1][1] + 1:
            runs[-1] = runs[-1][0], unit
        else:
            runs.append((unit, unit))
    return runs
