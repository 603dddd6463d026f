"""A watched model answers as ever, and its importance is that of what it was asked."""

import gc
import logging
import weakref
from contextlib import suppress
from typing import Any

import pytest
import snapshots
import torch
from cases import CONVNET, IMPORTANCE, MLP, Case
from torch import Tensor, nn

from growmas import MAS, ImportanceSum, accumulate_importance, mas_importance
from growmas.errors import DataError, ImportanceError

MODES = {
    "plain": torch.enable_grad,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
}
by_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


def assert_close(
    found: dict[str, Tensor], wanted: dict[str, Tensor], allowed: float = 1e-10
) -> None:
    assert found.keys() == wanted.keys()
    for name, want in wanted.items():
        assert float((found[name] - want).norm()) <= allowed * float(want.norm()), name


def plain(output: Any) -> Any:
    """An output as bits."""
    if isinstance(output, Tensor):
        return snapshots.bits(output), output.requires_grad, output.is_inference()
    values = output.values() if hasattr(output, "values") else output
    return [plain(value) for value in values]


@pytest.mark.parametrize("case", IMPORTANCE, ids=lambda case: case.name)
@by_mode
def test_answers_and_model_are_exactly_as_without(case: Case, mode: Any) -> None:
    model = case.model().eval()
    with mode():
        requests = case.inputs(5).split(2)
        expected = [plain(model(request)) for request in requests]
    before, random_state = snapshots.of_model(model), snapshots.of_random_state()
    with accumulate_importance(model) as running, mode():
        assert [plain(model(request)) for request in requests] == expected
    assert snapshots.of_model(model) == before
    assert snapshots.of_random_state() == random_state
    assert (running.requests, running.samples, running.skipped) == (3, 5, 0)


@pytest.mark.parametrize("case", [MLP, CONVNET], ids=lambda case: case.name)
@pytest.mark.parametrize("function", ["squared_norm", "vector"])
@by_mode
def test_gathers_the_importance_of_all_it_was_asked(case: Case, function: str, mode: Any) -> None:
    model, data = case.model(torch.float64).eval(), case.inputs(9, torch.float64)
    with accumulate_importance(model, function=function) as running, mode():
        for request in (data[:1], data[1:4], data[4:]):
            model(request)
    assert_close(running.importance(), mas_importance(model, [data], function=function))


def test_in_float32_and_readable_at_any_time() -> None:
    model, twin, data = MLP.model(), MLP.model(), MLP.inputs(8)
    with accumulate_importance(model) as running:
        with pytest.raises(DataError, match="no samples"):
            running.importance()
        for n, request in enumerate(data.split(2), start=1):
            model(request)
            found = running.importance()
            assert_close(found, mas_importance(twin, [data[: 2 * n]]), 1e-5)
            assert all(omega.dtype == torch.float32 for omega in found.values())


def test_every_third_request() -> None:
    model, data = MLP.model(torch.float64), MLP.inputs(7, torch.float64)
    with accumulate_importance(model, every=3) as running:
        for request in data.split(1):
            model(request)
    assert (running.requests, running.samples) == (7, 3)
    assert_close(running.importance(), mas_importance(model, [data[[0, 3, 6]]]))


def test_a_training_model_still_trains_and_is_measured_in_eval_mode() -> None:
    model, twin = CONVNET.model(torch.float64), CONVNET.model(torch.float64)
    data = CONVNET.inputs(4, torch.float64)
    with accumulate_importance(model) as running:
        model(data).square().sum().backward()
    twin(data).square().sum().backward()
    pairs = zip(model.parameters(), twin.parameters(), strict=True)
    assert all(torch.equal(a.grad, b.grad) for a, b in pairs)
    assert snapshots.values(model.named_buffers()) == snapshots.values(twin.named_buffers())
    assert_close(running.importance(), mas_importance(model, [data]))


