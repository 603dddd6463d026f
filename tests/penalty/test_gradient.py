"""`penalty_grad_` leaves the gradients that `penalty()` in the loss would have left."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import reference
import torch
from cases import CONVNET, MLP, TWO_HEADS
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from growmas import MAS, Plan, Structure
from growmas.errors import PenaltyError
from growmas.penalty import chunks

DATA = MLP.inputs(8, torch.float64)


def moved(model: nn.Module, by: float = 0.3) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(by * torch.randn(p.shape, generator=generator).to(p.dtype))


def held(model: nn.Module, data: Tensor, **options: Any) -> MAS:
    mas = MAS(model, **options)
    mas.consolidate([data])
    moved(model)
    return mas


def gradients(model: nn.Module) -> dict[str, Tensor | None]:
    found = {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    return found


def both_ways(mas: MAS, loss: Callable[[], Tensor]) -> tuple[dict[str, Any], dict[str, Any]]:
    (loss() + mas.penalty()).backward()
    by_autograd = gradients(mas.model)
    loss().backward()
    mas.penalty_grad_()
    return by_autograd, gradients(mas.model)


def same(mas: MAS, loss: Callable[[], Tensor], **tolerance: float) -> None:
    expected, found = both_ways(mas, loss)
    torch.testing.assert_close(found, expected, **tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", [MLP, CONVNET], ids=lambda case: case.name)
@pytest.mark.parametrize("strength", [0.0, 0.7, {"*": 1.0, "0.*": 3.0, "*.bias": 0.0}])
def test_gradient_and_value_equal_autograd(case: Any, dtype: torch.dtype, strength: Any) -> None:
    model, data = case.model(dtype), case.inputs(8, dtype)
    mas = held(model, data, strength=strength)
    same(mas, lambda: model(data).square().mean())
    value = mas.penalty_grad_()
    assert value.shape == ()
    assert not value.requires_grad
    torch.testing.assert_close(value, mas.penalty().detach())


def test_equals_the_reference_weight_by_weight() -> None:
    model = MLP.model(torch.float64)
    mas = held(model, DATA, strength=0.7)
    value = mas.penalty_grad_()
    assert float(value) == pytest.approx(reference.penalty(model, 0.7, mas.omega, mas.anchor))
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, 1.4 * mas.omega[name] * (p - mas.anchor[name]).detach())


def test_strengths_per_layer_add_up_to_the_reference() -> None:
    model = MLP.model(torch.float64)
    mas = held(model, DATA, strength={"*": 2.0, "0.*": 0.5, "0.bias": 0.0})
    of = {"0.weight": 0.5, "0.bias": 0.0}
    expected = sum(
        reference.penalty(model, of.get(name, 2.0), {name: mas.omega[name]}, mas.anchor)
        for name in mas.omega
    )
    assert float(mas.penalty_grad_()) == pytest.approx(expected)
    mas.strength = 0.0
    assert float(mas.penalty_grad_()) == 0.0
    mas.strength = 3.0
    everything = reference.penalty(model, 3.0, mas.omega, mas.anchor)
    assert float(mas.penalty_grad_()) == pytest.approx(everything)


def test_exactly_zero_and_no_gradient_before_the_first_consolidate() -> None:
    model = MLP.model(torch.float64)
    value = MAS(model).penalty_grad_()
    assert (float(value), value.dtype) == (0.0, torch.float64)
    assert all(p.grad is None for p in model.parameters())
    assert float(MAS(nn.Flatten()).penalty_grad_()) == 0.0


def test_a_parameter_without_gradient_gets_one_and_a_frozen_one_does_not() -> None:
    model = TWO_HEADS.model(torch.float64)
    mas = held(model, DATA)
    model.body.bias.requires_grad_(False)
    expected, found = both_ways(mas, lambda: model(DATA, 0).sum())
    torch.testing.assert_close(found, expected)
    assert found["body.bias"] is None
    assert found["heads.1.weight"].any()
    torch.testing.assert_close(mas.penalty_grad_(), mas.penalty().detach())
    for p in model.parameters():
        p.requires_grad_(False)
    model.zero_grad()
    assert mas.penalty_grad_() > 0
    assert all(p.grad is None for p in model.parameters())


MAKE = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.1),
}


@pytest.mark.parametrize("make", MAKE)
def test_an_optimizer_touches_what_it_would_touch_without_a_penalty(make: str) -> None:
    """A head of an earlier task has momentum left, and one without importance would decay."""
    model = TWO_HEADS.model(torch.float64)
    model.heads.append(nn.Linear(7, 3).double())
    optimizer = MAKE[make](model.parameters())
    mas = MAS(model)
    sum(model(DATA, head).square().mean() for head in (0, 1)).backward()
    optimizer.step()
    mas.consolidate([DATA], forward=lambda model, batch: model(batch, 0))
    heads = copy.deepcopy(model.heads)
    for _ in range(3):
        optimizer.zero_grad()
        model(DATA, 2).square().mean().backward()
        mas.penalty_grad_()
        optimizer.step()
    assert mas.omega["heads.0.weight"].any()
    torch.testing.assert_close(model.heads[0].state_dict(), heads[0].state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(model.heads[1].state_dict(), heads[1].state_dict(), rtol=0, atol=0)
    assert not torch.equal(model.heads[2].weight, heads[2].weight)
    model.heads[0].weight.data.add_(0.1)  # unseen by version counters
    optimizer.zero_grad()
    mas.penalty_grad_()
    assert model.heads[0].weight.grad is not None
    assert model.heads[0].bias.grad is model.heads[1].weight.grad is None


def test_a_parameter_without_importance_gets_no_gradient_from_the_penalty_in_the_loss() -> None:
    model = TWO_HEADS.model(torch.float64)
    mas = MAS(model)
    mas.consolidate([DATA], forward=lambda model, batch: model(batch, 0))
    moved(model)
    same(mas, lambda: model(DATA, 0).sum())
    mas.penalty().backward()
    assert model.heads[1].weight.grad is None


def test_a_tied_parameter_counts_once() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)).double()
    model[2].weight = model[0].weight
    mas = held(model, DATA)
    assert "2.weight" not in mas.omega
    same(mas, lambda: model(DATA).square().mean())


def test_a_sparse_gradient_becomes_dense() -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2))
    tokens = torch.tensor([1, 2, 2])
    mas = held(model, tokens)
    model[0].sparse = True
    same(mas, lambda: model(tokens).sum())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_held_in_float32(dtype: torch.dtype) -> None:
    model = MLP.model(torch.float32).to(dtype)
    data = DATA.to(dtype)
    mas = held(model, data)
    assert {t.dtype for held in (mas.omega, mas.anchor) for t in held.values()} == {torch.float32}
    expected, found = both_ways(mas, lambda: model(data).square().mean())
    assert {g.dtype for g in found.values()} == {dtype}
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=1e-2)
    exact = reference.penalty(model.float(), 1.0, mas.omega, mas.anchor)
    assert float(mas.penalty_grad_()) == pytest.approx(exact, rel=1e-5)


def test_any_memory_layout() -> None:
    model = CONVNET.model().to(memory_format=torch.channels_last)
    data = CONVNET.inputs(4)
    mas = held(model, data)
    same(mas, lambda: model(data).square().mean())
    mas.omega = {name: omega.contiguous() for name, omega in mas.omega.items()}
    same(mas, lambda: model(data).square().mean())


@pytest.mark.parametrize("freeze", [False, True])
def test_large_parameters(freeze: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(300, 500), nn.ReLU(), nn.Linear(500, 3)).double()
    monkeypatch.setattr(chunks, "CHUNK", 40_000)
    data = torch.randn(4, 300, dtype=torch.float64)
    mas = held(model, data, strength={"*": 0.5, "2.*": 2.0})
    model[0].weight.requires_grad_(not freeze)
    same(mas, lambda: model(data).square().mean())
    torch.testing.assert_close(mas.penalty_grad_(), mas.penalty().detach())


@settings(max_examples=25, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=1, max_size=5),
    frozen=st.integers(0, 2**6 - 1),
    chunk=st.integers(1, 40),
    small=st.integers(0, 20),
)
def test_however_it_is_divided(
    shapes: list[list[int]], frozen: int, chunk: int, small: int
) -> None:
    """Cut, alone and together, with frozen and empty parameters among them."""
    generator = torch.Generator().manual_seed(0)
    model = nn.ParameterList(
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in [*shapes, [3]]
    )
    mas = MAS(model, strength={"*": 0.5, "1": 2.0})
    mas.consolidate({n: p.detach().square() for n, p in model.named_parameters()})
    moved(model)
    for number, p in enumerate(model):
        p.requires_grad_(not frozen >> number & 1)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    value = mas.penalty()
    slopes = torch.autograd.grad(value, list(trained.values())) if trained else ()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK", chunk)
        patch.setattr(chunks, "SMALL", small)
        found = mas.penalty_grad_()
    torch.testing.assert_close(found, value.detach())
    for p, slope in zip(trained.values(), slopes, strict=True):
        torch.testing.assert_close(p.grad, slope)
    assert all(p.grad is None for n, p in model.named_parameters() if n not in trained)


def test_importance_and_weights_may_be_written_to() -> None:
    """Chunks hold copies of small parameters' Ω, and their layout may change under them."""
    model = CONVNET.model()
    mas = held(model, CONVNET.inputs(4))
    mas.penalty_grad_()
    mas.omega["0.bias"].mul_(3)
    mas.anchor["1.weight"].add_(1)
    model.zero_grad()
    same(mas, lambda: model(CONVNET.inputs(4)).sum())
    with torch.no_grad():
        model[0].weight.data = model[0].weight.data * 2
    model.to(memory_format=torch.channels_last)
    same(mas, lambda: model(CONVNET.inputs(4)).sum())


