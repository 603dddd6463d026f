"""One run of a sweep, in a process of its own that ends when the sweep does.

The first line of the standard input of a process by itself says what to run, as JSON. The standard
input stays open while the sweep runs: its end tells this process that the sweep has ended.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from growmas.config import Experiment
from growmas.errors import GrowmasError
from growmas.runs.observer import Observer, TaskDone

REFUSED = 2
"""The exit code of a run that ended in an error of growmas, printed after `MARK`."""

STOPPED = 143
"""The exit code of a run that was asked to end and has saved its state."""

MARK = "error: "
_GRACE = 5.0  # seconds to finish a step and save


class LineProgress(Observer):
    """Observer of a run that prints a line per task."""

    def note(self, text: str) -> None:
        """Print a remark."""
        _say(text)

    def task_done(self, done: TaskDone) -> None:
        """Print the result of a task."""
        results = done.results
        row = results.accuracy[-1]
        units = "  ".join(f"{name} {width}" for name, width in results.units.items())
        _say(
            f"task {done.index + 1}/{len(results.tasks)}  {results.tasks[done.index]}  "
            f"accuracy {row[-1]:.3f}  mean so far {sum(row) / len(row):.3f}  "
            f"{units}  {results.parameters:,} parameters"
        )


def main() -> None:
    """Run the experiment that the standard input describes, and end with its exit code."""
    raise SystemExit(execute(json.loads(sys.stdin.buffer.readline())))


def preload() -> None:
    """Import what every run needs."""
    import torch._dynamo  # noqa: F401 (the first optimizer of a process imports it)

    import growmas.experiment  # noqa: F401


def execute(order: Mapping[str, str]) -> int:
    """Run the experiment of an order, and return the exit code of its process."""
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    experiment = Experiment.model_validate_json(order["experiment"])
    try:
        run(experiment, Path(order["folder"]), order["state"])
    except GrowmasError as error:
        sys.stderr.write(f"{MARK}{error}\n")
        return REFUSED
    return 0


def run(experiment: Experiment, folder: Path, state: str) -> None:
    """Run an experiment from its beginning, or from where it was stopped."""
    from growmas.experiment import run_experiment  # torch, when it is known that there is work

    progress = LineProgress()
    if state == "resumed":
        try:
            run_experiment(experiment, folder, resume=True, observer=progress)
        except GrowmasError as error:
            _say(f"cannot be resumed, begins anew: {error}")
            state = "again"
        else:
            return
    run_experiment(experiment, folder, overwrite=state == "again", observer=progress)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _end_with_the_sweep() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # finish the step and save
    time.sleep(_GRACE)
    os._exit(1)
