"""The MAS penalty, and Ω and anchors over tasks and through surgery."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import reference
import snapshots
import torch
from cases import CONVNET, MLP, TWO_HEADS
from torch import Tensor, nn

from growmas import MAS, Plan, Structure, mas_importance
from growmas.errors import GrowmasWarning, PenaltyError

DATA = [MLP.inputs(8, torch.float64, seed=n) for n in range(3)]


def move(model: nn.Module, seed: int = 0, by: float = 0.3) -> None:
    """Stands for training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(by * torch.randn(p.shape, generator=generator, dtype=p.dtype))


def charge(mas: MAS) -> float:
    return float(mas.penalty().detach())


@pytest.fixture
def model() -> nn.Module:
    return MLP.model(torch.float64)


def copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.allclose(a[n], b[n], rtol=1e-12) for n in a)


@pytest.mark.parametrize("strength", [0.0, 0.5, 3.0])
def test_penalty_and_its_gradient_equal_the_reference(model: nn.Module, strength: float) -> None:
    mas = MAS(model, strength=strength)
    mas.consolidate([DATA[0]])
    anchor = {n: p.detach().clone() for n, p in model.named_parameters()}
    assert charge(mas) == 0.0
    move(model)
    omega = reference.importance(MLP.model(torch.float64), DATA[0].split(1))
    expected = reference.penalty(model, strength, omega, anchor)
    penalty = mas.penalty()
    assert penalty.shape == ()
    assert float(penalty.detach()) == pytest.approx(expected, rel=1e-10, abs=1e-15)
    penalty.backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, 2 * strength * omega[name] * (p - anchor[name]))


def test_penalty_is_exactly_zero_before_the_first_consolidate(model: nn.Module) -> None:
    mas = MAS(model)
    move(model)
    penalty = mas.penalty()
    assert penalty.shape == ()
    assert float(penalty) == 0.0
    assert penalty.dtype == torch.float64
    loss = model(DATA[0]).sum() + penalty
    loss.backward()
    assert mas.omega == mas.anchor == {}
    assert mas.tasks == 0


def test_penalty_of_a_model_without_parameters() -> None:
    assert charge(MAS(nn.Flatten())) == 0.0


def test_forward_function_and_estimator_are_passed_on() -> None:
    net = TWO_HEADS.model(torch.float64)
    mas = MAS(net)
    options: dict[str, Any] = {
        "forward": lambda model, x: model(x, 0),
        "function": "vector",
        "estimator": "batch",
    }
    mas.consolidate([DATA[0]], **options)
    assert equal(mas.omega, mas_importance(net, [DATA[0]], **options))
    del options["estimator"]
    mas.adapt([DATA[1]], **options)
    measured = mas_importance(net, [DATA[1]], **options)
    ratio = mas.omega["body.weight"] / measured["body.weight"]
    assert torch.allclose(ratio[ratio.isfinite()], ratio[ratio.isfinite()][0])


@pytest.mark.parametrize(
    ("accumulate", "combine"),
    [("sum", lambda parts: sum(parts)), ("mean", lambda parts: sum(parts) / len(parts))],
)
def test_importance_over_tasks(
    model: nn.Module, accumulate: str, combine: Callable[[list[Tensor]], Tensor]
) -> None:
    mas = MAS(model, accumulate=accumulate)
    measured: list[dict[str, Tensor]] = []
    for task, data in enumerate(DATA):
        move(model, seed=task)
        measured.append(mas_importance(model, [data]))
        mas.consolidate([data])
        assert mas.tasks == task + 1
        assert equal(mas.omega, {n: combine([m[n] for m in measured]) for n in measured[0]})
        assert snapshots.values(mas.anchor) == snapshots.values(model.named_parameters())


@pytest.mark.parametrize("exclude", [(), ("4.*",)])
def test_normalised_importance(model: nn.Module, exclude: tuple[str, ...]) -> None:
    measured = mas_importance(model, [DATA[0]])
    held = {n: o for n, o in measured.items() if not (exclude and n.startswith("4"))}
    everything = torch.cat([omega.flatten() for omega in held.values()])
    for normalize, scale in (("mean", everything.mean()), ("max", everything.max())):
        mas = MAS(model, normalize=normalize, exclude=exclude)
        mas.consolidate([DATA[0]])
        assert equal(mas.omega, {n: omega / scale for n, omega in held.items()})
        mas.consolidate([DATA[0]])
        assert equal(mas.omega, {n: 2 * omega / scale for n, omega in held.items()})


def test_a_task_without_any_importance_is_not_divided_by_zero(model: nn.Module) -> None:
    with torch.no_grad():
        model[4].weight.zero_()
        model[4].bias.zero_()
    for normalize in ("mean", "max"):
        mas = MAS(model, normalize=normalize)
        with pytest.warns(GrowmasWarning, match="this task is not protected"):
            mas.consolidate([DATA[0]])
        assert not any(omega.any() for omega in mas.omega.values())
        assert charge(mas) == 0.0