WRITES: dict[str, Callable[[Tensor], Any]] = {
    "data": lambda p: p.data.mul_(3),
    "part of data": lambda p: p.data.view(-1)[:2].fill_(5),
    "detached view": lambda p: p.detach().flatten()[1:].add_(1),
    "numpy": lambda p: p.detach().numpy().__setitem__(0, 7.0),
    "other data": lambda p: setattr(p, "data", p.data + 2),
}
"""Writes to a parameter that do not raise its version counter."""


@pytest.mark.parametrize("name", WRITES)
def test_writes_that_torch_does_not_count_are_seen_by_the_next_penalty(name: str) -> None:
    model = MLP.model(torch.float64)
    mas = held(model, DATA)
    for parameter in model.parameters():
        mas.penalty_grad_()
        float(mas.penalty().detach())
        WRITES[name](parameter)
        model.zero_grad()
        same(mas, lambda: model(DATA).sum())
        wanted = sum(
            (mas.omega[n] * (p - mas.anchor[n]).square()).sum() for n, p in model.named_parameters()
        )
        torch.testing.assert_close(mas.penalty(), mas.strength * wanted, rtol=1e-12, atol=0)


def test_accumulated_gradients() -> None:
    model = MLP.model(torch.float64)
    mas = held(model, DATA)
    (model(DATA).square().mean() + mas.penalty()).backward()
    expected = gradients(model)
    for part in DATA.split(2):
        (model(part).square().mean() / 4).backward()
    mas.penalty_grad_()
    torch.testing.assert_close(gradients(model), expected)


