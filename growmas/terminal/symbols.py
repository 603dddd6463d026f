"""Characters of printed tables and drawings, in Unicode and in ASCII."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box

_UNICODE_RULE = box.Box("    \n    \n ── \n    \n    \n ── \n    \n    \n")
_ASCII_RULE = box.Box("    \n    \n -- \n    \n    \n -- \n    \n    \n", ascii=True)


@dataclass(frozen=True)
class Symbols:
    """One set of characters.

    Attributes:
        minus: Sign of a number that was removed.
        both: Mark of a change that added and removed units.
        spread: Sign between a mean and its standard deviation.
        nothing: Text of a cell without a value.
        ellipsis: Sign in place of what is left out.
        best: Mark of a difference that a test confirms.
        bar: Last characters of a bar, from the smallest part to a full one.
        spark: Heights in a row of values, from the lowest to the highest.
        shade: Fills of a cell, from empty to full.
        arrow: Sign from one state to the next.
        times: Sign before a factor.
        line: Lane that goes straight down.
        across: Line that goes sideways.
        cross: Line that goes sideways across a lane.
        joins: Lane that branches to the right; lanes that join from above on the right, the last
            one and one before it; lanes that open downward on the right, the last one and one
            before it.
        node: Mark of a node.
        life: Characters of a lifeline: born, split from another unit, alive, frozen, alive now,
            pruned.
        rule: Lines of a table, under its head and above its foot.
        formulas: Formulas of ACC, BWT and forgetting.
        participation: Formula of the participation ratio of U values v.
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
        """Return a bar of at most `width` characters for a share between 0 and 1."""
        steps = round(max(0.0, min(1.0, share)) * width * len(self.bar))
        full, rest = divmod(steps, len(self.bar))
        return self.bar[-1] * full + (self.bar[rest - 1] if rest else "")

    def draw_level(self, share: float) -> str:
        """Return a character whose height is a share between 0 and 1."""
        return self.spark[round((len(self.spark) - 1) * max(0.0, min(1.0, share)))]

    def draw_spark(self, values: Sequence[float | None]) -> str:
        """Return a character per value, its height the value's share of the largest one."""
        top = max((value for value in values if value is not None), default=0.0)
        return "".join(
            self.nothing if value is None else self.draw_level(value / top if top > 0 else 0.0)
            for value in values
        )

    def draw_shade(self, share: float) -> str:
        """Return the fill for a share between 0 and 1; only 0 is empty."""
        last = len(self.shade) - 1
        steps = round(max(0.0, min(1.0, share)) * last)
        return self.shade[max(steps, int(share > 0))]

    def signed(self, number: float, form: str = ",") -> str:
        """Return a number with + or − before it, also for 0."""
        return f"{number:{'+' + form}}".replace("-", self.minus)

    def percent(self, share: float | None) -> str:
        """Return a share in percent with one decimal, or the sign for a missing value."""
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
    """Return the ASCII characters or the Unicode ones."""
    return ASCII if ascii else UNICODE
