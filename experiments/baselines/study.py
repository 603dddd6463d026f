"""Every published method on split MNIST-5k, each in the scenarios it is for.

    python experiments/baselines/study.py            # 11 CPU minutes of learning; may be stopped
    python experiments/baselines/study.py --report   # writes the tables of README.md

Settings are compared on a fifth of the training samples of seed 0 that is held out; the best is
learnt anew on all training samples of seeds 1 to 3 and tested once. Scenario class takes the
settings of scenario domain. All methods have the same
network, epochs, batches, optimizer and learning rate. Runs that results.jsonl has are not repeated.
"""

import argparse
import json
import statistics
import tempfile
import warnings
from pathlib import Path

from growmas.config import load_config
from growmas.errors import GrowmasWarning
from growmas.experiment import run_experiment

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
SCENARIOS = ("task", "domain", "class")
SEEDS = (1, 2, 3)
TRIED = ["stream.validation=0.2", "seed=0"]

SETTINGS = {
    "finetune": ["{kind: finetune}"],
    "joint": ["{kind: joint}"],
    "separate": ["{kind: separate}"],
    "mas": [f"{{kind: mas, strength: {s}}}" for s in (0.1, 1.0, 10.0)],
    "l-MAS": [
        f"{{kind: mas, importance: hebbian, normalize: mean, strength: {s}}}" for s in (0.01, 0.1)
    ],
    "ewc": [f"{{kind: ewc, strength: {s}}}" for s in (100.0, 1000.0, 10000.0)],
    "online_ewc": [f"{{kind: online_ewc, strength: {s}}}" for s in (1000.0, 10000.0)],
    "si": [f"{{kind: si, strength: {s}}}" for s in (10.0, 100.0, 1000.0)],
    "l2_init": [f"{{kind: l2_init, strength: {s}}}" for s in (1e-4, 1e-3)],
    "lwf": [f"{{kind: lwf, strength: {s}}}" for s in (1.0, 3.0)],
    "er": ["{kind: er, memory: 200}"],
    "derpp": [f"{{kind: derpp, memory: 200, alpha: {a}}}" for a in (0.2, 1.0)],
    "packnet": [f"{{kind: packnet, prune: {s}}}" for s in (0.5, 0.75)],
    "hat": [
        f"{{kind: hat, scale: {scale}, sparsity: {c}}}" for scale, c in ((400, 0.75), (400, 0.1))
    ],
    "icarl": ["{kind: icarl, memory: 200}"],
    "gaussian": ["{kind: gaussian, features: filters}"],
    "slda": [
        "{kind: slda}",
        "{kind: slda, features: filters, strength: null}",
    ],
    "ranpac": [
        "{kind: ranpac, projections: 1000}",
        "{kind: ranpac, projections: 1000, features: filters}",
    ],
}
"""Name in the tables -> the settings that are compared."""

ONLY = {"packnet": ("task",), "hat": ("task",), "separate": ("task",), "icarl": ("class",)}
"""Methods that are not for every scenario."""


def key_of(scenario, method, overrides):
    return f"{scenario} {method} {' '.join(overrides)}"


def known():
    """The runs that are done, by key."""
    if not RESULTS.exists():
        return {}
    rows = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    return {row["key"]: row for row in rows}


def measured(done, name, scenario, method, overrides):
    """The row of a run, carried out unless it was."""
    key = key_of(scenario, method, overrides)
    if key in done:
        return done[key]
    given = [f"method={method}", f"stream.scenario={scenario}", *overrides]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", GrowmasWarning)  # a grid that ends, a strength that rules
        result = run_experiment(load_config("baselines", given), Path(folder) / "run")
    row = {
        "key": key,
        "name": name,
        "scenario": scenario,
        "method": method,
        "validation": result.validation[-1] if result.validation else None,
        "accuracy": result.average_accuracy,
        "forgetting": result.forgetting,
        "numbers": result.numbers_kept,
        "cpu": result.cpu_seconds,
    }
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    done[key] = row
    print(f"{key:110} {row['validation'] or row['accuracy']:.4f}", flush=True)
    return row


def tried_in(scenario):
    """The scenario in which settings are compared: of class, that of domain."""
    return "domain" if scenario == "class" else scenario


def chosen(done, name, scenario):
    """The setting with the best accuracy on held-out training samples of seed 0."""
    settings, scenario = SETTINGS[name], tried_in(scenario)
    if len(settings) == 1:
        return settings[0]
    rows = [measured(done, name, scenario, method, TRIED) for method in settings]
    return max(rows, key=lambda row: row["validation"])["method"]


def study(names):
    done = known()
    for seed in SEEDS:  # all methods with one seed, then with the next
        for scenario in SCENARIOS:
            for name in names:
                if scenario in ONLY.get(name, SCENARIOS):
                    method = chosen(done, name, scenario)
                    measured(done, name, scenario, method, [f"seed={seed}"])


def tables():
    """The tables of the README, from the runs that are done."""
    done, lines = known(), []
    for scenario in SCENARIOS:
        lines += [f"\n### Scenario {scenario}\n"]
        lines += ["| method | chosen | ACC | forgetting | numbers kept | CPU s |"]
        lines += ["|---|---|---|---|---|---|"]
        for name in SETTINGS:
            tried = [
                done.get(key_of(tried_in(scenario), method, TRIED), {"validation": -1})
                for method in SETTINGS[name]
            ]
            best = max(range(len(tried)), key=lambda place: tried[place]["validation"])
            method = SETTINGS[name][best]
            rows = [done.get(key_of(scenario, method, [f"seed={seed}"])) for seed in SEEDS]
            rows = [row for row in rows if row]
            if not rows:
                continue
            lines.append(
                f"| {name} | {shown(method)} | {spread(rows, 'accuracy')} "
                f"| {spread(rows, 'forgetting')} "
                f"| {statistics.mean(row['numbers'] for row in rows):,.0f} "
                f"| {statistics.median(row['cpu'] for row in rows):.1f} |"
            )
    return "\n".join(lines).strip() + "\n"


def shown(method):
    """The settings of a method without its kind."""
    return ", ".join(part for part in method.strip("{}").split(", ") if "kind" not in part) or "–"


def spread(rows, key):
    """Mean and standard deviation over seeds, in points."""
    values = [100 * row[key] for row in rows]
    apart = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{apart}"


def write_report():
    """Replace what stands between the marks in the README."""
    readme = HERE / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition("<!-- tables -->\n")
    _, _, after = rest.partition("<!-- end -->")
    text = f"{before}<!-- tables -->\n{tables()}<!-- end -->{after}"
    readme.write_text(text, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="*", choices=[*SETTINGS], default=[*SETTINGS])
    parser.add_argument("--report", action="store_true", help="write the tables, and stop")
    options = parser.parse_args()
    if not options.report:
        study(options.methods)
    write_report()


if __name__ == "__main__":
    main()