@pytest.mark.parametrize("unscale", [True, False])
def test_with_a_grad_scaler(unscale: bool) -> None:
    models = [MLP.model(torch.float32) for _ in range(2)]
    data = DATA.float()
    for model in models:
        mas = held(model, data, strength=0.1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        for _ in range(3):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(data).float().square().mean()
            if model is models[0]:
                scaler.scale(loss + mas.penalty()).backward()
            else:
                scaler.scale(loss).backward()
                if unscale:
                    scaler.unscale_(optimizer)
                mas.penalty_grad_(scale=1.0 if unscale else scaler.get_scale())
            scaler.step(optimizer)
            scaler.update()
    torch.testing.assert_close(models[1].state_dict(), models[0].state_dict())


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, nesterov=True),
        lambda p: torch.optim.Adam(p, 0.01),
        lambda p: torch.optim.AdamW(p, 0.01, fused=True),
        lambda p: torch.optim.RMSprop(p, 0.001),
    ],
)
def test_training_goes_the_same_way(make: Callable[[Any], torch.optim.Optimizer]) -> None:
    def trained(in_place: bool) -> nn.Module:
        model = MLP.model(torch.float64)
        mas = held(model, DATA)
        optimizer = make(model.parameters())
        for _ in range(5):
            optimizer.zero_grad()
            loss = model(DATA).square().mean()
            (loss if in_place else loss + mas.penalty()).backward()
            if in_place:
                mas.penalty_grad_()
            optimizer.step()
        return model

    torch.testing.assert_close(trained(True).state_dict(), trained(False).state_dict())


