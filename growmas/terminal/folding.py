"""Which tasks share a column when there are more than have room: those where least changed."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement

View = TypeVar("View", bound=RenderableType)

_UNLIMITED = 100_000


def fold(changes: Sequence[float], columns: int) -> list[range]:
    """Divide tasks in a row into at most so many stretches.

    Neighbours are merged, first those that together changed least, of those the shortest, and of
    those the earliest. The first and the last task stay by themselves if there are three columns
    or more.

    Args:
        changes: How much changed in each of T tasks.
        columns: At least 1.

    Returns:
        Stretches of task indices, in order, each at least one task.
    """
    stretches = [range(i, i + 1) for i in range(len(changes))]
    weights = list(changes)
    ends = 1 if columns >= 3 else 0
    together = [(a + b, 2) for a, b in pairwise(weights)]  # of each with its right neighbour
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
    """Divide tasks in a row into at most so many stretches of nearly the same length."""
    columns = min(count, columns)
    ends = [count * column // columns for column in range(columns + 1)] if count else [0]
    return [range(start, stop) for start, stop in pairwise(ends)]


def fitting(
    draw: Callable[[list[range]], View],
    changes: Sequence[float],
    most: int,
    console: Console,
    options: ConsoleOptions,
) -> tuple[View, list[range]]:
    """The view with the most columns that fits the console, and its columns.

    Args:
        draw: Makes the view with these stretches of tasks as columns.
        changes: How much changed in each task, see `fold`.
        most: The largest number of columns worth a try; one is tried in any case.
        console: The console that it is for.
        options: Its options; `max_width` is what has to hold it.
    """
    unlimited = options.update(width=_UNLIMITED)
    count = max(1, min(most, len(changes)))
    while True:
        columns = fold(changes, count)
        view = draw(columns)
        width = Measurement.get(console, unlimited, view).maximum
        if width <= options.max_width or count == 1:
            return view, columns
        # What every view has beside its columns makes this a step that is never too long.
        count = max(1, min(count - 1, count * options.max_width // width))


def shared_words(names: Sequence[str]) -> str:
    """The words that all names begin with, as "permutation "; empty unless two tasks share any."""
    split = [name.split(" ")[:-1] for name in names]
    count = 0
    if len(split) > 1:
        for words in zip(*split, strict=False):
            if len({*words}) > 1:
                break
            count += 1
    return "".join(f"{word} " for word in split[0][:count]) if count else ""


def title(names: Sequence[str], stretch: range, *, ellipsis: str) -> str:
    """A stretch's name: its first and last task's, what both begin with said only once."""
    first, last = names[stretch[0]], names[stretch[-1]]
    if len(stretch) == 1:
        return first
    shared = 0
    for a, b in zip(first.split(" "), last.split(" "), strict=False):
        if a != b:
            break
        shared += len(a) + 1
    return f"{first} {ellipsis} {last[shared:]}"
