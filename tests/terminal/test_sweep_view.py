import io
import json
import math
from collections.abc import Callable

import pytest
from printing import printed
from rich.console import Console

from growmas.runs import RunResult
from growmas.sweep.summary import SweepRun, as_data, summarise
from growmas.sweep.tuning import Trial
from growmas.terminal.sweep import render_plan, render_sweep
from growmas.terminal.sweep_progress import SweepProgress
from growmas.terminal.tuning import render_trials


def _run(setting: dict[str, str], last: list[float] | None = None, **changes: object) -> SweepRun:
    """A run whose accuracies at the end are `last`; None for one that has not begun."""
    name = ",".join(f"{key}={value}" for key, value in setting.items())
    message = str(changes.pop("message", ""))
    if last is None:
        return SweepRun(name, setting, message)
    fields = {
        "name": "digits-smoke",
        "method": "mas",
        "stream": "digits split",
        "scenario": "task",
        "seed": int(setting.get("seed", "0")),
        "tasks": ["0/1", "2/3"],
        "accuracy": [[0.99], last],
        "parameters": 12345,
        "units": {"fc1": 96},
        "seconds": 61.24,
        "status": "finished",
        "cpu_seconds": 10.0 + last[0],
    } | changes
    return SweepRun(name, setting, message, RunResult.read(fields))


def _grid(strength: str, prune: str, seed: int) -> dict[str, str]:
    return {
        "method.strength": strength,
        "method.prune": prune,
        "training.epochs": "5",
        "seed": str(seed),
    }


RUNS = [
    _run(_grid("0.1", "null", 1), [0.90, 0.95]),
    _run(_grid("0.1", "null", 2), [0.94, 0.97]),
    _run(_grid("0.1", "null", 3), [0.89, 0.93]),
    _run(_grid("0.1", "{ratio: 0.05}", 1), [0.97, 0.95], parameters=2_000_000),
    _run(_grid("0.1", "{ratio: 0.05}", 2), [0.96, 0.93], parameters=1_900_000),
    _run(_grid("0.1", "{ratio: 0.05}", 3), [0.5, 0.5], message="memory ran out"),
    _run(_grid("10", "null", 1), [1.0, 1.0]),
    _run(_grid("10", "null", 2), [0.5], accuracy=[[0.5]], status="unfinished"),
    _run(_grid("10", "null", 3)),
    _run(_grid("10", "{ratio: 0.05}", 1)),
]


@pytest.mark.parametrize("ascii", [False, True])
@pytest.mark.parametrize("width", [80, 120])
def test_golden(width: int, ascii: bool, check_golden: Callable[[str, str], None]) -> None:
    text = printed(render_sweep(summarise(RUNS), ascii=ascii), width)
    assert max(map(len, text.splitlines())) <= width
    assert not ascii or text.isascii()
    check_golden(f"sweep_{width}_{'ascii' if ascii else 'unicode'}", text)


def test_printed_numbers_are_means_and_deviations_of_the_finished_runs() -> None:
    text = printed(render_sweep(summarise(RUNS), ascii=True), 120)
    row = next(line for line in text.splitlines() if line.startswith("0.1") and "null" in line)
    means = [(0.90 + 0.95) / 2, (0.94 + 0.97) / 2, (0.89 + 0.93) / 2]
    mean = sum(means) / 3
    deviation = math.sqrt(sum((value - mean) ** 2 for value in means) / 2)
    assert f"{100 * mean:.1f} +- {100 * deviation:.1f}" in row
    lost = [0.09, 0.05, 0.10]
    assert f"{100 * sum(lost) / 3:.1f} +- " in row
    row = next(line for line in text.splitlines() if line.startswith("0.1") and "ratio" in line)
    assert "2/3" in row  # what failed does not count, whatever it had reached
    assert f"1,950,000 +- {50_000 * math.sqrt(2):,.0f}" in row


def test_no_setting_is_called_the_best() -> None:
    data = json.loads(json.dumps(as_data(summarise(RUNS))))
    assert not [key for setting in data["settings"] for key in setting if "best" in key]


def test_data_hold_every_run_and_setting() -> None:
    data = json.loads(json.dumps(as_data(summarise(RUNS))))
    assert [run["status"] for run in data["runs"]] == [
        *["finished"] * 5, "failed", "finished", "unfinished", "waiting", "waiting",
    ]  # fmt: skip
    assert [setting["seeds"] for setting in data["settings"]] == [[1, 2, 3], [1, 2], [1], []]
    assert [setting["runs"] for setting in data["settings"]] == [3, 3, 3, 1]
    assert "seed" not in data["settings"][0]["values"]
    assert data["settings"][2]["average_accuracy"]["deviation"] is None
    assert data["settings"][3]["average_accuracy"] is None


def test_a_sweep_over_seeds_alone_is_one_row() -> None:
    text = printed(render_sweep(summarise(_run({"seed": str(i)}, [0.9, 0.9]) for i in (1, 2))), 80)
    assert text.splitlines()[2].startswith("all         2  90.0 ± 0.0")
    assert "seeds 1, 2" in text


def test_a_plan_counts_what_is_left() -> None:
    from pathlib import Path

    runs = [("seed=1", "finished"), ("seed=2", "again"), ("seed=3", "new")]
    lines = printed(render_plan(Path("runs/x"), runs), 80).splitlines()
    assert lines[:3] == ["finished  seed=1", "again     seed=2", "new       seed=3"]
    assert lines[-1] == "in runs/x: 2 to run, 1 finished; nothing was started"


def test_trials_are_ranked_by_validation_data_alone() -> None:
    accuracies = {"0.1": 0.4, "1": 0.9, "10": 0.7}
    trials = [
        Trial(
            {"method.strength": value},
            _run({"method.strength": value}, [1 - held] * 2, validation=[0.5, held]),
        )
        for value, held in accuracies.items()
    ]
    failed = Trial({"method.strength": "100"}, _run({"method.strength": "100"}, message="NaN"))
    text = printed(render_trials([*trials, failed, trials[0]], seed=0, ascii=True), 80)
    rows = [line.split() for line in text.splitlines()]
    assert rows[0] == ["strength", "validation"]
    assert rows[2:6] == [["1", "90.0"], ["10", "70.0"], ["0.1", "40.0"], ["100", "failed"]]
    assert "4 trials on seed 0" in text
    assert "1 failed, which count as the worst" in text


def test_progress_is_a_line_for_each_run_without_a_terminal() -> None:
    file = io.StringIO()
    with SweepProgress(Console(file=file, width=40), runs=5, finished=2) as progress:
        for run in (RUNS[0], RUNS[5]):
            progress.begun(run.name)
        progress.ended(RUNS[5])
        progress.ended(RUNS[0])
    lines = file.getvalue().splitlines()
    assert [line for line in lines if line] == [  # rich 14 ends with an empty one
        f"3/5  {RUNS[5].name}  failed  memory ran out",
        f"4/5  {RUNS[0].name}  finished  accuracy 0.925  forgetting 0.090  12,345 parameters  "
        "10.9 CPU seconds",
    ]


def test_progress_in_a_terminal_says_what_is_at_work() -> None:
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True)
    with SweepProgress(console, runs=5, finished=0) as progress:
        progress.begun(RUNS[0].name)
        progress.begun(RUNS[1].name)
        progress._progress.refresh()
    assert "and 1 more" in file.getvalue()
    assert "0/5" in file.getvalue()