def test_a_compiled_model() -> None:
    model = MLP.model(torch.float64)
    compiled = torch.compile(model, backend="eager")
    mas = MAS(compiled)
    mas.consolidate([DATA])
    assert "0.weight" in mas.omega
    moved(model)
    expected, _ = both_ways(mas, lambda: model(DATA).square().mean())
    compiled(DATA).square().mean().backward()
    mas.penalty_grad_()
    torch.testing.assert_close(gradients(model), expected)


def test_a_compiled_step() -> None:
    model = MLP.model(torch.float64)
    mas = held(model, DATA)
    expected, _ = both_ways(mas, lambda: model(DATA).square().mean())
    model(DATA).square().mean().backward()
    value = torch.compile(mas.penalty_grad_, backend="eager")()
    torch.testing.assert_close(value, mas.penalty().detach())
    torch.testing.assert_close(gradients(model), expected)
    compiled = torch.compile(mas.penalty, backend="eager")
    (model(DATA).square().mean() + compiled()).backward()
    torch.testing.assert_close(gradients(model), expected)


def test_surgery_in_between() -> None:
    model = MLP.model(torch.float64)
    structure = Structure(model, DATA)
    mas = held(model, DATA)
    mas.penalty_grad_()
    structure.apply(Plan(grow={"0": 2}, prune={"2": [1]}), followers=[mas])
    model.zero_grad()
    same(mas, lambda: model(DATA).square().mean())
    assert float(mas.penalty_grad_()) > 0


def test_whatever_is_replaced_is_noticed() -> None:
    model = MLP.model(torch.float64)
    mas = held(model, DATA)
    mas.penalty_grad_()
    model[0] = copy.deepcopy(model[0])
    model[2].weight = nn.Parameter(model[2].weight.detach() + 1)
    mas.omega["4.bias"] = mas.omega["4.bias"] + 1
    mas.anchor["4.weight"] = mas.anchor["4.weight"] - 1
    model.zero_grad()
    value = mas.penalty_grad_()
    assert float(value) == pytest.approx(reference.penalty(model, 1.0, mas.omega, mas.anchor))
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, 2 * mas.omega[name] * (p - mas.anchor[name]).detach())
    model[4] = nn.Linear(5, 2).double()
    with pytest.raises(PenaltyError, match=r"4.weight: held \(3, 5\), model \(2, 5\)"):
        mas.penalty_grad_()


def test_the_penalty_can_be_differentiated_twice() -> None:
    model = nn.Linear(2, 1).double()
    mas = held(model, torch.ones(2, 2, dtype=torch.float64))
    (first,) = torch.autograd.grad(mas.penalty(), [model.weight], create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), [model.weight])
    torch.testing.assert_close(second, 2 * mas.omega["weight"])


@pytest.mark.parametrize("deed", ["penalty", "penalty_grad_", "decay", "load"])
def test_what_was_done_in_inference_mode_serves_training(deed: str) -> None:
    model = MLP.model(torch.float64)
    mas = held(model, DATA)
    with torch.inference_mode():
        match deed:
            case "penalty":
                mas.penalty()
            case "penalty_grad_":
                mas.penalty_grad_()
            case "decay":
                mas.decay(0.5)
            case "load":
                mas.load_state_dict({**mas.state_dict(), "strength": 2.0})
    model.zero_grad()
    same(mas, lambda: model(DATA).square().mean())


def test_a_parameter_of_another_shape_is_refused_though_it_is_the_same_object() -> None:
    model = MLP.model(torch.float64)
    mas = held(model, DATA)
    mas.penalty_grad_()
    model[0].weight.data = model[0].weight.data[:1]  # would be broadcast
    for ask in (mas.penalty, mas.penalty_grad_):
        with pytest.raises(PenaltyError, match=r"0\.weight: held"):
            ask()


