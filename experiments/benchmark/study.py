"""Every method in every scenario that it is for, on equal terms; results.jsonl, a line a cell.

    python experiments/benchmark/study.py           # all; may be stopped and resumed
    python experiments/benchmark/study.py --only fashion-class/mas/1    # scenario, method, seed
    python experiments/benchmark/study.py --list    # how many cells are done
    python experiments/benchmark/study.py report    # writes the tables of README.md
    python experiments/benchmark/study.py again --only flights//1       # runs finished cells again

For each scenario and method, two settings (four in the first scenario) learn four fifths of the
training samples of seed 0 and are judged on the fifth that is held out; the best one then learns
all training samples of seeds 1 to 5 and is tested once. A cell is known by its resolved config, so
that a cell that results.jsonl has is never run again, and one whose setting changes is.
"""

import argparse
import json
import sys
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path

from cells import HELD_OUT, cell_of, score
from report import write_report
from scenarios import BY_NAME, SCENARIOS

from growmas.errors import GrowmasError, GrowmasWarning
from growmas.experiment import run_experiment

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
FIRST_SEEDS = 3  # of all scenarios, before more seeds of the first one


class Results:
    """The cells that are done, by identity; a line of the file each."""

    def __init__(self, path=RESULTS):
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else ()
        self.rows = {row["cell"]: row for row in map(json.loads, lines)}

    def add(self, row):
        """Append a row, whole or not at all."""
        self.rows[row["cell"]] = row
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def run(results, scenario, method, setting, more, *, tuning):
    """Return the row of a cell, run unless it was."""
    experiment, cell = cell_of(scenario, setting, more)
    if cell in results.rows:
        return results.rows[cell]
    row = {"cell": cell, "scenario": scenario.name, "method": method, "setting": setting}
    row |= {"tuning": tuning, "seed": experiment.seed, **outcome(experiment)}
    results.add(row)
    print(f"{scenario.name:18} {method:14} seed {row['seed']} {score(row):.4f}", flush=True)
    return row


def outcome(experiment):
    """Return the result of a run, or how it failed: a loss that became infinite."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", GrowmasWarning)  # a grid that ends, a strength that rules
        try:
            return {"result": asdict(run_experiment(experiment, Path(folder) / "run"))}
        except GrowmasError as error:
            return {"failed": f"{type(error).__name__}: {error}"}


def chosen(results, scenario, method):
    """Return the setting that is best on held-out samples of seed 0; the first of equal ones."""
    rows = [
        run(results, scenario, method, scenario.settings[method][i], HELD_OUT, tuning=True)
        for i in scenario.tried
    ]
    return max(rows, key=score)["setting"]


def wanted(only):
    """Return (scenario, method, seed) of all cells to report, in order; `only` narrows them."""
    names = [*(only or "").split("/"), "", "", ""]
    scenario, method, seed = names[:3]
    if scenario and scenario not in BY_NAME:
        sys.exit(f"there is no scenario {scenario!r}: one of {', '.join(BY_NAME)}")
    if scenario and method and method not in BY_NAME[scenario].settings:
        known = ", ".join(BY_NAME[scenario].settings)
        sys.exit(f"{scenario} has no method {method!r}, or it is not for it: one of {known}")
    if seed and not seed.isdigit():
        sys.exit(f"--only scenario/method/seed: the seed is a whole number, got {seed!r}")
    return [
        (each, name, number)
        for part in (slice(FIRST_SEEDS), slice(FIRST_SEEDS, None))
        for each in SCENARIOS
        if not scenario or each.name == scenario
        for number in ([int(seed)][part] if seed else each.seeds[part])
        for name in each.settings
        if not method or name == method
    ]


def study(only):
    """Run the cells that are missing."""
    results = Results()
    for scenario, method, seed in wanted(only):
        setting = chosen(results, scenario, method)
        run(results, scenario, method, setting, [f"seed={seed}"], tuning=False)


def again(only):
    """Run cells that are done once more, and print their accuracies beside those of the file."""
    results = Results()
    for scenario, method, seed in wanted(only):
        setting = chosen(results, scenario, method)
        experiment, cell = cell_of(scenario, setting, [f"seed={seed}"])
        if cell not in results.rows:
            continue
        before = results.rows[cell]
        now = {"tuning": False, **outcome(experiment)}
        print(f"{scenario.name:18} {method:26} seed {seed} {score(before):.4f} {score(now):.4f}")


def show_cells(only):
    """Print each scenario with the number of its cells that are done."""
    rows = Results().rows.values()
    for scenario in SCENARIOS:
        cells = [each for each in wanted(only) if each[0] is scenario]
        done = {
            (row["method"], row["seed"])
            for row in rows
            if row["scenario"] == scenario.name and not row["tuning"]
        }
        left = [each for each in cells if (each[1], each[2]) not in done]
        print(f"{scenario.name:18} {len(cells) - len(left):3} of {len(cells):3} cells are done")


def main():
    """Run, list or report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("run", "report", "again"), default="run")
    parser.add_argument("--only", help="scenario, scenario/method or scenario/method/seed")
    parser.add_argument("--list", action="store_true", help="print what is done, and stop")
    given = parser.parse_args()
    if given.list:
        return show_cells(given.only)
    if given.what == "again":
        return again(given.only)
    if given.what == "run":
        study(given.only)
    return write_report(Results().rows)


if __name__ == "__main__":
    main()
