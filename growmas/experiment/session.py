"""Session of a run: its directory held, its status reported, its checkpoints due."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import torch

from growmas.checkpoint import read_state, write_state
from growmas.checkpoint.files import exists
from growmas.checkpoint_files import NewerFormat
from growmas.config import Experiment
from growmas.distributed import all_max, together
from growmas.errors import CheckpointError, GrowmasError, HistoryError, RunError
from growmas.experiment.stopping import RunStopped, StopRequest
from growmas.history.reader import TopologyHistory
from growmas.history.tracker import TopologyTracker
from growmas.runs import RunDirectory, RunResult
from growmas.runs.directory import REMEDY, new_run_id
from growmas.runs.finding import HISTORY
from growmas.runs.observer import Ending, Observer, RunBegun, RunEnded, TaskDone
from growmas.runs.status import StatusWriter
from growmas.structure import Structure

State = dict[str, Any]


class Session:
    """A run in progress.

    Attributes:
        experiment: That is run.
        folder: Its directory, held for the life of the session.
        observer: Is told of every event.
        result: Everything known by now.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: RunDirectory,
        request: StopRequest,
        observer: Observer,
    ) -> None:
        self.experiment = experiment
        self.folder = folder
        self.observer = observer
        self._request = request
        self._status = StatusWriter(folder.path)
        self._due = _Due(experiment.checkpoint.steps, experiment.checkpoint.seconds)
        self._result: RunResult | None = None
        self._stepped = False

    @property
    def begun(self) -> bool:
        """True once the run has written its config, or has been resumed."""
        return self._result is not None

    @property
    def fruitless(self) -> bool:
        """True until the first training step is done."""
        return not self._stepped

    @property
    def result(self) -> RunResult:
        """Everything known by now."""
        if self._result is None:
            raise RunError("the run has not begun")
        return self._result

    def saved_state(self, *, resume: bool) -> State | None:
        """Return the state to continue from; None where the run begins anew.

        Raises:
            RunError: A file belongs to another run.
            CheckpointError: The checkpoint is damaged.
        """
        return together(self._read_state) if resume else None

    def _read_state(self) -> State | None:
        if not exists(self.folder.checkpoint):
            self._check_early()
            return None
        if not self.folder.history.exists():
            raise RunError(f"{self.folder.path} has lost its {HISTORY}: {REMEDY}")
        with _remedy(), TopologyHistory(self.folder.history) as history:
            run = history.meta().get("run", "")
        self.folder.check_id(run, HISTORY)
        try:
            state = read_state(self.folder.checkpoint)
        except NewerFormat:
            raise
        except CheckpointError as error:
            raise CheckpointError(f"{error}: {REMEDY}") from error
        if not isinstance(state.get("run"), dict):
            raise RunError(
                f"{self.folder.path} has a checkpoint of an earlier growmas that cannot be "
                "continued: start anew with --overwrite"
            )
        self.folder.check_id(str(state["run"].get("id", "")), "the checkpoint")
        if self.folder.metrics.exists():
            self.folder.check_id(self.folder.read_result().run_id, "metrics.json")
        return state

    def _check_early(self) -> None:
        """Say that a run without a checkpoint begins anew.

        Raises:
            RunError: It had one.
        """
        path = self.folder.path
        if self.folder.metrics.exists() and self.folder.read_result().learnt:
            raise RunError(f"{path} has learnt tasks, and has lost its checkpoint: {REMEDY}")
        if self.folder.config.exists():
            self.observer.note(f"{path} was stopped before its first checkpoint: it begins anew")

    def begin(self, result: RunResult) -> None:
        """Write the config and the first result of a run that begins."""
        self.folder.run_id = new_run_id()
        self._result = replace(result, run_id=self.folder.run_id)
        self.folder.begin(self.experiment, self._result)
        self._status.beat()

    def resume(self, state: State) -> None:
        """Continue with the result and the random state that a checkpoint holds."""
        saved = state["run"].get("result")
        result = self.folder.read_result() if saved is None else RunResult.read(saved)
        random = state["run"].get("random")
        if random is not None:
            torch.random.set_rng_state(random)
        self.update(result)

    def tell_begun(self, step: int, *, resumed: bool, ended: bool) -> None:
        """Tell the observer that the run begins, or goes on.

        Args:
            step: Training steps done so far.
            resumed: The run goes on.
            ended: A task ended at this step.
        """
        result = self.result
        last = TaskDone(len(result.accuracy) - 1, result, step) if ended else None
        config = self.experiment.model_dump(mode="json")
        self.observer.run_begun(RunBegun(self.folder.path, result, config, step, resumed, last))

    def open_history(self, structure: Structure, state: State | None) -> TopologyTracker:
        """Begin the history of a run, or continue it where the checkpoint was written."""
        path = self.folder.history
        if state is None:
            return TopologyTracker(structure, path, meta={"run": self.folder.run_id})
        with _remedy():
            return TopologyTracker.resume(structure, path, rewind=state["run"].get("event", True))

    def update(self, result: RunResult) -> None:
        """Replace the result, in the directory too."""
        self._result = replace(result, run_id=self.folder.run_id)
        self.folder.write_result(self._result)

    def save(self, state: State, tracker: TopologyTracker, extra: State) -> None:
        """Write a checkpoint, with the result so far and the last event of the history."""
        self.folder.check_held()
        run = {
            "id": self.folder.run_id,
            "event": tracker.last_event,
            "random": torch.random.get_rng_state(),
            **extra,
        }
        self.folder.sync()
        write_state(self.folder.checkpoint, {**state, "run": run}, parents=False)
        self.folder.check_held()
        self._due.start()

    def step_done(self) -> bool:
        """Return True if a checkpoint is due after a step; reports that the run goes on."""
        self._stepped = True
        self.beat()
        self.agree()
        return self._due.step() or self._request.number is not None

    def beat(self) -> None:
        """Report that the run goes on."""
        self.folder.check_held()
        self._status.beat()

    def agree(self) -> None:
        """Let all processes of a data-parallel run know that one of them is to stop."""
        self._request.number = all_max(self._request.number or 0) or None

    def check_stop(self) -> None:
        """End the run if a signal came.

        Raises:
            RunStopped: A signal came.
        """
        self._request.check()

    def ended(self, error: BaseException | None) -> None:
        """Report how the run ended, unless its directory is gone or is another's by now."""
        status, reason = _ending(error)
        with suppress(RunError):
            self.folder.check_held()
            self._status.report(status, reason)
        self.observer.run_ended(RunEnded(status, reason))


