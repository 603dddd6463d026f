"""`growmas run`."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from growmas.config import Experiment, load_config
from growmas.distributed import is_main, process_group
from growmas.errors import GrowmasError
from growmas.experiment import run_experiment
from growmas.runs import compare
from growmas.runs.result import METRICS
from growmas.terminal.comparison import render_comparison
from growmas.terminal.progress import RunProgress
from growmas.terminal.tables import BriefConsole
from growmas.visible import visible


def run_config(
    config: Path,
    overrides: Sequence[str],
    *,
    out: Path | None,
    root: Path,
    overwrite: bool,
    resume: bool = False,
    imports: Sequence[Path] = (),
) -> None:
    """Run an experiment; show its progress, and a table at the end."""
    parallel = int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ  # torchrun
    try:
        experiment = load_config(config, overrides, imports=imports)
    except GrowmasError as error:
        if parallel and os.environ["RANK"] != "0":  # process 0 prints it
            raise SystemExit(2) from error
        raise
    folder = out or root / experiment.name
    if parallel:
        with process_group(experiment.device) as device:
            experiment = experiment.model_copy(update={"device": device})
            if not is_main():
                _follow(experiment, folder, overwrite=overwrite, resume=resume)
                return
            _run(experiment, folder, overwrite=overwrite, resume=resume)
        return
    _run(experiment, folder, overwrite=overwrite, resume=resume)


def _follow(experiment: Experiment, folder: Path, *, overwrite: bool, resume: bool) -> None:
    """Work for a data-parallel run, about which process 0 tells."""
    try:
        run_experiment(experiment, folder, overwrite=overwrite, resume=resume)
    except GrowmasError as error:
        raise SystemExit(2) from error


def _run(experiment: Experiment, folder: Path, *, overwrite: bool, resume: bool) -> None:
    first = not any(folder.parent.glob(f"*/{METRICS}"))  # then the table is explained
    console = Console(highlight=False) if first else BriefConsole(highlight=False)
    tasks, epochs = experiment.stream.task_count, experiment.training.epochs
    with RunProgress(console, tasks=tasks, epochs=epochs) as progress:
        result = run_experiment(
            experiment, folder, overwrite=overwrite, resume=resume, observer=progress
        )
    plain = not console.encoding.startswith("utf")
    console.print(render_comparison(compare([result]), ascii=plain))
    command = f"growmas show {shlex.quote(str(folder))}"
    text = f"written to {folder}; look at it with: {command}"
    console.print(visible(text), markup=False, soft_wrap=True)