class Asked(nn.Module):
    """Takes a positional and a keyword argument, and writes to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(4, 2) for _ in range(2))

    def forward(self, x: Tensor, *, head: int = 0) -> Tensor:
        return self.heads[head](x.mul_(2.0))


def test_other_arguments_and_an_input_that_is_written_to() -> None:
    model, data = Asked().double(), torch.randn(3, 4).double()
    with accumulate_importance(model) as running, torch.no_grad():
        model(data.clone(), head=1)
    wanted = mas_importance(model, [data.clone()], forward=lambda m, x: m.heads[1](2 * x))
    assert_close(running.importance(), wanted)


def test_hooks_on_the_model_run_once() -> None:
    model, calls = MLP.model(), []
    model.register_forward_pre_hook(lambda module, inputs: calls.append("before"))
    model.register_forward_hook(lambda module, inputs, output: calls.append("after"))
    with accumulate_importance(model):
        model(MLP.inputs(2))
    assert calls == ["before", "after"]


def test_merging_two_workers_and_going_on_another_day() -> None:
    model, data = MLP.model(torch.float64), MLP.inputs(9, torch.float64)
    parts = []
    for shard in (data[:2], data[2:]):
        with accumulate_importance(model) as running:
            model(shard)
        parts.append(ImportanceSum.from_state_dict(running.sum().state_dict()))
    assert_close((parts[0] + parts[1]).importance(), mas_importance(model, [data]))


def test_a_partial_result_does_not_change_any_more() -> None:
    model = MLP.model()
    with accumulate_importance(model) as running:
        model(MLP.inputs(2))
        early = running.sum()
        kept = {name: total.clone() for name, total in early.sums.items()}
        model(MLP.inputs(3))
    assert early.samples == 2
    assert all(torch.equal(early.sums[name], kept[name]) for name in kept)


def test_adapts_a_penalty_to_what_users_use() -> None:
    model, data = MLP.model(torch.float64), MLP.inputs(6, torch.float64)
    mas, wanted = MAS(model), MAS(model)
    for penalty in (mas, wanted):
        penalty.consolidate([data])
    with accumulate_importance(model) as running, torch.inference_mode():
        model(data[:2])
    mas.adapt(running)
    wanted.adapt([data[:2]])
    assert_close(mas.omega, wanted.omega)


def test_a_request_with_nan_is_answered_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    model, data = MLP.model(torch.float64), MLP.inputs(4, torch.float64)
    bad = torch.full((1, 6), torch.nan).double()
    with (
        caplog.at_level(logging.WARNING, logger="growmas"),
        accumulate_importance(model) as running,
    ):
        model(data[:2])
        assert bool(model(bad).isnan().all())
        model(data[2:])
    assert (running.requests, running.samples, running.skipped) == (3, 4, 1)
    assert "request 2 is left out of the importance" in caplog.text
    assert_close(running.importance(), mas_importance(model, [data]))


def test_a_request_the_model_refuses_is_none() -> None:
    model = MLP.model()
    with accumulate_importance(model) as running:
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            model(torch.randn(2, 7))
        model(torch.randn(0, 6))
    assert (running.requests, running.samples) == (1, 0)


def test_removed_after_an_exception_and_not_kept_alive() -> None:
    model = MLP.model()
    before = snapshots.of_model(model)
    with suppress(KeyError), accumulate_importance(model):
        model(MLP.inputs(2))
        raise KeyError
    assert snapshots.of_model(model) == before
    gone = weakref.ref(model)
    del model, before
    gc.collect()
    assert gone() is None


def test_a_forward_put_on_the_instance_comes_back() -> None:
    model = MLP.model()
    model.forward = lambda x: nn.Sequential.forward(model, 2 * x)  # type: ignore[method-assign]
    own, data = model.forward, MLP.inputs(3)
    expected = model(data)
    with accumulate_importance(model):
        assert torch.equal(model(data), expected)
    assert model.forward is own


def test_errors() -> None:
    model = MLP.model()
    with pytest.raises(ImportanceError, match="every=0: expected a whole number >= 1"):
        accumulate_importance(model, every=0).__enter__()
    with (
        accumulate_importance(model),
        pytest.raises(ImportanceError, match="already active"),
        accumulate_importance(model),
    ):
        pass
    with torch.inference_mode():
        frozen = nn.Linear(2, 2)
    with (
        pytest.raises(ImportanceError, match="made or loaded under"),
        accumulate_importance(frozen),
    ):
        pass
    with accumulate_importance(model):
        model[0].weight = nn.Parameter(torch.zeros(8, 6))
        with pytest.raises(ImportanceError, match="was replaced"):
            model(MLP.inputs(2))
