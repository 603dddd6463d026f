"""Which tasks share a column when there are more than have room: those where least changed."""

from collections.abc import Callable, Sequence
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
    while len(stretches) > max(columns, 1):
        pairs = range(ends, len(stretches) - 1 - ends)
        first = min(pairs, key=lambda i: (weights[i] + weights[i + 1], _length(stretches, i)))
        stretches[first : first + 2] = [range(stretches[first].start, stretches[first + 1].stop)]
        weights[first : first + 2] = [weights[first] + weights[first + 1]]
    return stretches


def fitting(
    draw: Callable[[int], View], most: int, console: Console, options: ConsoleOptions
) -> View:
    """The view with the most columns that fits the console; the one of a single column if none.

    Args:
        draw: Makes the view with so many columns.
        most: The largest number of columns worth a try, at least 1.
        console: The console that it is for.
        options: Its options; `max_width` is what has to hold it.
    """
    unlimited = options.update(width=_UNLIMITED)
    for columns in range(most, 1, -1):
        view = draw(columns)
        if Measurement.get(console, unlimited, view).maximum <= options.max_width:
            return view
    return draw(1)


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


def _length(stretches: Sequence[range], first: int) -> int:
    return len(stretches[first]) + len(stretches[first + 1])
