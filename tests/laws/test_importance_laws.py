"""Laws of importance that hold for any data."""

import warnings

import torch
from cases import CONVNET, IMPORTANCE, MLP, RESIDUAL_CONV, TWO_HEADS, mlp
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from growmas import MAS, GrowmasWarning, hebbian_importance, mas_importance

few = settings(max_examples=20, deadline=None, derandomize=True)
NETWORKS = st.sampled_from([MLP, CONVNET, TWO_HEADS, RESIDUAL_CONV])
SEEDS = st.integers(0, 2**31 - 1)


def close(a: dict[str, Tensor], b: dict[str, Tensor], rtol: float = 1e-9) -> bool:
    return all(float((a[n] - b[n]).norm()) <= rtol * float(b[n].norm()) for n in a)


@few
@given(NETWORKS, st.integers(1, 12), st.lists(st.integers(1, 5), max_size=5), SEEDS)
def test_cutting_and_order_of_samples_do_not_matter(
    case: object, samples: int, sizes: list[int], seed: int
) -> None:
    model, data = case.model(torch.float64), case.inputs(samples, torch.float64, seed)
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(seed))
    cuts = [n for n in torch.tensor([0, *sizes]).cumsum(0).tolist() if n < samples]
    pieces = torch.tensor_split(data[order], cuts[1:])
    assert close(mas_importance(model, pieces), mas_importance(model, [data]))


@few
@given(NETWORKS, SEEDS, st.integers(1, 6), st.integers(1, 6))
def test_importance_is_a_mean_over_samples(case: object, seed: int, one: int, other: int) -> None:
    model, data = case.model(torch.float64), case.inputs(one + other, torch.float64, seed)
    first, second = mas_importance(model, [data[:one]]), mas_importance(model, [data[one:]])
    together = {n: (one * first[n] + other * second[n]) / (one + other) for n in first}
    assert close(mas_importance(model, [data]), together)


@few
@given(SEEDS)
def test_hidden_units_may_be_named_in_any_order(seed: int) -> None:
    model, data = MLP.model(torch.float64), MLP.inputs(5, torch.float64, seed)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(seed))
    shuffled = MLP.model(torch.float64)
    with torch.no_grad():
        shuffled[0].weight.copy_(model[0].weight[order])
        shuffled[0].bias.copy_(model[0].bias[order])
        shuffled[2].weight.copy_(model[2].weight[:, order])
    plain, found = mas_importance(model, [data]), mas_importance(shuffled, [data])
    plain |= {
        "0.weight": plain["0.weight"][order],
        "0.bias": plain["0.bias"][order],
        "2.weight": plain["2.weight"][:, order],
    }
    assert close(found, plain)


class Scaled(nn.Module):
    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model = model
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) * self.factor


@few
@given(st.sampled_from([MLP, CONVNET]), st.floats(0.01, 100), st.booleans(), SEEDS)
def test_outputs_times_c_give_importance_times_c_squared(
    case: object, factor: float, negative: bool, seed: int
) -> None:
    model, data = case.model(torch.float64), case.inputs(4, torch.float64, seed)
    factor = -factor if negative else factor
    plain = mas_importance(model, [data])
    found = mas_importance(Scaled(model, factor), [data])
    assert close({n: found[f"model.{n}"] for n in plain}, {n: factor**2 * plain[n] for n in plain})
    vector = mas_importance(Scaled(model, factor), [data], function="vector")
    plain = mas_importance(model, [data], function="vector")
    assert close(
        {n: vector[f"model.{n}"] for n in plain}, {n: abs(factor) * plain[n] for n in plain}
    )


@few
@given(st.sampled_from(IMPORTANCE), SEEDS)
def test_importance_is_never_negative_and_never_below_the_batch_estimator(
    case: object, seed: int
) -> None:
    model, data = case.model(torch.float64), case.inputs(5, torch.float64, seed)
    exact = mas_importance(model, [data])
    batch = mas_importance(model, [data], estimator="batch")
    for name in exact:
        assert (exact[name] >= 0).all()
        assert (batch[name] <= exact[name] * (1 + 1e-9) + 1e-12 * exact[name].max()).all()


def relu_net(seed: int, bias: bool = False) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Linear(6, 7, bias=bias), nn.ReLU(), nn.Linear(7, 5, bias=bias), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(5, 3, bias=bias)).double()