def test_excluded_parameters_are_free(model: nn.Module) -> None:
    mas = MAS(model, exclude=["4.*", "0.bias"])
    mas.consolidate([DATA[0]])
    assert list(mas.omega) == list(mas.anchor) == ["0.weight", "2.weight", "2.bias"]
    before = charge(mas)
    with torch.no_grad():
        model[4].weight.add_(1.0)
        model[0].bias.add_(1.0)
    assert charge(mas) == before == 0.0
    with torch.no_grad():
        model[2].bias.add_(1.0)
    assert charge(mas) > 0


def test_everything_may_be_excluded(model: nn.Module) -> None:
    mas = MAS(model, exclude=["*"])
    mas.consolidate([DATA[0]])
    move(model)
    assert charge(mas) == 0.0


def test_an_unused_head_is_free_and_a_used_one_is_held() -> None:
    net = TWO_HEADS.model(torch.float64)
    mas = MAS(net)
    mas.consolidate([DATA[0]], forward=lambda model, x: model(x, 0))
    assert not mas.omega["heads.1.weight"].any()
    with torch.no_grad():
        net.heads[1].weight.add_(1.0)
    assert charge(mas) == 0.0
    with torch.no_grad():
        net.heads[0].weight.add_(1.0)
    assert charge(mas) > 0.0


def test_a_head_added_later_is_taken_in() -> None:
    net = TWO_HEADS.model(torch.float64)
    mas = MAS(net, accumulate="mean")
    mas.consolidate([DATA[0]], forward=lambda model, x: model(x, 0))
    net.heads.append(nn.Linear(7, 4).double())
    assert charge(mas) == 0.0
    measured = mas_importance(net, [DATA[1]], forward=lambda model, x: model(x, 2))
    mas.consolidate([DATA[1]], forward=lambda model, x: model(x, 2))
    torch.testing.assert_close(mas.omega["heads.2.weight"], measured["heads.2.weight"] / 2)


def test_adapt_moves_importance_and_keeps_total_and_anchors(model: nn.Module) -> None:
    mas = MAS(model, exclude=["0.bias"])
    for data in DATA[:2]:
        mas.consolidate([data])
    anchor, before = copies(mas.anchor), copies(mas.omega)
    move(model)
    mas.adapt([DATA[2]])
    measured = mas_importance(model, [DATA[2]])
    total = sum(float(o.sum()) for o in before.values())
    scale = total / sum(float(measured[n].sum()) for n in before)
    assert equal(mas.omega, {n: scale * measured[n] for n in before})
    assert sum(float(o.sum()) for o in mas.omega.values()) == pytest.approx(total)
    assert snapshots.values(mas.anchor) == snapshots.values(anchor)
    assert mas.tasks == 2


def test_adapt_needs_something_to_adapt(model: nn.Module) -> None:
    mas = MAS(model)
    with pytest.raises(PenaltyError, match="nothing to adapt: call consolidate"):
        mas.adapt([DATA[0]])
    mas.consolidate([DATA[0]])
    before = snapshots.of_penalty(mas)
    with pytest.raises(PenaltyError, match="importance on these batches is zero for every"):
        mas.adapt([DATA[0]], forward=lambda model, x: x)
    assert snapshots.of_penalty(mas) == before


def test_a_failed_measurement_changes_nothing(model: nn.Module) -> None:
    mas = MAS(model)
    mas.consolidate([DATA[0]])
    before = snapshots.of_penalty(mas)
    for act in (mas.consolidate, mas.adapt):
        with pytest.raises(Exception, match="NaN"):
            act([DATA[1] * torch.nan])
        with pytest.raises(Exception, match="no samples"):
            act([])
    assert snapshots.of_penalty(mas) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": -1.0}, "strength=-1.0: expected a finite number >= 0"),
        ({"strength": float("nan")}, "strength=nan: expected a finite number >= 0"),
        ({"accumulate": "ema"}, "accumulate='ema': expected one of 'sum', 'mean'"),
        ({"normalize": "l2"}, "normalize='l2': expected one of 'mean', 'max', None"),
        ({"exclude": ["heads.*"]}, r"exclude=\['heads.\*'\] does not match any parameter"),
    ],
)
def test_settings_are_checked(model: nn.Module, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PenaltyError, match=message):
        MAS(model, **options)


def test_state_goes_round(model: nn.Module) -> None:
    mas = MAS(model, strength=2.0, accumulate="mean", normalize="max", exclude=["0.bias"])
    for data in DATA[:2]:
        mas.consolidate([data])
    state = copy.deepcopy(mas.state_dict())
    fresh = MAS(MLP.model(torch.float64))
    fresh.load_state_dict(state)
    assert snapshots.of_penalty(fresh) == snapshots.of_penalty(mas)
    mas.consolidate([DATA[2]])
    fresh.model.load_state_dict(model.state_dict())
    fresh.consolidate([DATA[2]])
    assert snapshots.of_penalty(fresh) == snapshots.of_penalty(mas)


