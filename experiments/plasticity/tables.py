"""Tables of the study: means over seeds with 95% intervals, from results.jsonl.

python experiments/plasticity/tables.py
"""

import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
QUANTILE = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}
"""97.5% quantile of Student's t for the mean of so many values."""


def main() -> None:
    """Print a Markdown table for each arm, and the results for each settings of seed 0."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "results.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for arm in dict.fromkeys(row["arm"] for row in rows):
        of_arm = [row for row in rows if row["arm"] == arm]
        print(f"\n{arm}\n")
        print(*(memory_lines(of_arm) if arm == "memory" else lines(of_arm)), sep="\n")


def lines(rows: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Yield the table of an arm."""
    yield "| method | seeds | first quarter | last quarter | mean | replaced | CPU s |"
    yield "|---|---|---|---|---|---|---|"
    for name, held in grouped(rows, "method", "settings"):
        values = [[row[key] for row in held] for key in ("first", "last", "mean")]
        cells = [shown(each) for each in values]
        counts = [
            round(statistics.mean(row[key] for row in held)) for key in ("replaced", "cpu_seconds")
        ]
        yield f"| {' | '.join([name, str(len(held)), *cells, *map(str, counts)])} |"


def memory_lines(rows: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Yield the table of forgetting and plasticity together."""
    keys = ("after", "last_quarter_after", "final", "final_views", "dormant", "guarded", "replaced")
    yield f"| width, strength, replacement | seeds | {' | '.join(keys)} |"
    yield "|---" * (len(keys) + 2) + "|"
    for name, held in grouped(rows, "width", "strength", "variant"):
        cells = [shown([row[key] for row in held]) for key in keys]
        yield f"| {' | '.join([name, str(len(held)), *cells])} |"


def grouped(
    rows: Sequence[dict[str, Any]], *keys: str
) -> Iterable[tuple[str, list[dict[str, Any]]]]:
    """Yield the rows that have some values in common, with these values."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        tuned = row["seed"] == 0
        words = [str(row[key]) for key in keys if row[key] != {}] + ["(tuning)"] * tuned
        found.setdefault(" ".join(words), []).append(row)
    yield from found.items()


def shown(values: Sequence[float]) -> str:
    """Return a mean and half the width of its interval."""
    mean = f"{statistics.mean(values):.4g}"
    if len(values) not in QUANTILE:
        return mean
    half = QUANTILE[len(values)] * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean} ± {half:.2g}"


if __name__ == "__main__":
    main()
