"""The topology of a run in numbers and figures, read from its history."""

from growmas.history import TopologyHistory
from growmas.report.export import as_svg
from growmas.report.lineage import draw_lineage
from growmas.report.run_summary import read_summary
from growmas.report.widths import draw_widths
from growmas.runs import RunResult


def width_numbers(results: RunResult) -> dict[str, float]:
    """Return the width of every group, and the number of parameters."""
    widths = {f"widths/{name}": float(width) for name, width in results.units.items()}
    return {**widths, "parameters": float(results.parameters)}


def task_numbers(history: TopologyHistory, results: RunResult) -> dict[str, float]:
    """Return the numbers at the end of a task.

    Args:
        history: Of the run.
        results: With the accuracies after the task as the last row.

    Returns:
        accuracy, its mean over the tasks so far; accuracy/TASK of each; validation, where there
        are validation samples; parameters; and for each group widths/GROUP, births/GROUP and
        deaths/GROUP, the last two since the run began, without the units that it began with.
    """
    found: dict[str, float] = {}
    if results.average_accuracy is not None:
        found["accuracy"] = results.average_accuracy
        rows = zip(results.tasks, results.accuracy[-1], strict=False)
        found |= {f"accuracy/{task}": value for task, value in rows}
    if results.validation:
        found["validation"] = results.validation[-1]
    found |= width_numbers(results)
    for group, by_task in history.turnover().items():
        found[f"births/{group}"] = float(sum(each.born for each in by_task.values()))
        found[f"deaths/{group}"] = float(sum(each.died for each in by_task.values()))
    return found


def draw_topology(history: TopologyHistory, results: RunResult) -> dict[str, str]:
    """Return name -> SVG of the figures: widths over tasks, and births with who survived."""
    run = read_summary(history, results.name, results=results)
    figures = (draw_widths(run), draw_lineage(run))
    return {f"topology/{figure.key}": as_svg(figure) for figure in figures}
