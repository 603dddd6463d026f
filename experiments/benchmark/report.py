"""The tables of README.md, by the comparison of settings over seeds that growmas itself uses."""

import re
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from cells import HELD_OUT, cell_of, score
from front_figure import front_svg
from scenarios import SCENARIOS

from growmas.runs.result import RunResult
from growmas.runs.study import Setting, compare_settings

HERE = Path(__file__).parent
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"


def write_report(rows, readme=HERE / "README.md"):
    """Replace what stands between the marks of the README, and draw the figures of sizes.

    Args:
        rows: Identity of a cell -> its row.
        readme: The file.
    """
    text = []
    for scenario in SCENARIOS:
        settings = settings_of(scenario, rows)
        if not settings:
            continue
        text += [f"### {scenario.title}", "", scenario.about, ""]
        if "|" not in scenario.baseline:
            text += table_of(settings, scenario.baseline)
            continue
        sizes = dict.fromkeys(each.name.partition(" | ")[2] for each in settings)
        for size in sizes:
            of_size = [each for each in settings if each.name.endswith(f" | {size}")]
            text += table_of(of_size, scenario.baseline.replace("SIZE", size))
        figure = f"{scenario.name}.svg"
        (readme.parent / figure).write_text(front_svg(scenario, settings), encoding="utf-8")
        text += [f"![{scenario.title}]({figure})", ""]
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    tables = "\n".join(text)
    readme.write_text(f"{before}{BEGIN}\n{tables}\n{END}{after}", encoding="utf-8")


def table_of(settings, baseline):
    """Return the lines of a table; without results of the baseline the best is in its place."""
    known = {each.name for each in settings}
    study = compare_settings(settings, baseline=baseline if baseline in known else None)
    against = shown(study.settings[study.baseline].name)
    lines = [
        f"| method | chosen | ACC [95%] | against {against} | p | forgetting | numbers kept "
        "| CPU s | seeds |",
        f"|{'---|' * 9}",
    ]
    for i, each in enumerate(study.settings):
        difference, interval = study.differences[i], study.intervals[i]
        p = "" if difference is None else _p(difference.adjusted)
        mark = "**" if difference is not None and difference.holds else ""
        apart = _share(difference.interval, "+") if difference else "–"
        cells = (
            shown(each.name),
            each.values["chosen"],
            _share(interval),
            f"{mark}{apart}{mark}",
            p,
            f"{100 * _mean(each, 'forgetting'):.1f}",
            f"{_mean(each, 'numbers_kept'):,.0f}",
            f"{_mean(each, 'cpu_seconds'):.1f}",
            str(len(each.runs)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def shown(name):
    """Return the name of a method as a table has it."""
    return name.replace(" | ", ", ")


def settings_of(scenario, rows):
    """Return a `Setting` for each method with finished cells, in the order of the scenario.

    Cells are found by what they resolve to, so that results of settings or streams that have
    changed since do not count.
    """
    found = []
    for method, settings in scenario.settings.items():
        tried = [rows.get(cell_of(scenario, settings[i], HELD_OUT)[1]) for i in scenario.tried]
        if None in tried:
            continue
        best = max(tried, key=score)["setting"]
        cells = [cell_of(scenario, best, [f"seed={seed}"])[1] for seed in scenario.seeds]
        done = [rows[cell] for cell in cells if "result" in rows.get(cell, ())]
        runs = [result_of(scenario, row) for row in done]
        if runs:
            found.append(Setting(method, {"method": method, "chosen": words(best)}, tuple(runs)))
    return found


def result_of(scenario, row):
    """Return the result of a row; a prequential accuracy takes the place of ACC."""
    run = RunResult.read(row["result"])
    if scenario.metric == "accuracy":
        return run
    return replace(run, accuracy=[*run.accuracy[:-1], [fmean(run.ahead)] * len(run.tasks)])


def words(setting):
    """Return what was chosen: the numbers of a setting that tuning compares, in short."""
    text = " ".join(setting)
    short = {"learning_rate=": "rate ", "strength: ": "λ ", "shrinkage: ": "shrinkage "}
    keys = (*short, "alpha: ", "sparsity: ", "prune: ", "projections: ", "dimensions: ")
    said = []
    for key in keys:
        for value in re.findall(rf"(?:^|[ .{{]){key}([\d.e-]+|null)", text.split("context:")[0]):
            shown = "by GCV" if value == "null" else f"{float(value):g}"
            said.append(f"{short.get(key, key.rstrip(': ') + ' ')}{shown}")
        if key == "learning_rate=" and "context:" in text:
            said += [f"rate {float(v):g}" for v in re.findall(r"learning_rate=([\d.e-]+)", text)]
    return ", ".join(dict.fromkeys(said)) or "–"


def _mean(setting, name):
    return fmean(getattr(run, name) for run in setting.runs)


def _share(interval, sign=""):
    mean = f"{100 * interval.mean:{sign}.1f}"
    if interval.low is None or interval.low == interval.high:
        return mean
    return f"{mean} [{100 * interval.low:{sign}.1f}, {100 * interval.high:{sign}.1f}]"


def _p(value):
    if value is None:
        return "–"
    return "<.001" if value < 0.001 else f"{value:.3f}"
