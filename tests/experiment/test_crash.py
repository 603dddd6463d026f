"""Runs killed by SIGKILL before some of their file operations; `experiments/crash` kills more."""

import os
import sys
from pathlib import Path

import pytest

from growmas.config import load_config
from growmas.data import load_source

sys.path.append(str(Path(__file__).parents[2] / "experiments" / "crash"))
import kills

CASES = {
    "aware": ("digits_smoke", [
        "stream.tasks=2", "stream.limit=10", "training.epochs=1", "model.hidden=[8, 8]",
        "checkpoint.every=2",
    ]),
    "free": ("task_free_smoke", [
        "stream.tasks=2", "stream.of=permuted", "stream.scenario=domain", "model.hidden=[8]",
        "stream.steps_per_task=12", "checkpoint.every=5",
    ]),
}  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork beside threads
@pytest.mark.parametrize("case", CASES)
def test_a_killed_run_comes_to_what_one_left_alone_does(case: str, tmp_path: Path) -> None:
    config, overrides = CASES[case]
    experiment = load_config(config, overrides)
    load_source("digits")  # once, before the forks
    assert kills.attempt(kills.run(experiment, tmp_path / "whole")) == 0
    whole = kills.outcome(tmp_path / "whole")
    killed, wrong = kills.kill_at_every_operation(experiment, tmp_path, whole, every=31, first=7)
    assert killed
    assert wrong == []
