"""Edits torn at random operations, and checkpoints after edits; `experiments/edits` does more."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "experiments" / "edits"))
import saved
import torn

PAIRS = [
    *(("MLP", "SGD"), ("conv with norms", "AdamW"), ("ResNet", "RMSprop")),
    *(("transformer", "AdamW"), ("multi-head", "SGD")),
]


@pytest.mark.parametrize(("network", "optimizer"), PAIRS)
def test_a_plan_torn_at_any_operation_leaves_everything_as_it_was(
    network: str, optimizer: str, tmp_path: Path
) -> None:
    row = torn.tear_many(network, optimizer, tmp_path, 15)
    assert row["torn"] == 15
    assert row["wrong"] == []


@pytest.mark.parametrize(("network", "optimizer"), PAIRS)
def test_a_checkpoint_after_fifty_edits_is_the_network(
    network: str, optimizer: str, tmp_path: Path
) -> None:
    made = saved.edited(network, optimizer, tmp_path, 50)
    saved.save(made, tmp_path / "saved")
    other = saved.loaded(made, network, optimizer, tmp_path / "saved", tmp_path)
    assert saved.differing(made, other) == []
