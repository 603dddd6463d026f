"""The commands that show a topology history, each a view of `growmas.terminal`."""

from pathlib import Path

from growmas.cli.output import Output
from growmas.cli.reading import open_history
from growmas.errors import RunError


def show(run: str, root: Path, output: Output, *, group: str | None = None) -> None:
    """Print the topology of a run."""
    from growmas.terminal import topology as view

    with open_history(run, root) as history:
        summary = view.summarise(history, group=group)
    output.show(
        lambda ascii: view.render_history(summary, ascii=ascii),
        lambda: view.as_data(summary),
        title=f"growmas show {run}",
    )


def log(
    run: str,
    root: Path,
    output: Output,
    *,
    group: str | None,
    task: str | None,
    number: int,
    reverse: bool,
) -> None:
    """Print the edits of a run and why they were made; all of them if `number` is 0."""
    from growmas.terminal import log as view

    with open_history(run, root) as history:
        summary = view.summarise(
            history, group=group, task=task, number=number or None, reverse=reverse
        )
    output.show(
        lambda ascii: view.render_log(summary, ascii=ascii),
        lambda: view.as_data(summary),
        title=f"growmas log {run}",
    )


def lifelines(run: str, root: Path, output: Output, *, group: str | None, every: bool) -> None:
    """Print the lives of a run's units."""
    from growmas.terminal import lifelines as view

    with open_history(run, root) as history:
        summary = view.summarise(history, group=group, every=every)
    output.show(
        lambda ascii: view.render_lifelines(summary, ascii=ascii),
        lambda: view.as_data(summary),
        title=f"growmas lifelines {run}",
    )


def diff(run: str, a: str, b: str | None, root: Path, output: Output) -> None:
    """Print the difference between two tasks of a run, or between two runs if `b` is None."""
    if b is None:
        _diff_runs(run, a, root, output)
        return
    from growmas.terminal import task_diff as view

    with open_history(run, root) as history:
        summary = view.summarise(history, a, b)
    output.show(
        lambda ascii: view.render_task_diff(summary, ascii=ascii),
        lambda: view.as_data(summary),
        title=f"growmas diff {run} {a} {b}",
    )


def _diff_runs(first: str, second: str, root: Path, output: Output) -> None:
    from growmas.terminal import run_diff as view

    with open_history(first, root) as one:
        try:
            other = open_history(second, root)
        except RunError as error:
            end = "" if str(error).endswith("?") else "."
            raise RunError(
                f"{error}{end} Two tasks of one run are compared by: growmas diff RUN TASK TASK"
            ) from error
        with other:
            summary = view.summarise(one, other, names=(first, second))
    output.show(
        lambda ascii: view.render_run_diff(summary, ascii=ascii),
        lambda: view.as_data(summary),
        title=f"growmas diff {first} {second}",
    )


def unit(run: str, name: str, root: Path, output: Output) -> None:
    """Print the life of a unit, given as GROUP#ID."""
    from growmas.terminal import unit as view
    from growmas.terminal.naming import read_unit

    with open_history(run, root) as history:
        summary = view.summarise(history, *read_unit(name))
    output.show(
        lambda ascii: view.render_unit(summary, ascii=ascii),
        lambda: view.as_data(summary),
        title=f"growmas unit {run} {name}",
    )


def survival(run: str, root: Path, output: Output, *, group: str | None) -> None:
    """Print what became of the units born in each task."""
    from growmas.terminal import survival as view

    with open_history(run, root) as history:
        summary = view.summarise(history, group=group)
    output.show(
        lambda ascii: view.render_survival(summary, ascii=ascii),
        lambda: view.as_data(summary),
        title=f"growmas survival {run}",
    )


def graph(
    run: str, root: Path, output: Output, *, task: str | None, group: str | None = None
) -> None:
    """Print the network as a task left it."""
    from growmas.terminal import network as view

    with open_history(run, root) as history:
        summary = view.summarise(history, task=task, group=group)
    output.show(
        lambda ascii: view.render_network(summary, ascii=ascii),
        lambda: view.as_data(summary),
        title=f"growmas graph {run}",
    )


def importance(run: str, root: Path, output: Output, *, group: str | None = None) -> None:
    """Print where the importance of a run's units lies."""
    from growmas.terminal import importance as view

    with open_history(run, root) as history:
        summary = view.summarise(history, group=group)
    output.show(
        lambda ascii: view.render_importance(summary, ascii=ascii),
        lambda: view.as_data(summary),
        title=f"growmas importance {run}",
    )
