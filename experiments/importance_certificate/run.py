"""Random networks and batches: is importance equal to the loop, or refused?

    python experiments/importance_certificate/run.py [--networks 1000] [--fisher]

Every kind in tests/foreign/kinds.py is drawn equally often, with seeds that the tests do not use.
"""

import argparse
import sys
import warnings
from collections import Counter
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "tests")]

import snapshots  # noqa: E402

import growmas as gm  # noqa: E402
from tests.foreign.kinds import KINDS  # noqa: E402
from tests.foreign.test_kinds import drawn, loop, scale  # noqa: E402

OUTCOMES = ("right", "rightly refused", "refused", "wrong", "changed", "raw error")


def outcome(name, seed):
    case = drawn(name, seed)
    before = snapshots.of_model(case.model)
    try:
        found = gm.mas_importance(case.model, [case.batch], forward=case.forward, **case.options)
    except gm.GrowmasError as error:
        changed = snapshots.of_model(case.model) != before
        said = str(error)
        return (
            "changed" if changed else "rightly refused" if case.samples is None else "refused"
        ), said
    except Exception as error:
        return "raw error", repr(error)
    if snapshots.of_model(case.model) != before:
        return "changed", ""
    if case.samples is None:
        return "wrong", "not refused"
    expected = loop(name, seed)
    for n, wanted in expected.items():
        error = float((found[n] - wanted).norm()) / scale(n, expected)
        if not error <= 1e-10:
            return "wrong", f"{n}: off by {error:.1e}"
    return "right", ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=1000)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--only", action="append")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    names = options.only or list(KINDS)
    totals, rows = Counter(), {name: Counter() for name in names}
    for number in range(options.networks):
        name = names[number % len(names)]
        seed = options.first_seed + number // len(names)
        found, said = outcome(name, seed)
        totals[found] += 1
        rows[name][found] += 1
        if found in ("refused", "wrong", "changed", "raw error"):
            print(f"<!-- {name}, seed {seed}: {found} {said:.150} -->", flush=True)
    print("| kind |", " | ".join(OUTCOMES), "|\n|---|" + "---|" * len(OUTCOMES))
    for name, counts in (*rows.items(), ("**all**", totals)):
        print(f"| {name} |", " | ".join(str(counts[o] or "") for o in OUTCOMES), "|")


if __name__ == "__main__":
    main()
