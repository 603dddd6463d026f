"""A run of one experiment, from its config to a run directory."""

import os

import torch

from growmas.config import Experiment, TaskFreeConfig
from growmas.distributed import is_main, size, together
from growmas.errors import ConfigError, RunError
from growmas.experiment.blame import blame
from growmas.experiment.limits import check_device, check_parallel, check_threads
from growmas.experiment.sessions import session
from growmas.experiment.task_aware import run_task_aware
from growmas.experiment.task_free import run_task_free
from growmas.loggers import build_loggers
from growmas.paths import as_path
from growmas.runs import RunDirectory, RunResult
from growmas.runs.directory import read_run_id
from growmas.runs.lock import refuse_locked
from growmas.runs.observer import Observer, Observers
from growmas.runs.result import METRICS


def run_experiment(
    experiment: Experiment,
    directory: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    resume: bool = False,
    observer: Observer | None = None,
) -> RunResult:
    """Run an experiment and write its run directory.

    Within a process group of `torch.distributed`, every process makes the call: each trains on its
    rows of every batch, and process 0 writes.

    Args:
        experiment: What to run.
        directory: The run directory; it must not exist.
        overwrite: Replace a run directory that exists (never anything else).
        resume: Continue a stopped run from its last checkpoint; its numbers equal those of an
            uninterrupted run. One that was stopped before begins anew.
        observer: Is told of every event, in addition to the loggers of `log`; in process 0.

    Raises:
        RunError: The directory exists or is in use, the device is not available, or the loss
            became NaN or infinite.
        RunStopped: SIGTERM, SIGUSR1 or SIGINT came; the state is saved.
        ConfigError: `experiment` is something else.
        GrowmasError: Raised by the parts.
    """
    if resume and overwrite:
        raise RunError("a run is either resumed or replaced: give one of resume and overwrite")
    if not isinstance(experiment, Experiment):
        raise ConfigError(
            f"expected an Experiment, as load_config returns it, got {type(experiment).__name__}"
        )
    folder = RunDirectory(as_path(directory, RunError, "a run directory"))
    observers = [Observers([observer if is_main() else None])]
    if size() > 1:
        check_parallel(experiment)
    with blame(experiment, "threads"):
        check_threads(experiment.threads)
    with blame(experiment, "device"):
        check_device(experiment.device)

    def prepare() -> RunResult | None:
        done = _finished(experiment, folder, overwrite, resume, observers[0])
        if done is None:
            with blame(experiment, "log"):
                say, imports = observers[0].note, experiment.imports
                loggers = build_loggers(experiment.log, imports=imports, say=say)
            observers.append(Observers([observer, *loggers]))
        return done

    done = together(prepare)
    if done is not None:
        return done
    torch.set_num_threads(experiment.threads)
    learn = run_task_free if isinstance(experiment.stream, TaskFreeConfig) else run_task_aware
    with session(experiment, folder, resume=resume, observer=observers[-1]) as run:
        if not resume:  # another run may have begun meanwhile
            together(lambda: folder.check_new(overwrite=overwrite or folder.is_empty))
        return learn(run, resume=resume)


def _finished(
    experiment: Experiment, folder: RunDirectory, overwrite: bool, resume: bool, told: Observer
) -> RunResult | None:
    """Return the result of a finished run that is to be resumed; None where work is left.

    Raises:
        RunError: The directory cannot be used.
    """
    if not resume:
        folder.check_new(overwrite=overwrite)
        return None
    refuse_locked(folder.path)
    folder.check_resumable(experiment)
    done = folder.read_result() if folder.metrics.exists() else None
    if done is not None and done.finished:
        folder.run_id = read_run_id(folder.path)
        folder.check_id(done.run_id, METRICS)
        told.note(f"{folder.path} is finished: nothing is left to resume")
        return done
    if not folder.path.exists():
        told.note(f"{folder.path} does not exist yet: the run begins")
    return None
