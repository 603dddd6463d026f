"""The characters of the printed views, in Unicode and in ASCII."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box

_UNICODE_RULE = box.Box("    \n    \n ── \n    \n    \n ── \n    \n    \n")
_ASCII_RULE = box.Box("    \n    \n -- \n    \n    \n -- \n    \n    \n", ascii=True)


@dataclass(frozen=True)
class Symbols:
    """One set of characters.

    Attributes:
        minus: Before a number that is taken away.
        both: For what was added to and taken from.
        spread: Between a mean and its standard deviation.
        nothing: In a cell without a value.
        ellipsis: In place of what is left out.
        best: After the best of a column.
        bar: The parts of a bar's last character, from the smallest to a full one.
        spark: Heights in a row of values, from the lowest to the highest.
        shade: Fills of a cell, from empty to full.
        arrow: From one state to the next.
        times: Before a factor.
        line: What goes straight down, in a drawing of lanes.
        across: What goes sideways.
        cross: What goes sideways across a line.
        joins: Where a line leaves to the right; where it comes in from above on the right, the
            last one and one before it; where it goes down on the right, likewise.
        node: Where something is.
        life: Of a unit: born, split from another, alive, frozen, alive now, pruned.
        rule: The lines of a table: under its head and above its foot.
        formulas: ACC, BWT and forgetting.
        participation: The participation ratio of U values v.
    """

    minus: str
    both: str
    spread: str
    nothing: str
    ellipsis: str
    best: str
    bar: str
    spark: str
    shade: str
    arrow: str
    times: str
    line: str
    across: str
    cross: str
    joins: tuple[str, str, str, str, str]
    node: str
    life: tuple[str, str, str, str, str, str]
    rule: box.Box
    formulas: tuple[str, str, str]
    participation: str

    def draw_bar(self, share: float, width: int) -> str:
        """A bar of at most `width` characters for a share between 0 and 1."""
        steps = round(max(0.0, min(1.0, share)) * width * len(self.bar))
        full, rest = divmod(steps, len(self.bar))
        return self.bar[-1] * full + (self.bar[rest - 1] if rest else "")

    def draw_level(self, share: float) -> str:
        """A character whose height is a share between 0 and 1."""
        return self.spark[round((len(self.spark) - 1) * max(0.0, min(1.0, share)))]

    def draw_spark(self, values: Sequence[float | None]) -> str:
        """A character per value, its height the value's share of the largest one."""
        top = max((value for value in values if value is not None), default=0.0)
        return "".join(
            self.nothing if value is None else self.draw_level(value / top if top > 0 else 0.0)
            for value in values
        )

    def draw_shade(self, share: float) -> str:
        """The fill for a share between 0 and 1; only 0 is empty."""
        last = len(self.shade) - 1
        steps = round(max(0.0, min(1.0, share)) * last)
        return self.shade[max(steps, int(share > 0))]

    def signed(self, number: float, form: str = ",") -> str:
        """A number with + or − before it, whatever it is."""
        return f"{number:{'+' + form}}".replace("-", self.minus)

    def percent(self, share: float | None) -> str:
        """A share in percent with one decimal, or the sign for nothing."""
        if share is None:
            return self.nothing
        return f"{100 * share:z.1f}".replace("-", self.minus)


UNICODE = Symbols(
    minus="−",
    both="±",
    spread="±",
    nothing="·",
    ellipsis="…",
    best="*",
    bar="▏▎▍▌▋▊▉█",
    spark="▁▂▃▄▅▆▇█",
    shade=" ░▒▓█",
    arrow="→",
    times="×",
    line="│",
    across="─",
    cross="┼",
    joins=("├", "╯", "┴", "╮", "┬"),
    node="●",
    life=("●", "◆", "─", "═", "▸", "×"),
    rule=_UNICODE_RULE,
    formulas=(
        "ACC = mean over j of R[T−1][j]",
        "BWT = mean over j<T−1 of R[T−1][j] − R[j][j]",
        "forgetting = mean over j<T−1 of max(R[i][j], j≤i<T−1) − R[T−1][j]",
    ),
    participation="(Σv)² / (U Σv²)",
)
ASCII = Symbols(
    minus="-",
    both="*",
    spread="+-",
    nothing=".",
    ellipsis="...",
    best="*",
    bar="#",
    spark="0123456789",
    shade=" .:+#",
    arrow="->",
    times="x",
    line="|",
    across="-",
    cross="+",
    joins=("|", "'", "'", ".", "."),
    node="o",
    life=("o", "Y", "-", "=", ">", "x"),
    rule=_ASCII_RULE,
    formulas=(
        "ACC = mean over j of R[T-1][j]",
        "BWT = mean over j<T-1 of R[T-1][j] - R[j][j]",
        "forgetting = mean over j<T-1 of max(R[i][j], j<=i<T-1) - R[T-1][j]",
    ),
    participation="(sum v)^2 / (U sum v^2)",
)


def symbols(*, ascii: bool) -> Symbols:
    """The ASCII characters or the Unicode ones."""
    return ASCII if ascii else UNICODE