def test_a_state_that_was_given_out_does_not_change_later(model: nn.Module) -> None:
    mas = MAS(model)
    mas.consolidate([DATA[0]])
    state = mas.state_dict()
    kept = copy.deepcopy(state)
    move(model)
    mas.consolidate([DATA[1]])
    mas.adapt([DATA[2]])
    for part in ("omega", "anchor"):
        assert snapshots.values(state[part]) == snapshots.values(kept[part])


def without(state: dict[str, Any], part: str, name: str) -> None:
    del state[part][name]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda s: s["omega"].update({"0.weight": torch.zeros(9, 6)}),
            r"0.weight: held \(9, 6\), ",
        ),
        (
            lambda s: s["anchor"].update({"2.bias": torch.zeros(())}),
            r"2.bias: held \(\), model \(5",
        ),
        (lambda s: s["omega"].update({"x": torch.zeros(1)}), "model has no such parameter"),
        (lambda s: without(s, "anchor", "2.bias"), "2.bias"),
        (lambda s: without(s, "omega", "2.bias"), "2.bias"),
        (lambda s: s.update(accumulate="ema"), "accumulate='ema'"),
        (lambda s: s.update(normalize="l2"), "normalize='l2'"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(
    model: nn.Module, spoil: Callable[[dict[str, Any]], None], message: str
) -> None:
    mas = MAS(model, strength=2.0)
    mas.consolidate([DATA[0]])
    state = copy.deepcopy(mas.state_dict())
    spoil(state)
    fresh = MAS(MLP.model(torch.float64))
    fresh.consolidate([DATA[1]])
    before = snapshots.of_penalty(fresh)
    with pytest.raises(PenaltyError, match=message):
        fresh.load_state_dict(state)
    assert snapshots.of_penalty(fresh) == before


def test_a_penalty_that_was_left_behind_by_surgery_says_so(model: nn.Module) -> None:
    mas = MAS(model)
    mas.consolidate([DATA[0]])
    Structure(model, DATA[0]).apply(Plan(grow={"0": 1}))
    before = snapshots.of_penalty(mas)
    for act in (mas.penalty, lambda: mas.consolidate([DATA[0]]), lambda: mas.adapt([DATA[0]])):
        with pytest.raises(PenaltyError, match=r"0.weight: held \(8, 6\), model \(9, 6\).*followe"):
            act()
    assert snapshots.of_penalty(mas) == before


@pytest.mark.parametrize("case", [MLP, CONVNET], ids=lambda case: case.name)
def test_surgery_keeps_the_penalty_and_leaves_fresh_units_free(case: Any) -> None:
    net, data = case.model(torch.float64), case.inputs(8, torch.float64)
    mas = MAS(net)
    mas.consolidate([data])
    move(net)
    before = charge(mas)
    structure = Structure(net, data)
    structure.apply(Plan(grow=dict.fromkeys(structure.groups, 3)), followers=[mas])
    assert charge(mas) == pytest.approx(before, rel=1e-12)
    fresh = {n: o == 0 for n, o in mas.omega.items()}
    with torch.no_grad():
        for name, p in net.named_parameters():
            p[fresh[name]] += 1.0
    assert charge(mas) == pytest.approx(before, rel=1e-12)


def test_pruned_weights_leave_the_penalty(model: nn.Module) -> None:
    mas = MAS(model, strength=1.5)
    mas.consolidate([DATA[0]])
    move(model)
    kept = [0, 2, 3, 6, 7]
    omega, anchor = copies(mas.omega), copies(mas.anchor)
    Structure(model, DATA[0]).apply(Plan(prune={"0": [1, 4, 5]}), followers=[mas])
    for held in (omega, anchor):
        held["0.weight"], held["0.bias"] = held["0.weight"][kept], held["0.bias"][kept]
        held["2.weight"] = held["2.weight"][:, kept]
    assert snapshots.values(mas.omega) == snapshots.values(omega)
    assert snapshots.values(mas.anchor) == snapshots.values(anchor)
    assert charge(mas) == pytest.approx(reference.penalty(model, 1.5, omega, anchor))


def test_fresh_weights_are_anchored_where_they_were_born(model: nn.Module) -> None:
    mas = MAS(model)
    mas.consolidate([DATA[0]])
    move(model)
    Structure(model, DATA[0]).apply(Plan(grow={"0": 2, "2": 1}), followers=[mas])
    for name, rows, columns in (("0.weight", 8, 6), ("2.weight", 5, 8)):
        now, anchor, omega = model.get_parameter(name), mas.anchor[name], mas.omega[name]
        fresh = torch.ones_like(now, dtype=torch.bool)
        fresh[:rows, :columns] = False
        assert torch.equal(anchor[fresh], now[fresh])
        assert not omega[fresh].any()
        assert not torch.equal(anchor[~fresh], now[~fresh])
        assert omega[~fresh].any()
