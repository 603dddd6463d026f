"""`growmas run`."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from growmas.config import load_config
from growmas.experiment import run_experiment
from growmas.runs import compare
from growmas.terminal.comparison import render_comparison
from growmas.terminal.progress import RunProgress


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
    experiment = load_config(config, overrides, imports=imports)
    folder = out or root / experiment.name
    console = Console(highlight=False)
    tasks, epochs = experiment.stream.task_count, experiment.training.epochs
    with RunProgress(console, tasks=tasks, epochs=epochs) as progress:
        result = run_experiment(
            experiment, folder, overwrite=overwrite, resume=resume, observer=progress
        )
    plain = not console.encoding.startswith("utf")
    console.print(render_comparison(compare([result]), ascii=plain))
    command = f"growmas show {shlex.quote(str(folder))}"
    console.print(f"written to {folder}; look at it with: {command}", markup=False, soft_wrap=True)
