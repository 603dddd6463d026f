"""Sessions, held for the life of a run."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from growmas.config import Experiment
from growmas.distributed import is_main, together
from growmas.errors import ConfigError, GrowmasError, RunError
from growmas.experiment.following import FollowingSession
from growmas.experiment.randomness import derived_seed
from growmas.experiment.session import Session, blame_directory
from growmas.experiment.stopping import stop_requests
from growmas.runs import RunDirectory
from growmas.runs.directory import read_run_id
from growmas.runs.observer import Observer


@contextmanager
def session(
    experiment: Experiment, folder: RunDirectory, *, resume: bool, observer: Observer
) -> Iterator[Session]:
    """Hold the directory of a run, note signals, and report how the run ends.

    In a data-parallel run only process 0 holds the directory.
    """
    folder.run_id = read_run_id(folder.path) if resume else ""
    kind = Session if is_main() else FollowingSession
    with ExitStack() as held:
        together(lambda: _hold(folder, held))
        request = held.enter_context(stop_requests())
        held.enter_context(torch.random.fork_rng(devices=[]))
        torch.random.manual_seed(derived_seed(experiment.seed, "global"))
        run = kind(experiment, folder, request, observer)
        try:
            yield run
        except BaseException as error:
            if run.begun or resume:
                run.ended(error)
            elif is_main():
                folder.leave_nothing()
            if isinstance(error, OSError | GrowmasError) and run.begun and is_main():
                blame_directory(folder, error)
            fruitless = run.begun and run.fruitless and not resume
            if isinstance(error, ConfigError) and fruitless and is_main():
                # A mistake in what the config names, at the first step. Other processes may not
                # have made it, so that there is no collective call here.
                folder.clear()
                folder.leave_nothing()
            if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
                raise RunError(
                    f"the run {folder.path} could not be written: {error.strerror or error}; make "
                    "room there, or name another place with --out"
                ) from error
            raise
        run.ended(None)


def _hold(folder: RunDirectory, held: ExitStack) -> None:
    held.enter_context(folder.lock())
