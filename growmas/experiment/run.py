"""A run of one experiment, from its config to a run directory."""

import os
from pathlib import Path

import torch

from growmas.config import Experiment, TaskFreeConfig
from growmas.errors import RunError
from growmas.experiment.observer import Observer
from growmas.experiment.task_aware import run_task_aware
from growmas.experiment.task_free import run_task_free
from growmas.runs import RunDirectory, RunResult


def run_experiment(
    experiment: Experiment,
    directory: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    resume: bool = False,
    observer: Observer | None = None,
) -> RunResult:
    """Run an experiment and write its run directory.

    Args:
        experiment: What to run.
        directory: The run directory; it must not exist.
        overwrite: Replace a run directory that exists (never anything else).
        resume: Continue a stopped run over a task-free stream from its last checkpoint; its
            numbers equal those of an uninterrupted run.
        observer: Is told of every epoch and every task.

    Raises:
        RunError: The directory exists, the device is not available, or the loss became NaN or
            infinite.
        GrowmasError: Raised by the parts.
    """
    folder = RunDirectory(Path(directory))
    free = isinstance(experiment.stream, TaskFreeConfig)
    if resume and overwrite:
        raise RunError("a run is either resumed or replaced: give one of resume and overwrite")
    if resume and not free:
        raise RunError("only runs over a task-free stream can be resumed: use --overwrite")
    if resume:
        folder.check_resumable(experiment)
    else:
        folder.check_new(overwrite=overwrite)
    _check_device(experiment.device)
    torch.set_num_threads(experiment.threads)
    if free:
        return run_task_free(
            experiment, folder, overwrite=overwrite, resume=resume, observer=observer
        )
    return run_task_aware(experiment, folder, overwrite=overwrite, observer=observer)


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RunError(f"device {device!r} cannot be used here: {error}") from error