FACTORS = st.floats(0.05, 20)


@few
@given(FACTORS, SEEDS)
def test_inputs_times_c_give_importance_times_c_squared(factor: float, seed: int) -> None:
    """Prediction: F(cx) = cF(x) with ReLUs and without biases, so ‖F‖² scales with c²."""
    model, data = relu_net(seed), MLP.inputs(5, torch.float64, seed)
    for measure in (mas_importance, hebbian_importance):
        plain, found = measure(model, [data]), measure(model, [factor * data])
        assert close(found, {n: factor**2 * omega for n, omega in plain.items()})


@few
@given(FACTORS, SEEDS)
def test_weights_moved_from_one_layer_to_the_next_take_their_importance_along(
    factor: float, seed: int
) -> None:
    """Prediction: cW₁ and W₂/c give the same function, so Ω θ stays: Ω₁/c and cΩ₂."""
    model, data = relu_net(seed, bias=True), MLP.inputs(5, torch.float64, seed)
    plain = mas_importance(model, [data])
    with torch.no_grad():
        for p in model[0].parameters():
            p.mul_(factor)
        model[2].weight.div_(factor)
    expected = dict(plain)
    for name in ("0.weight", "0.bias"):
        expected[name] = plain[name] / factor
    expected["2.weight"] = plain["2.weight"] * factor
    assert close(mas_importance(model, [data]), expected)


@few
@given(SEEDS)
def test_the_same_data_twice_and_data_without_effect(seed: int) -> None:
    """Predictions: a mean does not change with copies; as many samples with output 0 halve it."""
    model, data = relu_net(seed), MLP.inputs(5, torch.float64, seed)
    plain = mas_importance(model, [data])
    assert close(mas_importance(model, [data, data]), plain)
    halved = mas_importance(model, [data, torch.zeros_like(data)])
    assert close(halved, {n: omega / 2 for n, omega in plain.items()})


@few
@given(SEEDS)
def test_channels_may_be_named_in_any_order(seed: int) -> None:
    model, data = CONVNET.model(torch.float64), CONVNET.inputs(4, torch.float64, seed)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    shuffled = CONVNET.model(torch.float64)
    rows = ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var")
    state = model.state_dict()
    state |= {name: state[name][order] for name in rows}
    state["4.weight"] = state["4.weight"][:, order]
    shuffled.load_state_dict(state)
    for measure in (mas_importance, hebbian_importance):
        plain = measure(model, [data])
        plain |= {name: plain[name][order] for name in rows if name in plain}
        plain["4.weight"] = plain["4.weight"][:, order]
        assert close(measure(shuffled, [data]), plain)


class Difference(nn.Module):
    def __init__(self, gap: float) -> None:
        super().__init__()
        self.layer, self.gap = nn.Linear(6, 3, bias=False), gap

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) - self.layer(x * (1 - self.gap))


@few
@given(st.floats(0, 1), SEEDS)
def test_uses_of_a_weight_are_summed_before_the_absolute_value(gap: float, seed: int) -> None:
    """Prediction: Wx − W(1−g)x = gWx has g² times the importance of one use; 0 for g = 0."""
    model = Difference(gap).double()
    data = MLP.inputs(5, torch.float64, seed)
    plain = mas_importance(model.layer, [data])["weight"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GrowmasWarning)  # a gap of 0 leaves no importance
        found = mas_importance(model, [data])["layer.weight"]
    assert float((found - gap**2 * plain).abs().max()) <= 1e-12 * float(plain.max())


@few
@given(st.sampled_from(["mean", "max"]), FACTORS, SEEDS)
def test_a_normalised_penalty_does_not_know_the_scale_of_the_outputs(
    normalize: str, factor: float, seed: int
) -> None:
    """Prediction: Ω scales with c², and so does the number that it is divided by."""
    data = MLP.inputs(5, torch.float64, seed)
    values = []
    for scale in (1.0, factor):
        model = Scaled(mlp(), scale).double()
        model.model.load_state_dict(MLP.model(torch.float64).state_dict())
        mas = MAS(model, normalize=normalize)
        mas.consolidate([data])
        with torch.no_grad():
            model.model[0].weight.add_(0.1)
        values.append(float(mas.penalty().detach()))
    assert abs(values[0] - values[1]) <= 1e-9 * values[0]
