"""The directory of one run: made, checked and written."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from growmas.config import Experiment, differing_keys, dump_config, load_config
from growmas.errors import RunError
from growmas.runs.finding import HISTORY
from growmas.runs.result import METRICS, RunResult, read_result
from growmas.runs.trace import TRACE

CONFIG = "config.yaml"
CHECKPOINT = "checkpoint"


class RunDirectory:
    """The files of one run.

    Attributes:
        path: Of the directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def config(self) -> Path:
        """The experiment with all defaults."""
        return self.path / CONFIG

    @property
    def metrics(self) -> Path:
        """The result so far, rewritten after every task."""
        return self.path / METRICS

    @property
    def history(self) -> Path:
        """The topology, written as it changes."""
        return self.path / HISTORY

    @property
    def checkpoint(self) -> Path:
        """The last state."""
        return self.path / CHECKPOINT

    @property
    def trace(self) -> Path:
        """Losses and shifts of a task-free run, step by step."""
        return self.path / TRACE

    def check_new(self, *, overwrite: bool) -> None:
        """Refuse a path where a run cannot begin.

        Raises:
            RunError: Something is there; with `overwrite`, something that is not a run.
        """
        if not self.path.exists():
            return
        if not overwrite:
            raise RunError(
                f"{self.path} exists: name another with --out, or replace it with --overwrite"
            )
        if not self.metrics.exists():
            raise RunError(
                f"{self.path} exists and is not a run of growmas: name another with --out"
            )

    def check_resumable(self, experiment: Experiment) -> None:
        """Refuse to continue what is not a run, or a run of another experiment.

        Raises:
            RunError: Says what differs.
        """
        if not self.metrics.exists():
            raise RunError(f"{self.path} is not a run that could be resumed")
        other = differing_keys(load_config(self.config), experiment)
        if other:
            raise RunError(
                f"{self.path} was begun with another config: {', '.join(other)} differ; resume it "
                f"with growmas run {self.config} --out {self.path} --resume"
            )

    def begin(self, experiment: Experiment, result: RunResult, *, overwrite: bool) -> None:
        """Make the directory, with the config and the first result.

        Raises:
            RunError: Something is there already, or it cannot be written.
        """
        self.check_new(overwrite=overwrite)  # another run may have begun meanwhile
        try:
            if self.path.exists():
                shutil.rmtree(self.path)
            self.path.mkdir(parents=True)
            self.config.write_text(dump_config(experiment), encoding="utf-8")
        except OSError as error:
            raise self._unwritten(error) from error
        self.write_result(result)

    def read_result(self) -> RunResult:
        """Read the result so far.

        Raises:
            RunError: It cannot be read.
        """
        return read_result(self.path)

    def write_result(self, result: RunResult) -> None:
        """Replace the result.

        Raises:
            RunError: It cannot be written.
        """
        fresh = self.path / f".{METRICS}.new"
        try:
            fresh.write_text(json.dumps(asdict(result), indent=1), encoding="utf-8")
            fresh.replace(self.metrics)
        except OSError as error:
            raise self._unwritten(error) from error

    def _unwritten(self, error: OSError) -> RunError:
        return RunError(
            f"the run {self.path} could not be written: {error.strerror or error}; make room "
            "there, or name another place with --out"
        )
