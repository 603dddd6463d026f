"""Fast importance against the loop over samples."""

from dataclasses import replace
from functools import cache

import pytest
import reference
import torch
from cases import CANCELLING, CONVNET, IMPORTANCE, MLP, TWO_HEADS, Case
from torch import Tensor, nn

from growmas import mas_importance
from growmas.importance.fallback import Fallback
from growmas.importance.operations import RULES

SAMPLES = 9
ALLOWED = {torch.float64: 1e-10, torch.float32: 1e-5}
by_name = pytest.mark.parametrize("case", IMPORTANCE, ids=lambda case: case.name)


@cache
def expected(case: Case, function: str, samples: int = SAMPLES) -> dict[str, Tensor]:
    data = case.inputs(samples, torch.float64)
    return reference.importance(case.model(torch.float64), data.split(1), function)


def assert_close(found: dict[str, Tensor], wanted: dict[str, Tensor], allowed: float) -> None:
    assert found.keys() == wanted.keys()
    for name, want in wanted.items():
        assert found[name].shape == want.shape
        error = float((found[name].double() - want.double()).norm())
        assert error <= allowed * float(want.norm()), f"{name}: {error} of {float(want.norm())}"


def test_the_reference_itself_on_a_case_done_by_hand() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 3.0)
    samples = torch.tensor([[1.0], [-2.0]])
    # F = 3x, ‖F‖² = 9x², d/dw = 2·3x·x = 6x²: 6 and 24, mean 15
    assert float(reference.importance(net, samples.split(1))["weight"]) == 15.0
    assert float(mas_importance(net, [samples])["weight"]) == 15.0


@by_name
@pytest.mark.parametrize("dtype", ALLOWED, ids=["float64", "float32"])
@pytest.mark.parametrize("size", [1, 7, 256])
def test_squared_norm(case: Case, dtype: torch.dtype, size: int) -> None:
    found = mas_importance(case.model(dtype), case.inputs(SAMPLES, dtype).split(size))
    assert all(omega.dtype == dtype for omega in found.values())
    assert_close(found, expected(case, "squared_norm"), ALLOWED[dtype])


@by_name
def test_vector(case: Case) -> None:
    found = mas_importance(
        case.model(torch.float64), case.inputs(SAMPLES, torch.float64).split(7), function="vector"
    )
    assert_close(found, expected(case, "vector"), 1e-10)


@pytest.mark.parametrize("case", [MLP, CONVNET], ids=lambda case: case.name)
def test_a_batch_of_256_and_a_short_last_one(case: Case) -> None:
    model, data = case.model(torch.float64), case.inputs(300, torch.float64)
    found = mas_importance(model, data.split(256))
    assert_close(found, expected(case, "squared_norm", 300), 1e-10)


@by_name
def test_a_function_of_ones_own(case: Case) -> None:
    def peak(output: object) -> Tensor:
        flat = [t.flatten(1) if t.dim() > 1 else t[:, None] for t in reference.tensors_of(output)]
        return torch.cat(flat, 1).exp().sum(1).log()

    data = case.inputs(9, torch.float64)
    found = mas_importance(case.model(torch.float64), data.split(4), function=peak)
    wanted = reference.importance(case.model(torch.float64), data.split(1), peak)
    assert_close(found, wanted, 1e-10)


