"""Tasks folded into fewer columns: neighbours in which least changed share one."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement

Renderable = TypeVar("Renderable", bound=RenderableType)

_UNLIMITED = 100_000


def fold(changes: Sequence[float], columns: int) -> list[range]:
    """Divide successive tasks into at most `columns` stretches.

    Neighbours are merged, those with the least change in sum first, of those the shortest, and of
    those the earliest. The first and the last task keep a column of their own if there are three
    columns or more.

    Args:
        changes: [T] amount of change in each task.
        columns: At least 1.

    Returns:
        Stretches of task indices, in order, each at least one task.
    """
    stretches = [range(i, i + 1) for i in range(len(changes))]
    weights = list(changes)
    ends = 1 if columns >= 3 else 0
    together = [
        (a + b, 2) for a, b in pairwise(weights)
    ]  # change and length of each stretch joined with its right neighbour
    while len(stretches) > max(columns, 1):
        inner = together[ends : len(together) - ends]
        first = ends + inner.index(min(inner))
        stretches[first : first + 2] = [range(stretches[first].start, stretches[first + 1].stop)]
        weights[first : first + 2] = [weights[first] + weights[first + 1]]
        del together[first]
        for left in range(max(0, first - 1), min(first + 1, len(together))):
            length = stretches[left + 1].stop - stretches[left].start
            together[left] = (weights[left] + weights[left + 1], length)
    return stretches


def evenly(count: int, columns: int) -> list[range]:
    """Divide successive tasks into at most `columns` stretches of nearly the same length."""
    columns = min(count, columns)
    ends = [count * column // columns for column in range(columns + 1)] if count else [0]
    return [range(start, stop) for start, stop in pairwise(ends)]


def fitting(
    draw: Callable[[list[range]], Renderable],
    changes: Sequence[float],
    most: int,
    console: Console,
    options: ConsoleOptions,
) -> tuple[Renderable, list[range]]:
    """Return the drawing with the most columns that fits the console, and its columns.

    Args:
        draw: Function that returns the drawing with these stretches of tasks as columns.
        changes: [T] amount of change in each task, as for `fold`.
        most: Largest number of columns to try; at least one is tried.
        console: Console to print to.
        options: Options of the console; the drawing has to fit `max_width`.
    """
    unlimited = options.update(width=_UNLIMITED)
    count = max(1, min(most, len(changes)))
    while True:
        columns = fold(changes, count)
        drawing = draw(columns)
        width = Measurement.get(console, unlimited, drawing).maximum
        if width <= options.max_width or count == 1:
            return drawing, columns
        # Part of the width belongs to no task column, so this never skips a number that fits.
        count = max(1, min(count - 1, count * options.max_width // width))


def shared_words(names: Sequence[str]) -> str:
    """Return the words that all names begin with, as "permutation "; empty for a single name."""
    leading = [name.split(" ")[:-1] for name in names]
    count = 0
    if len(leading) > 1:
        for words in zip(*leading, strict=False):
            if len({*words}) > 1:
                break
            count += 1
    return "".join(f"{word} " for word in leading[0][:count]) if count else ""


def title(names: Sequence[str], stretch: range, *, ellipsis: str) -> str:
    """Return a stretch's name: its first and last task's, with their common words only once."""
    first, last = names[stretch[0]], names[stretch[-1]]
    if len(stretch) == 1:
        return first
    shared = 0
    for a, b in zip(first.split(" "), last.split(" "), strict=False):
        if a != b:
            break
        shared += len(a) + 1
    return f"{first} {ellipsis} {last[shared:]}"


def joined(tasks: int, columns: int) -> str:
    """Return in words how many tasks share how many columns.

    >>> joined(10, 1), joined(20, 4)
    ('10 tasks in 1 column', '20 tasks in 4 columns')
    """
    return f"{tasks} tasks in {columns} column{'s' * (columns != 1)}"
