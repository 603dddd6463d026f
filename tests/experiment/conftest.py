"""Fixtures of runs, and the folder of tests as the place where `own_code` is found.

torchvision is importable where it is installed.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import vision_operators  # noqa: F401

from growmas.config import Experiment
from growmas.experiment import run_experiment
from growmas.experiment.session import Session
from growmas.runs import RunResult

sys.path.append(str(Path(__file__).parent))


class Stopped(Exception):
    """Ends a run in the middle."""


@pytest.fixture
def run_with_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Experiment, Path, int], tuple[RunResult, int]]:
    """Function that runs an experiment, and returns its result and how often it was stopped.

    The run ends after each so many steps, counted over all attempts, and is resumed.
    """

    def run(experiment: Experiment, folder: Path, every: int) -> tuple[RunResult, int]:
        steps = 0

        def stopping(session: Session, original: Callable[..., bool] = Session.step_done) -> bool:
            nonlocal steps
            steps += 1
            found = original(session)
            if steps % every == every - 1:
                raise Stopped
            return found

        with monkeypatch.context() as patch:
            patch.setattr(Session, "step_done", stopping)
            for stops in range(30):
                try:
                    return run_experiment(experiment, folder, resume=stops > 0), stops
                except Stopped:
                    continue
        raise AssertionError("the run does not get on")

    return run