@contextmanager
def _remedy() -> Iterator[None]:
    """Say of a history that cannot be continued what to do."""
    try:
        yield
    except HistoryError as error:
        raise HistoryError(f"{error}; if that does not help, {REMEDY}") from error


def _ending(error: BaseException | None) -> tuple[Ending, str]:
    """Return how a run ended, and why."""
    if error is None:
        return "finished", ""
    if isinstance(error, RunStopped):
        return "stopped", error.reason
    if isinstance(error, KeyboardInterrupt):
        return "stopped", "interrupted"
    first = (str(error) or type(error).__name__).splitlines()[0]
    kind = "" if isinstance(error, GrowmasError) else f"{type(error).__name__}: "
    return "failed", f"{kind}{first}"


class _Due:
    """Tells when a checkpoint is due, by steps or by time."""

    def __init__(self, steps: int | None, seconds: float | None) -> None:
        self._steps, self._seconds = steps, seconds
        self.start()

    def start(self) -> None:
        self._count, self._time = 0, time.monotonic()

    def step(self) -> bool:
        self._count += 1
        if self._steps is not None and self._count >= self._steps:
            return True
        return self._seconds is not None and time.monotonic() - self._time >= self._seconds


def blame_directory(folder: RunDirectory, error: Exception) -> None:
    """Say of an error that the directory was moved or deleted, if that is the cause.

    Raises:
        RunError: The directory is gone.
    """
    try:
        folder.check_held()
    except RunError as gone:
        raise gone from error