def test_a_model_may_become_more_precise() -> None:
    model = MLP.model(torch.float32)
    mas = held(model, DATA.float())
    mas.penalty_grad_()
    model.zero_grad()
    model.double()
    same(mas, lambda: model(DATA).square().mean())
    assert {tensor.dtype for tensor in mas.omega.values()} == {torch.float64}


DEEDS: dict[str, Callable[[MAS], Any]] = {
    "move": lambda mas: moved(mas.model, 0.1),
    "swap": lambda mas: [setattr(p, "data", 1.1 * p.data) for p in mas.model.parameters()],
    "replace": lambda mas: setattr(
        mas.model[0], "weight", nn.Parameter(mas.model[0].weight.detach() * 0.9)
    ),
    "freeze": lambda mas: mas.model[0].weight.requires_grad_(False),
    "thaw": lambda mas: mas.model[0].weight.requires_grad_(True),
    "strength": lambda mas: setattr(mas, "strength", {"*": 0.3, "*.bias": 2.0}),
    "omega": lambda mas: [omega.mul_(1.5) for omega in mas.omega.values()],
    "anchor": lambda mas: [anchor.add_(0.1) for anchor in mas.anchor.values()],
    "consolidate": lambda mas: mas.consolidate([DATA]),
    "adapt": lambda mas: mas.adapt([DATA[:4]], keep=0.5),
    "forget": lambda mas: mas.forget([DATA[:4]], weight=0.2),
    "decay": lambda mas: mas.decay(0.7),
    "load": lambda mas: mas.load_state_dict(copy.deepcopy(mas.state_dict())),
    "look": lambda mas: torch.inference_mode()(mas.penalty)(),
    "copy": lambda mas: vars(mas).update(vars(copy.deepcopy(mas))),
    "pickle": lambda mas: vars(mas).update(vars(pickle.loads(pickle.dumps(mas)))),
    "edit": lambda mas: Structure(mas.model, DATA).apply(
        Plan(grow={"0": 2}, prune={"0": [0, 3]}), followers=[mas]
    ),
}


@pytest.mark.filterwarnings("ignore::growmas.errors.GrowmasWarning")
@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(sorted(DEEDS)), min_size=1, max_size=8), st.integers(8, 4096))
def test_whatever_is_done_in_between(deeds: list[str], chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK", chunk)
        patch.setattr(chunks, "SMALL", chunk // 2)
        model = MLP.model(torch.float64)
        mas = held(model, DATA, strength=0.7)
        for deed in deeds:
            DEEDS[deed](mas)
            mas.model.zero_grad()
            same(mas, lambda: mas.model(DATA).square().mean())
            torch.testing.assert_close(mas.penalty_grad_(), mas.penalty().detach())
            expected = sum(
                reference.penalty(mas.model, strength_for(mas, n), {n: omega}, {n: mas.anchor[n]})
                for n, omega in mas.omega.items()
            )
            assert float(mas.penalty().detach()) == pytest.approx(expected)


def strength_for(mas: MAS, name: str) -> float:
    if not isinstance(mas.strength, dict):
        return float(mas.strength)
    return mas.strength["*.bias"] if name.endswith(".bias") else mas.strength["*"]


def test_heads_without_importance_are_given_no_gradient() -> None:
    model = nn.ModuleDict({"used": nn.Linear(3, 2), "other": nn.Linear(3, 2)})
    mas = MAS(model)
    mas.consolidate([torch.rand(4, 3)], forward=lambda m, x: m["used"](x))
    moved(model)
    value = mas.penalty_grad_()
    torch.testing.assert_close(value, mas.penalty().detach())
    assert model["used"].weight.grad.any()
    assert model["other"].weight.grad is None
    mas.omega["other.weight"][0, 1] = 2.0  # in place
    mas.penalty_grad_()
    assert model["other"].weight.grad.count_nonzero() == 1
    assert model["other"].bias.grad is None


def test_a_layer_that_was_replaced_is_found() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    mas = held(model, torch.rand(4, 3))
    mas.penalty_grad_()
    model[2] = nn.Linear(4, 2)
    model.zero_grad()
    value = mas.penalty_grad_()
    assert model[2].weight.grad.any()
    torch.testing.assert_close(value, mas.penalty().detach())
