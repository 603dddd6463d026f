"""The memory of replay: as it was after a checkpoint, and in a run that was stopped."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from growmas import Reservoir
from growmas.config import load_config
from growmas.data import Split, Task
from growmas.experiment import run_experiment
from growmas.training.precision import Precision

OWN = Path(__file__).parents[1] / "experiment" / "own_code.py"
TASK = Task("a", 0, Split(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64)),
            Split(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64)), (0,), 0)  # fmt: skip


def filled(memory: Reservoir, start: int, stop: int) -> Reservoir:
    for first in range(start, stop, 10):
        inputs = torch.arange(first, first + 10.0)[:, None]
        memory.add(inputs, torch.arange(10), TASK)
    return memory


def test_a_restored_memory_goes_on_as_the_first_one() -> None:
    whole = filled(Reservoir(7), 0, 200)
    half = filled(Reservoir(7), 0, 100)
    restored = Reservoir(7, seed=5)
    restored.load_state_dict(half.state_dict())
    filled(restored, 100, 200)
    (one,), (other,) = whole.sample(20), restored.sample(20)
    assert torch.equal(one[0], other[0])
    assert whole.seen == restored.seen == 200
    assert torch.equal(torch.random.get_rng_state(), torch.random.get_rng_state())


@pytest.mark.parametrize("step", [5, 40])
def test_a_stopped_run_with_replay_is_continued_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    shutil.copy(OWN, tmp_path / "own_code.py")
    changes = [
        *("stream.limit=20", "stream.tasks=2", "stream.scenario=class"),
        "checkpoint.every=1 steps",
        "method={kind: python, target: 'own_code:ER', args: {memory: 20}}",
    ]
    experiment = load_config("digits_smoke", changes, imports=[tmp_path])
    whole = run_experiment(experiment, tmp_path / "whole")
    real, steps = Precision.step, 0

    def interrupted(*args: Any, **more: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == step:
            raise KeyboardInterrupt
        return real(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Precision, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(experiment, tmp_path / "stopped")
    resumed = run_experiment(experiment, tmp_path / "stopped", resume=True)
    assert resumed.accuracy == whole.accuracy
