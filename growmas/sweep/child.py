"""One run of a sweep, in a process of its own that ends when the sweep does.

The first line of the standard input says what to run, as JSON; the rest of it is the life line: it
ends when the sweep ends, however that came.
"""

import json
import os
import sys
import threading
from pathlib import Path

from rich.console import Console

from growmas.config import Experiment
from growmas.errors import GrowmasError
from growmas.terminal.progress import RunProgress

REFUSED = 2
"""The exit code of a run that ended in an error of growmas, told after `MARK`."""

MARK = "error: "


def main() -> None:
    """Run what the standard input says, and end with its exit code."""
    order = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    experiment = Experiment.model_validate_json(order["experiment"])
    try:
        _run(experiment, Path(order["folder"]), order["state"])
    except GrowmasError as error:
        sys.stderr.write(f"{MARK}{error}\n")
        raise SystemExit(REFUSED) from None


def _run(experiment: Experiment, folder: Path, state: str) -> None:
    from growmas.run import run_experiment  # torch, when it is known that there is work

    tasks, epochs = experiment.stream.tasks, experiment.training.epochs
    console = Console(highlight=False)
    with RunProgress(console, tasks=tasks, epochs=epochs) as progress:
        if state == "resumed":
            try:
                run_experiment(experiment, folder, resume=True, observer=progress)
            except GrowmasError as error:
                console.print(f"cannot be resumed, begins anew: {error}", markup=False)
                state = "again"
            else:
                return
        run_experiment(experiment, folder, overwrite=state == "again", observer=progress)


def _end_with_the_sweep() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)
