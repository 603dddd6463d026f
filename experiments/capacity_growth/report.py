"""Write the tables and figures of the README from the results of study.py.

python experiments/capacity_growth/report.py [--results results.jsonl]
"""

import argparse
import json
import statistics
from pathlib import Path

from ablation import ABLATION
from cases import STUDIES

HERE = Path(__file__).parent
SIZES = (50, 100, 200, 300, 500, 1000, 2000)
ACCURACIES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96)
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"


def spread(values):
    mean = f"{statistics.mean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def of(rows, study, method):
    return [
        row for row in rows
        if (row["study"], row["method"]) == (study.title, method) and not row["tuning"]
    ]  # fmt: skip


def words(setting):
    """Return the numbers of a setting with short names, those of nested records included."""
    short = {
        "learning_rate": "rate",
        "input_dropout": "dropout",
        "strength": "λ",
        "keep": "units",
        "temperature": "T",
    }
    skipped = ("factor", "after")
    said = []
    for key, value in setting.items():
        name = key.split(".")[-1]
        if isinstance(value, dict):
            said.append(words(value))
        elif name not in skipped and not isinstance(value, str):
            said.append(f"{short.get(name, name)} {value:g}")
    return ", ".join(said) or "–"


def table(rows, study):
    """Return a Markdown table with a line for each method that was run."""
    goal = f" (goal: {study.goal})" if study.goal else ""
    columns = "chosen on seed 0 | accuracy | forgetting | parameters | context | CPU s | seeds"
    lines = [f"**{study.title}**{goal}", "", f"| method | {columns} |", f"|{'---|' * 8}"]
    for case in study.cases:
        found = of(rows, study, case.method)
        if not found:
            continue
        lines.append(
            f"| {case.method} | {words(found[0]['setting'])} "
            f"| {spread([row['accuracy'] for row in found])} "
            f"| {spread([row['forgetting'] for row in found])} "
            f"| {statistics.mean(row['parameters'] for row in found):,.0f} "
            f"| {statistics.mean(row['context'] for row in found):,.0f} "
            f"| {statistics.median(row['cpu'] for row in found):.1f} | {len(found)} |"
        )
    return "\n".join([*lines, "", ""])


def write_tables(readme, tables):
    """Replace the tables between the two marks of the README."""
    before, _, rest = readme.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n{''.join(tables)}{END}{after}")


def size_figure(rows, study, path):
    """Draw accuracy against everything that is stored: parameters and numbers of the context."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.2))
    for case, marker in zip(study.cases, "osD^vPX*<>", strict=False):
        found = of(rows, study, case.method)
        if found:
            kept = [row["parameters"] + row["context"] for row in found]
            accuracy = [row["accuracy"] for row in found]
            error = statistics.stdev(accuracy) if len(found) > 1 else 0
            axes.errorbar(
                statistics.mean(kept) / 1000, statistics.mean(accuracy), error,
                fmt=marker, capsize=3, label=case.method,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("logit")  # shows the differences between good methods, and the bad ones too
    axes.set_xticks(SIZES, [f"{size:,}" for size in SIZES])
    axes.set_yticks(ACCURACIES, [f"{accuracy:g}" for accuracy in ACCURACIES])
    axes.minorticks_off()
    axes.set_xlabel("parameters and numbers of the context, thousands")
    axes.set_ylabel("average accuracy after the last task")
    axes.set_title(study.title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)


def course_figure(rows, study, methods, path):
    """Draw the accuracy of every task since it was learnt, in one panel for each method."""
    import matplotlib.pyplot as plt

    shown = [method for method in methods if of(rows, study, method)]
    figure, panels = plt.subplots(
        1, len(shown), figsize=(3.4 * len(shown), 3), sharey=True, squeeze=False
    )
    for axes, method in zip(panels[0], shown, strict=True):
        found = of(rows, study, method)
        matrices = [row["matrix"] for row in found]
        tasks = len(matrices[0])
        for task in range(tasks):
            learnt = range(task, tasks)
            course = [statistics.mean(m[time][task] for m in matrices) for time in learnt]
            colour = plt.get_cmap("viridis")(task / max(1, tasks - 1))
            axes.plot([time + 1 for time in learnt], course, marker=".", color=colour, lw=1.2)
        axes.set_title(method, fontsize=10)
        axes.set_xlabel("tasks learnt")
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("accuracy on each task")
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    parser.add_argument("--figures", type=Path, default=HERE)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.results.read_text().splitlines()]
    done = [s for s in (*STUDIES, ABLATION) if any(of(rows, s, case.method) for case in s.cases)]
    write_tables(HERE / "README.md", [table(rows, study) for study in done])
    shown = {study.title: study for study in STUDIES}["permuted × 10, 10 epochs"]
    size_figure(rows, shown, options.figures / "accuracy_against_size.svg")
    methods = ("finetune", "MAS, final width", "growmas", "growmas × Gaussians")
    course_figure(rows, shown, methods, options.figures / "accuracy_over_time.svg")


if __name__ == "__main__":
    main()
