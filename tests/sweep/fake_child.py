"""The process of a run as it is, but what it runs takes no time; the seed says how it goes."""

import dataclasses
import json
import math
import os
import signal
import time

from growmas.config import dump_config
from growmas.errors import RunError
from growmas.sweep import child

REFUSED, KILLED, BROKEN, SLOW, WARNED = 7, 8, 9, 10, 11


@dataclasses.dataclass
class Results:
    accuracy: list
    seed: int
    status: str = "finished"
    name: str = "digits-smoke"
    method: str = "growmas"
    stream: str = "digits split"
    scenario: str = "task"
    tasks: tuple = ("0/1", "2/3")
    parameters: int = 1000
    units: dict = dataclasses.field(default_factory=lambda: {"fc1": 8})
    seconds: float = 2.0
    cpu_seconds: float = 1.5
    started: float = 0.0
    validation: list = dataclasses.field(default_factory=list)


def write(experiment, folder, status="finished"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(dump_config(experiment))
    accuracy = [[0.9], [0.8 - 0.01 * experiment.seed, 0.7]]
    results = Results(accuracy, experiment.seed, status)
    if experiment.stream.validation:
        off = abs(math.log10(experiment.training.learning_rate) + 2)
        results.validation = [0.5, 0.9 - 0.1 * off]  # best at 0.01
    (folder / ".metrics").write_text(json.dumps(dataclasses.asdict(results)))
    (folder / ".metrics").replace(folder / "metrics.json")


def run(experiment, folder, state):
    if experiment.seed == REFUSED or experiment.training.epochs == REFUSED:
        raise RunError("there is no such luck\nand no other")
    if experiment.seed == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    if experiment.seed == BROKEN:
        raise ZeroDivisionError("by nought")
    if experiment.seed == WARNED and state == "new":
        write(experiment, folder, "unfinished")
        (folder / "checkpoint").mkdir()
        os.kill(os.getpid(), signal.SIGUSR2)  # as Slurm does
        time.sleep(60)
    if experiment.seed == SLOW:
        write(experiment, folder, "unfinished")
        time.sleep(60)
    write(experiment, folder)
    (folder / "state").write_text(state)


def preload():
    """Import nothing."""


child.run = run
main, execute = child.main, child.execute
