"""A run of one experiment, from its config to a run directory."""

import os
from pathlib import Path

import torch

from growmas.config import Experiment, TaskFreeConfig
from growmas.errors import RunError
from growmas.experiment.blame import blame
from growmas.experiment.limits import check_device, check_threads
from growmas.experiment.session import session
from growmas.experiment.task_aware import run_task_aware
from growmas.experiment.task_free import run_task_free
from growmas.loggers import build_loggers
from growmas.runs import RunDirectory, RunResult
from growmas.runs.lock import refuse_locked
from growmas.runs.observer import Observer, Observers


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
        resume: Continue a stopped run from its last checkpoint; its numbers equal those of an
            uninterrupted run. One that was stopped before begins anew.
        observer: Is told of every event, in addition to the loggers of `log`.

    Raises:
        RunError: The directory exists or is in use, the device is not available, or the loss
            became NaN or infinite.
        RunStopped: SIGTERM, SIGUSR1 or SIGINT came; the state is saved.
        GrowmasError: Raised by the parts.
    """
    folder = RunDirectory(Path(directory))
    observer = observer or Observer()
    if resume and overwrite:
        raise RunError("a run is either resumed or replaced: give one of resume and overwrite")
    if resume:
        refuse_locked(folder.path)
        folder.check_resumable(experiment)
        done = folder.read_result() if folder.metrics.exists() else None
        if done is not None and done.finished:
            observer.note(f"{folder.path} is finished: nothing is left to resume")
            return done
        if not folder.path.exists():
            observer.note(f"{folder.path} does not exist yet: the run begins")
    else:
        folder.check_new(overwrite=overwrite)
    check_threads(experiment.threads)
    check_device(experiment.device)
    torch.set_num_threads(experiment.threads)
    with blame(experiment, "log"):
        loggers = build_loggers(experiment.log, imports=experiment.imports, say=observer.note)
    observer = Observers([observer, *loggers])
    learn = run_task_free if isinstance(experiment.stream, TaskFreeConfig) else run_task_aware
    with session(experiment, folder, resume=resume, observer=observer) as run:
        if not resume:
            folder.check_new(overwrite=overwrite or folder.is_empty)  # it may have begun meanwhile
        return learn(run, resume=resume)
