"""Runs killed by SIGKILL before some of their file operations; `experiments/crash` kills more."""

import os
import sys
from pathlib import Path

import pytest

from growmas.config import load_config
from growmas.sweep import plan_sweep

sys.path.append(str(Path(__file__).parents[2] / "experiments" / "crash"))
import kills
import runs

CASES = {
    "aware": ("digits_smoke", [
        "stream.tasks=2", "stream.limit=10", "training.epochs=1", "model.hidden=[8, 8]",
        "checkpoint.every=2",
    ]),
    "fixed": ("task_free_smoke", [
        "stream.tasks=2", "stream.of=permuted", "stream.scenario=domain", "model.hidden=[8]",
        "stream.steps_per_task=12", "checkpoint.every=5",
        "method={kind: mas, task_free: {buffer: 5, steps: 2}}",
    ]),
    "free": ("task_free_smoke", [
        "stream.tasks=2", "stream.of=permuted", "stream.scenario=domain", "model.hidden=[8]",
        "stream.steps_per_task=12", "checkpoint.every=5",
    ]),
}  # fmt: skip


pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of fork beside threads
]


@pytest.mark.parametrize("case", CASES)
def test_a_killed_run_comes_to_what_one_left_alone_does(case: str, tmp_path: Path) -> None:
    killed = runs.run_case(load_config(*CASES[case]))
    runs.warm()
    assert kills.attempt(killed.work(tmp_path / "whole")) == 0
    whole = killed.outcome(tmp_path / "whole")
    done = list(kills.kill_at_every_operation(killed, tmp_path, whole, every=47, first=7))
    assert sum(run.kills for run in done)
    assert [text for run in done for text in run.wrong] == []


def test_a_killed_sweep_comes_to_what_its_runs_do_alone(tmp_path: Path) -> None:
    overrides = [
        *("seed=0..1", "stream.tasks=2", "stream.limit=10", "training.epochs=1"),
        "checkpoint.every=2",
    ]
    runs.warm()
    whole = {}
    for run in plan_sweep("digits_smoke", overrides, directory=tmp_path / "plan").runs:
        alone = runs.run_case(run.experiment)
        assert kills.attempt(alone.work(tmp_path / "alone" / run.name)) == 0
        whole[run.name] = alone.outcome(tmp_path / "alone" / run.name)
    sweep = runs.sweep_case("digits_smoke", overrides)
    done = list(kills.kill_at_random(sweep, tmp_path, whole, times=1, seconds=1, attempts=1))
    assert sum(run.kills for run in done)
    assert [text for run in done for text in run.wrong] == []
