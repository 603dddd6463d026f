"""The tables of README.md, printed from results.json."""

import statistics
from collections import defaultdict

STREAMS = ("split", "permuted", "blurred", "recurring", "drift", "none")


def print_tables(results):
    grouped = defaultdict(list)
    for key, value in results.items():
        part, *names, seed = key.split("/")
        grouped[part, *names].append((seed, value))
    print_detection(grouped)
    print_learning(grouped)
    print("\n| batch | step, ms | detector | context | states | share |\n" + "|---" * 6 + "|")
    for batch_size, took in grouped["cost",]:
        parts = [took[name] for name in ("detector", "context", "states")]
        cells = " | ".join(f"{ms:.3f}" for ms in (took["step"], *parts))
        print(f"| {batch_size} | {cells} | {sum(parts) / took['step']:.1%} |")


def print_detection(grouped):
    print("| detector | " + " | ".join(STREAMS) + " |\n" + "|---" * (1 + len(STREAMS)) + "|")
    runs = {kind: [value for _, value in grouped["detection", kind]] for kind in STREAMS}
    names = {name for values in runs.values() for scores in values for name in scores}
    for name in sorted(names, key=lambda name: (not name.startswith("Plateau"), name)):
        cells = [cell([run[name] for run in runs[kind]]) for kind in STREAMS]
        print(f"| `{name}` | " + " | ".join(cells) + " |")


def cell(scores):
    """Return recall / precision and median delay; false alarms if there are no shifts."""
    shifts, found, peaks, steps = (
        sum(s[key] for s in scores) for key in ("shifts", "found", "peaks", "steps")
    )
    delays = [delay for s in scores for delay in s["delays"]]
    text = f"{peaks - found} false in {steps:,}"
    if not shifts:
        return text
    delay = f", {statistics.median(delays):g}" if delays else ""
    precision = f"{found / peaks:.2f}" if peaks else "–"
    return f"{found / shifts:.2f} / {precision}{delay}"


def print_learning(grouped):
    for kind in ("permuted", "split", "recurring"):
        print(
            f"\n{kind}\n| learner | final | anytime | parameters | ms a step | seeds |\n|---"
            + "|---" * 5
            + "|"
        )
        for (part, *names), values in grouped.items():
            if part == "learning" and names[0] == kind:
                rows = [value for _, value in values]
                print(
                    f"| {names[1]} | {spread(rows, 'final')} | {spread(rows, 'anytime')} | "
                    f"{statistics.mean(r['parameters'] for r in rows):,.0f} | "
                    f"{statistics.mean(r['ms_per_step'] for r in rows):.1f} | {len(rows)} |"
                )
                if "recovered" in rows[0]:
                    back = [round(100 * x, 1) for r in rows for x in r["recovered"]]
                    print("20 batches into a second visit:", back)
                    print("parameters after each visit:", [r["parameters_then"] for r in rows])


def spread(rows, key):
    values = [100 * row[key] for row in rows]
    if len(values) < 2:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


__all__ = ["print_tables"]
