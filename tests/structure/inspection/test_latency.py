"""Measured latency in explain and dry_run, and the hint about widths."""

import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import growmas as gm
from growmas.errors import PlanError
from growmas.structure.inspection import latency as measured
from growmas.structure.inspection.latency import WARM_UP, latencies


class Slow(nn.Module):
    """A network that takes a millisecond for each of its hidden units."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, width), nn.Linear(width, 2)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        hidden = self.a(x).relu()
        time.sleep(hidden.shape[1] / 1000)
        return self.b(hidden)


def structure_of(width: int = 16) -> gm.Structure:
    return gm.Structure(Slow(width), torch.rand(3, 4))


def test_explain_measures_before_and_after() -> None:
    structure = structure_of()
    plan = structure.plan(prune={"a": range(8)})
    found = structure.explain(plan, latency=5)
    before, after = found.latency or (0.0, 0.0)
    assert before >= 16
    assert 8 <= after < before
    assert f"latency on the example inputs {before:.3g} → {after:.3g} ms (−" in str(found)
    assert structure.groups["a"].width == 16
    assert found.hint == ""


def test_dry_run_measures_every_network() -> None:
    structure = structure_of()
    plan = structure.plan(prune={"a": range(8)})
    found = structure.dry_run(plan, latency=3, reconstruct=[torch.rand(20, 4)])
    outcomes = (found.before, found.after, found.reconstructed)
    before, after, reconstructed = (getattr(each, "latency", None) for each in outcomes)
    assert before is not None
    assert before >= 16
    assert 8 <= after < before  # type: ignore[operator]
    assert 8 <= reconstructed < before  # type: ignore[operator]
    assert "latency, ms" in str(found)


def test_nothing_is_measured_unless_asked_for() -> None:
    structure = structure_of()
    plan = structure.plan(grow={"a": 1})
    assert structure.explain(plan).latency is None
    assert structure.explain(plan).hint == ""
    assert structure.dry_run(plan).after.latency is None
    assert "latency" not in str(structure.explain(plan)) + str(structure.dry_run(plan))


@pytest.mark.parametrize(
    ("plan", "options", "hint"),
    [
        (gm.Plan(prune={"a": [0, 1, 2]}), {}, "not a multiple of 8 in a (13 neurons)"),
        (gm.Plan(prune={"a": [0, 1, 2]}, round_to=8), {}, ""),
        (gm.Plan(grow={"a": 8}), {}, ""),
    ],
)
def test_widths_that_kernels_may_not_like_are_named(plan: Any, options: Any, hint: str) -> None:
    found = structure_of().explain(plan, latency=1)
    assert hint in found.hint
    assert bool(found.hint) == bool(hint)
    assert found.hint in " ".join(str(found).split())


def test_networks_are_timed_in_turn_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    order, clock = [], [0.0]
    monkeypatch.setattr(measured.time, "perf_counter", lambda: clock[0])
    nets = [nn.Linear(1, 1), nn.Linear(1, 1)]

    def run(model: nn.Module) -> None:
        assert not model.training
        assert not torch.is_grad_enabled()
        order.append(nets.index(model))  # type: ignore[arg-type]
        clock[0] += 0.001 * (1 + order[-1]) * (100 if len(order) <= 2 * WARM_UP else 1)

    assert latencies(nets, run, 4) == pytest.approx([1.0, 2.0])
    assert order == [0, 1] * (WARM_UP + 4)
    assert all(net.training for net in nets)


@pytest.mark.parametrize("number", [-1, 2.5, True, "many"])
def test_a_number_of_runs_is_a_number(number: Any) -> None:
    structure = structure_of()
    plan = structure.plan(grow={"a": 1})
    for measure in (structure.explain, structure.dry_run):
        with pytest.raises(PlanError, match="expected the number of timed forward passes"):
            measure(plan, latency=number)
