"""Plots over steps as rows of characters: lines, marks and bars."""

from collections.abc import Iterable, Sequence

BARS = "▁▂▃▄▅▆▇█"
DIGITS = "0123456789"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille cell, from the top


def buckets(values: Sequence[float], steps: int, columns: int) -> list[tuple[float, float] | None]:
    """Return the least and the largest value in each column; None in columns without a step.

    The value before the first of a column counts too, so that a line through them has no gaps.

    Args:
        values: One value per step, from step 0.
        steps: Number of steps that all columns stand for.
        columns: Number of columns.
    """
    found: list[tuple[float, float] | None] = [None] * columns
    for step, value in enumerate(values):
        at = column(step, steps, columns)
        before = values[max(0, step - 1)]
        low, high = found[at] or (before, before)
        found[at] = min(low, value), max(high, value)
    return found


def column(step: int, steps: int, columns: int) -> int:
    """Return the column of a step."""
    return min(columns - 1, step * columns // max(1, steps))


def line(values: Sequence[float], steps: int, columns: int, rows: int, *, ascii: bool) -> list[str]:
    """Return a line as rows of text, the largest value on top; a column spans least to largest.

    Braille has 2 × 4 dots a character; in ASCII a character is one dot.
    """
    across, down = (1, 1) if ascii else (2, 4)
    top, bottom = max(values, default=1.0), min(values, default=0.0)
    height = rows * down
    cells = [[0] * columns for _ in range(rows)]
    for x, span in enumerate(buckets(values, steps, columns * across)):
        if span is None:
            continue
        first, last = (
            round((top - value) / (top - bottom or 1.0) * (height - 1)) for value in span[::-1]
        )
        for y in range(first, last + 1):
            cells[y // down][x // across] |= 1 if ascii else _DOTS[y % 4][x % 2]
    if ascii:
        return ["".join("*" if cell else " " for cell in row) for row in cells]
    return ["".join(chr(0x2800 + cell) if cell else " " for cell in row) for row in cells]


def marks(
    spans: Iterable[tuple[int, int]], steps: int, columns: int, sign: str, between: str
) -> str:
    """Return a row with `sign` where each span begins and `between` up to its end."""
    row = [" "] * columns
    for first, last in spans:
        begin, end = column(first, steps, columns), column(last, steps, columns)
        row[begin + 1 : end + 1] = between * (end - begin)
        row[begin] = sign
    return "".join(row)


def bars(
    changes: Sequence[tuple[int, int]], seen: int, steps: int, columns: int, *, ascii: bool
) -> str:
    """Return a row of bars for a number that changes at some steps; the largest is a full bar.

    Args:
        changes: (step, value from then on), in order.
        seen: Number of steps so far; later columns stay empty.
        steps: Number of steps that all columns stand for.
        columns: Number of columns.
        ascii: True uses digits 0 to 9 in place of bars.
    """
    signs, most = (DIGITS if ascii else BARS), max((value for _, value in changes), default=1)
    row = []
    for at in range(columns):
        last = (at + 1) * steps // columns - 1
        known = [value for step, value in changes if step <= max(last, 0)]
        shown = known and at <= column(max(0, seen - 1), steps, columns)
        row.append(signs[round((len(signs) - 1) * known[-1] / (most or 1))] if shown else " ")
    return "".join(row)


def axis(steps: int, columns: int) -> str:
    """Return step numbers for the line under a plot: the first, the middle and the last."""
    middle, last = str(steps // 2), str(steps)
    row = "0".ljust(columns // 2 - len(middle) // 2) + middle
    return (
        row.ljust(columns - len(last)) + last if columns > len(row) + len(last) else row[:columns]
    )
