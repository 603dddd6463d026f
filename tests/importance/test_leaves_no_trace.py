"""A measured model is bit-identical, also after an exception."""

from collections.abc import Callable
from typing import Any

import pytest
import snapshots
import torch
from cases import CONVNET, IMPORTANCE, MLP, Case
from torch import Tensor, nn

from growmas import mas_importance
from growmas.importance.state import Attributes

by_name = pytest.mark.parametrize("case", IMPORTANCE, ids=lambda case: case.name)


def lived_in(case: Case) -> nn.Module:
    """A model with gradients, frozen parameters, hooks and mixed modes."""
    model = case.model()
    for n, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(n % 3 != 1)
        if n % 2 == 0:
            parameter.grad = torch.full_like(parameter, 0.25)
        if n == 0:
            parameter.register_hook(lambda gradient: gradient)
    for n, module in enumerate(model.modules()):
        module.training = n % 2 == 0
    model.register_forward_hook(lambda module, inputs, output: None)
    return model


def versions(model: nn.Module) -> list[int]:
    return [p._version for p in model.parameters()]


@by_name
@pytest.mark.parametrize("options", [{}, {"estimator": "batch"}, {"function": "vector"}], ids=str)
def test_a_measured_model_is_bit_identical(case: Case, options: dict[str, Any]) -> None:
    model = lived_in(case)
    before, counters = snapshots.of_model(model), versions(model)
    random_state = snapshots.of_random_state()
    mas_importance(model, case.inputs(6).split(4), **options)
    assert snapshots.of_model(model) == before
    assert versions(model) == counters
    assert snapshots.of_random_state() == random_state


class Trouble(Exception):
    pass


def fails_at(call: int) -> Callable[[nn.Module, Tensor], Any]:
    calls = iter(range(1000))

    def forward(model: nn.Module, batch: Tensor) -> Any:
        output = model(batch)
        torch.rand(3)
        if next(calls) == call:
            raise Trouble
        return output

    return forward


@by_name
@pytest.mark.parametrize("call", [0, 1, 3])
def test_bit_identical_after_an_exception(case: Case, call: int) -> None:
    model = lived_in(case)
    before, random_state = snapshots.of_model(model), snapshots.of_random_state()
    with pytest.raises(Trouble):
        mas_importance(model, case.inputs(8).split(2), forward=fails_at(call))
    assert snapshots.of_model(model) == before
    assert snapshots.of_random_state() == random_state


def test_bit_identical_when_the_data_fail_half_way() -> None:
    model = lived_in(CONVNET)
    before = snapshots.of_model(model)

    def batches() -> Any:
        yield CONVNET.inputs(4)
        raise Trouble

    with pytest.raises(Trouble):
        mas_importance(model, batches())
    assert snapshots.of_model(model) == before


class CountsItsCalls(nn.Module):
    """A buffer changed in eval mode: written in place, or bound anew."""

    def __init__(self, rebind: bool, norm: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.norm = nn.LayerNorm(3) if norm else nn.Identity()
        self.last = nn.Linear(3, 2)
        self.register_buffer("calls", torch.zeros(()))
        self.rebind = rebind

    def forward(self, x: Tensor) -> Tensor:
        if self.rebind:
            self.calls = self.calls + x.abs().mean().detach()
        else:
            self.calls.add_(1)
        return self.last(self.norm(self.layer(x)))


@pytest.mark.parametrize("rebind", [False, True], ids=["in place", "bound anew"])
@pytest.mark.parametrize("norm", [False, True], ids=["rules", "fallback"])
def test_buffers_that_a_forward_pass_changes_are_put_back(rebind: bool, norm: bool) -> None:
    model = CountsItsCalls(rebind, norm)
    before = snapshots.of_model(model)
    mas_importance(model, MLP.inputs(6).split(2))
    assert snapshots.of_model(model) == before


def test_batches_are_not_written_to() -> None:
    data = MLP.inputs(6)
    kept = snapshots.bits(data)
    mas_importance(MLP.model(), [data])
    assert snapshots.bits(data) == kept
    assert data.grad is None
    assert not data.requires_grad


@pytest.mark.parametrize("change", ["deleted", "deleted and another added", "set", "emptied"])
def test_attributes_are_put_back_before_every_pass_however_they_change(change: str) -> None:
    """An attribute that is None and one that is missing are not the same."""
    model = nn.Linear(3, 2)
    model.note, model.table = None, {"first": None}
    start = Attributes(model)
    if change == "set":
        model.note = model.table["second"] = torch.ones(2)
    elif change == "emptied":
        model.table.clear()
    else:
        del model.note, model.table["first"]
        if change == "deleted and another added":
            model.other = model.table["other"] = None
    start.restore()
    assert vars(model)["note"] is None
    assert vars(model)["table"] == {"first": None}
    assert "other" not in vars(model)