@pytest.mark.parametrize("case", [MLP, CONVNET], ids=lambda case: case.name)
def test_rules_alone_explain_linear_and_conv(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast path is the one that runs: the fallback is asked for nothing."""
    asked: set[str] = set()

    def spy(self: Fallback, parameters: dict[str, Tensor], *rest: object) -> dict[str, Tensor]:
        asked.update(parameters)
        return {name: torch.zeros_like(p) for name, p in parameters.items()}

    monkeypatch.setattr(Fallback, "sums", spy)
    model = case.model()
    mas_importance(model, [case.inputs(8)])
    assert not asked


def test_small_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("growmas.importance.exact.CHUNK_ELEMENTS", 1)
    found = mas_importance(CONVNET.model(torch.float64), [CONVNET.inputs(SAMPLES, torch.float64)])
    assert_close(found, expected(CONVNET, "squared_norm"), 1e-10)


def test_batch_estimator_is_the_named_approximation() -> None:
    data = MLP.inputs(SAMPLES, torch.float64)
    found = mas_importance(MLP.model(torch.float64), data.split(8), estimator="batch")
    wanted = reference.batch_importance(MLP.model(torch.float64), data.split(8))
    assert_close(found, wanted, 1e-10)
    exact = expected(MLP, "squared_norm")
    assert all((found[n] <= exact[n] * (1 + 1e-9)).all() for n in exact)
    assert float(found["0.weight"].sum()) < 0.9 * float(exact["0.weight"].sum())


def test_batch_estimator_equals_exact_on_single_samples() -> None:
    data = CONVNET.inputs(5, torch.float64).split(1)
    found = mas_importance(CONVNET.model(torch.float64), data, estimator="batch")
    assert_close(found, mas_importance(CONVNET.model(torch.float64), data), 1e-10)


def test_batch_estimator_of_a_vector() -> None:
    data = MLP.inputs(6, torch.float64)
    found = mas_importance(MLP.model(torch.float64), [data], function="vector", estimator="batch")
    model = MLP.model(torch.float64).eval()
    wanted = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    for column in range(3):
        mean = model(data)[:, column].mean()
        for name, gradient in reference.gradients(mean, dict(model.named_parameters())).items():
            wanted[name] += gradient.abs() / 3
    assert_close(found, wanted, 1e-10)


def test_a_head_that_did_not_run_has_importance_exactly_zero() -> None:
    data = TWO_HEADS.inputs(SAMPLES, torch.float64)
    found = mas_importance(
        TWO_HEADS.model(torch.float64), data.split(7), forward=lambda model, x: model(x, 1)
    )
    wanted = reference.importance(
        TWO_HEADS.model(torch.float64), data.split(1), forward=lambda model, x: model(x, 1)
    )
    assert_close(found, wanted, 1e-10)
    assert not found["heads.0.weight"].any()
    assert not found["heads.0.bias"].any()
    assert found["heads.1.weight"].any()


def test_frozen_parameters_are_measured_too() -> None:
    model = MLP.model(torch.float64).requires_grad_(False)
    found = mas_importance(model, [MLP.inputs(SAMPLES, torch.float64)])
    assert_close(found, expected(MLP, "squared_norm"), 1e-10)


def test_eval_mode_is_what_is_measured() -> None:
    """Batch statistics and dropout would give another Ω."""
    net = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.9), nn.Linear(5, 2))
    data = torch.randn(12, 6)
    first, second = (mas_importance(net.train(), [data]) for _ in range(2))
    assert_close(first, second, 0.0)
    assert_close(first, reference.importance(net, data.split(1)), 1e-5)


@pytest.mark.parametrize("case", CANCELLING, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", ALLOWED, ids=["float64", "float32"])
def test_gradients_that_cancel_are_not_taken_for_samples_that_interact(
    case: Case, dtype: torch.dtype
) -> None:
    found = mas_importance(case.model(dtype), case.inputs(SAMPLES, dtype).split(7))
    wanted = expected(case, "squared_norm")
    largest = max(1.0, *(float(omega.max()) for omega in wanted.values()))
    for name, want in wanted.items():
        error = float((found[name].double() - want).abs().max())
        assert error <= ALLOWED[dtype] * largest, name


def test_half_precision_passes_through() -> None:
    model, data = MLP.model(torch.bfloat16), MLP.inputs(SAMPLES, torch.bfloat16)
    assert_close(mas_importance(model, data.split(7)), expected(MLP, "squared_norm"), 0.05)


def test_autocast_inside_forward() -> None:
    def forward(model: nn.Module, batch: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(batch)  # type: ignore[no-any-return]

    found = mas_importance(MLP.model(), MLP.inputs(SAMPLES).split(7), forward=forward)
    assert_close(found, expected(MLP, "squared_norm"), 0.05)


def test_channels_last_is_measured_alike() -> None:
    model = CONVNET.model(torch.float64).to(memory_format=torch.channels_last)
    data = CONVNET.inputs(SAMPLES, torch.float64).to(memory_format=torch.channels_last)
    assert_close(mas_importance(model, [data]), expected(CONVNET, "squared_norm"), 1e-10)


def test_hooks_that_change_what_flows_are_part_of_the_model() -> None:
    model = MLP.model(torch.float64)
    model[0].register_forward_hook(lambda module, inputs, output: output * 2)
    model[2].register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
    data = MLP.inputs(SAMPLES, torch.float64)
    found = mas_importance(model, data.split(7))
    assert_close(found, reference.importance(model, data.split(1)), 1e-10)


def test_a_forward_replaced_on_the_instance_is_part_of_the_model() -> None:
    model = MLP.model(torch.float64)
    original = model[2].forward
    model[2].forward = lambda x: original(x).square()
    data = MLP.inputs(SAMPLES, torch.float64)
    found = mas_importance(model, data.split(7))
    assert_close(found, reference.importance(model, data.split(1)), 1e-10)


class HalvesItsWeight(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight / 2, self.bias)


def test_subclasses_that_compute_otherwise_are_measured_as_they_compute() -> None:
    model = nn.Sequential(HalvesItsWeight(6, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    data = MLP.inputs(SAMPLES, torch.float64)
    found = mas_importance(model, data.split(7))
    assert_close(found, reference.importance(model, data.split(1)), 1e-10)


def test_a_wrong_rule_is_noticed_and_left_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    right = RULES[nn.functional.linear]
    wrong = replace(right, gradients=lambda bound, delta: right.gradients(bound, delta * 1.1))
    monkeypatch.setitem(RULES, nn.functional.linear, wrong)
    found = mas_importance(MLP.model(torch.float64), [MLP.inputs(SAMPLES, torch.float64)])
    assert_close(found, expected(MLP, "squared_norm"), 1e-10)
