"""Sizes and metrics of two networks, next to each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text

from growmas.terminal.breaking import BreakingName
from growmas.terminal.symbols import Symbols
from growmas.terminal.tables import Fitting, plain_table

_MOST = 12  # metrics listed, those that differ most
_NAME_WIDTH = 30


@dataclass(frozen=True)
class Pair:
    """A number of two networks.

    Attributes:
        name: Name of the number.
        before: Value for the first network; None if unknown.
        after: Value for the second network; None if unknown.
        percent: True if it is a share, printed in percent.
    """

    name: str
    before: float | None
    after: float | None
    percent: bool = False

    @property
    def change(self) -> float | None:
        """The second value minus the first; None if one is unknown."""
        if self.before is None or self.after is None:
            return None
        return self.after - self.before


def pairs(
    sizes: Mapping[str, tuple[int | None, int | None]],
    before: Mapping[str, float],
    after: Mapping[str, float],
    tasks: Sequence[str],
) -> tuple[Pair, ...]:
    """Return sizes known for either network, then metrics: mean accuracy, others, per task.

    Args:
        sizes: Name -> values for both networks.
        before: Metrics of the first network.
        after: Metrics of the second network.
        tasks: Names of tasks, in the order of their metrics.
    """
    places = {task: index for index, task in enumerate(tasks)}

    def place(name: str) -> tuple[bool, int, str]:
        return name != "accuracy", places.get(name.partition("/")[2], -1), name

    names = sorted({*before, *after}, key=place)
    return (
        *(Pair(name, *both) for name, both in sizes.items() if both != (None, None)),
        *(
            Pair(name, before.get(name), after.get(name), name.split("/")[0] == "accuracy")
            for name in names
        ),
    )


def number_table(
    numbers: Sequence[Pair], headings: tuple[str, str], signs: Symbols, *, keep: int
) -> RenderableType:
    """Return a table with a row per number; of many metrics only those that differ most.

    Args:
        numbers: Numbers from `pairs`.
        headings: Names of the two networks.
        signs: Characters to use.
        keep: So many of the first numbers are always listed.
    """
    shown, left_out = _most_different(numbers, keep)
    table, narrow = plain_table(signs), plain_table(signs)
    table.add_column("", max_width=_NAME_WIDTH, overflow="fold")
    for heading in (*headings, "change"):
        table.add_column(Text(heading), justify="right", overflow="fold")
    narrow.add_column("", overflow="fold")
    narrow.add_column(BreakingName(f" {signs.arrow} ".join(headings)), overflow="fold")
    narrow.add_column("change", justify="right", no_wrap=True)
    for number in shown:
        name = BreakingName(number.name)
        both = [_written(value, number, signs) for value in (number.before, number.after)]
        table.add_row(name, *both, _change(number, signs))
        narrow.add_row(name, f" {signs.arrow} ".join(both), _change(number, signs, factor=False))
    if left_out:
        for each in (table, narrow):
            each.add_row(Text(f"{signs.ellipsis} {left_out} changed less", "dim"))
    return Fitting(table, narrow)


def _most_different(numbers: Sequence[Pair], keep: int) -> tuple[list[Pair], int]:
    rest = list(numbers[keep:])
    if len(rest) <= _MOST:
        return list(numbers), 0
    known = [(abs(each.change), i) for i, each in enumerate(rest) if each.change is not None]
    first = {i for _, i in sorted(known, key=lambda pair: (-pair[0], pair[1]))[:_MOST]}
    return [*numbers[:keep], *(each for i, each in enumerate(rest) if i in first)], len(rest) - len(
        first
    )


def _written(value: float | None, number: Pair, signs: Symbols) -> str:
    if value is None:
        return signs.nothing
    if number.percent:
        return f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _change(number: Pair, signs: Symbols, *, factor: bool = True) -> Text:
    change = number.change
    if change is None:
        return Text(signs.nothing)
    if number.percent:
        return Text(signs.signed(100 * change, ".1f"))
    if isinstance(change, int):
        text = Text(signs.signed(change, ","))
        if change and number.before and factor:
            text.append(f" ({signs.times}{1 + change / number.before:.2f})")
        return text
    return Text(signs.signed(change, ".4g"))
