"""Results of a loop of one's own, read from the history that it wrote."""

from datetime import datetime
from pathlib import Path

from growmas.errors import RunError
from growmas.history import TopologyHistory
from growmas.runs.finding import HISTORY
from growmas.runs.result import RunResult


def read_own_result(path: Path) -> RunResult:
    """Return what a history tells of a run.

    The facts stream, scenario, method, seed and stream_digest come from the `meta` that the
    tracker was given. Without a stream, `compare` cannot tell whether other runs are comparable.

    Args:
        path: Of the file that a `TopologyTracker` wrote.

    Raises:
        RunError: It has no accuracies.
        HistoryError: It cannot be read.
    """
    with TopologyHistory(path) as history, history.frozen():
        facts, tasks = history.meta(), history.tasks()
        rows, sizes, widths = history.accuracy(), history.sizes(), history.widths()
    accuracy = []
    for index, row in enumerate(rows):
        known = [each for each in row[: index + 1] if each is not None]
        if len(known) <= index:
            break
        accuracy.append(known)
    if not accuracy:
        raise RunError(
            f"{path} has no accuracies to compare: write them at the end of each task with "
            "tracker.snapshot(metrics={'accuracy/TASK': 0.9, …}), one for each task so far"
        )
    last = tasks[len(accuracy) - 1]
    size = sizes.get(last.name)
    begun, ended = (_seconds(each) for each in (tasks[0].started, last.finished))
    seed = facts.get("seed", "0")
    return RunResult(
        name=path.parent.name if path.name == HISTORY else path.name,
        method=facts.get("method", "own"),
        stream=facts.get("stream", ""),
        scenario=facts.get("scenario", ""),
        seed=int(seed) if seed.isdigit() else 0,
        tasks=[task.name for task in tasks],
        accuracy=accuracy,
        parameters=size.parameters if size else 0,
        units={group: of[last.name] for group, of in widths.items() if last.name in of},
        seconds=max(0.0, ended - begun),
        status="finished" if len(accuracy) == len(tasks) else "unfinished",
        started=begun,
        stream_digest=facts.get("stream_digest", ""),
    )


def _seconds(time: str | None) -> float:
    return datetime.fromisoformat(time).timestamp() if time else 0.0
