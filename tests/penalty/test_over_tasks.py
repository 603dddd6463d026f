"""Ω over tasks: how it is joined, re-weighed, given up, held in memory and in a state dict."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import snapshots
import torch
from cases import MLP, TWO_HEADS
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from growmas import MAS, accumulate_importance, importance_sum, mas_importance
from growmas.errors import PenaltyError

DATA = [MLP.inputs(8, torch.float64, seed=n) for n in range(4)]


@pytest.fixture
def model() -> nn.Module:
    return MLP.model(torch.float64)


def weighted(parts: list[Tensor], discount: float) -> Tensor:
    weights = [discount**age for age in reversed(range(len(parts)))]
    total = sum(w * part for w, part in zip(weights, parts, strict=True))
    return total / sum(weights)


@pytest.mark.parametrize(
    ("options", "combine"),
    [
        ({"accumulate": "max"}, lambda parts: torch.stack(parts).amax(0)),
        ({"accumulate": "exponential"}, lambda parts: weighted(parts, 0.9)),
        ({"accumulate": "exponential", "discount": 0.3}, lambda parts: weighted(parts, 0.3)),
        ({"accumulate": "exponential", "discount": 0.0}, lambda parts: parts[-1]),
        ({"accumulate": "exponential", "discount": 1.0}, lambda parts: weighted(parts, 1.0)),
        ({"accumulate": "mean"}, lambda parts: weighted(parts, 1.0)),
    ],
)
def test_rules(
    model: nn.Module, options: dict[str, Any], combine: Callable[[list[Tensor]], Tensor]
) -> None:
    mas = MAS(model, **options)
    parts: list[dict[str, Tensor]] = []
    for data in DATA:
        parts.append(mas_importance(model, [data]))
        mas.consolidate([data])
        expected = {name: combine([part[name] for part in parts]) for name in parts[0]}
        torch.testing.assert_close(mas.omega, expected)


@settings(deadline=None, max_examples=10)
@given(st.sampled_from(["mean", "exponential", "max"]), st.integers(1, 4))
def test_the_same_task_again_changes_nothing_but_a_sum(rule: str, times: int) -> None:
    model = MLP.model(torch.float64)
    mas, total = MAS(model, accumulate=rule), MAS(model)
    for _ in range(times):
        mas.consolidate([DATA[0]])
        total.consolidate([DATA[0]])
    measured = mas_importance(model, [DATA[0]])
    torch.testing.assert_close(mas.omega, measured)
    torch.testing.assert_close(total.omega, {n: times * o for n, o in measured.items()})


def test_memory_does_not_grow_with_tasks(model: nn.Module) -> None:
    mas, held = MAS(model, accumulate="exponential"), []
    for data in DATA:
        mas.consolidate([data])
        mas.penalty_grad_()
        held.append(memory(mas))
        assert [len(task) for task in mas.measured] == [6] * mas.tasks
    assert all(len(q) == 4 for task in mas.measured for q in task.values())
    assert len(set(held)) == 1


def test_memory_is_of_two_copies_and_a_little_to_work_in() -> None:
    model = nn.Sequential(nn.Linear(1000, 1000), nn.LayerNorm(1000), nn.Linear(1000, 2))
    mas = MAS(model)
    mas.consolidate([torch.rand(2, 1000)])
    weights = sum(p.nbytes for p in model.parameters())
    assert memory(mas) == 2 * weights
    mas.penalty_grad_()
    assert 2 * weights < memory(mas) < 2 * weights + 2**20 + 2**16


def memory(mas: MAS) -> int:
    storages = (tensor.untyped_storage() for tensor in held_tensors(mas.__dict__))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def held_tensors(value: Any) -> list[Tensor]:
    """Every tensor below a value that is not one of the model's."""
    if isinstance(value, Tensor):
        return [] if isinstance(value, nn.Parameter) else [value]
    if isinstance(value, nn.Module):
        return []
    if isinstance(value, dict):
        return [t for item in value.values() for t in held_tensors(item)]
    if isinstance(value, list | tuple):
        return [t for item in value for t in held_tensors(item)]
    return held_tensors(vars(value)) if hasattr(value, "__dict__") else []


@pytest.mark.parametrize("normalize", [None, "max"])
def test_adapt_as_in_the_paper_takes_the_importance_as_measured(
    model: nn.Module, normalize: str | None
) -> None:
    mas, once = MAS(model, normalize=normalize), MAS(model, normalize=normalize)
    for data in DATA[:2]:
        mas.consolidate([data])
    once.consolidate([DATA[2]])
    mas.adapt([DATA[2]], rescale=False)
    torch.testing.assert_close(mas.omega, once.omega)
    assert mas.tasks == 2


def test_adapt_keeps_a_share(model: nn.Module) -> None:
    mas = MAS(model)
    mas.consolidate([DATA[0]])
    before, measured = mas.omega, mas_importance(model, [DATA[1]])
    mas.adapt([DATA[1]], keep=0.25, rescale=False)
    torch.testing.assert_close(
        mas.omega, {n: 0.25 * o + 0.75 * measured[n] for n, o in before.items()}
    )
    mas.adapt([DATA[2]], keep=1.0)
    after = mas.omega
    mas.adapt([DATA[2]], keep=0.4)
    assert sum(o.sum() for o in mas.omega.values()) == pytest.approx(
        float(sum(o.sum() for o in after.values()))
    )


def test_adapt_frees_what_is_not_used() -> None:
    net = TWO_HEADS.model(torch.float64)
    mas = MAS(net)
    mas.consolidate([DATA[0]])
    mas.adapt([DATA[1]], forward=lambda model, x: model(x, 1))
    assert not mas.omega["heads.0.weight"].any()
    assert mas.omega["heads.1.weight"].any()


def test_forget_undoes_a_task_of_a_sum(model: nn.Module) -> None:
    mas, other = MAS(model), MAS(model)
    for data in DATA[:2]:
        mas.consolidate([data])
    other.consolidate([DATA[0]])
    mas.forget([DATA[1]])
    torch.testing.assert_close(mas.omega, other.omega)
    anchor = mas.anchor
    mas.forget([DATA[2]], weight=1e6)
    measured = mas_importance(model, [DATA[2]])
    assert not any(mas.omega[n][measured[n] > 0].any() for n in mas.omega)
    assert all(bool((omega >= 0).all()) for omega in mas.omega.values())
    assert mas.anchor is anchor


def test_forget_undoes_a_task_of_a_mean_in_proportion(model: nn.Module) -> None:
    mas = MAS(model, accumulate="mean")
    for data in DATA[:2]:
        mas.consolidate([data])
    mas.forget([DATA[1]], weight=1 / 2)
    half = {name: omega / 2 for name, omega in mas_importance(model, [DATA[0]]).items()}
    torch.testing.assert_close(mas.omega, half)


def test_decay(model: nn.Module) -> None:
    mas = MAS(model)
    mas.consolidate([DATA[0]])
    before = mas.omega
    mas.decay(0.25)
    torch.testing.assert_close(mas.omega, {n: o / 4 for n, o in before.items()})


def test_what_was_measured_can_be_handed_over(model: nn.Module) -> None:
    expected, found, running = MAS(model), MAS(model), MAS(model)
    expected.consolidate(DATA[:2])
    found.consolidate(importance_sum(model, DATA[:1]) + importance_sum(model, DATA[1:2]))
    torch.testing.assert_close(found.omega, expected.omega)
    with accumulate_importance(model) as use:
        for x in torch.cat(DATA[:2]).split(1):
            model(x)
    running.consolidate(use)
    torch.testing.assert_close(running.omega, expected.omega)
    assert {omega.dtype for omega in running.omega.values()} == {torch.float64}
    with pytest.raises(PenaltyError, match=r"body.bias, body.weight, .* on another model"):
        found.consolidate(importance_sum(TWO_HEADS.model(torch.float64), DATA[:1]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": {"*": 1.0, "0.*": -2.0}}, r"strength\['0.\*'\]=-2.0: expected a finite"),
        ({"strength": "1"}, "strength='1': expected a finite number >= 0"),
        ({"strength": float("inf")}, "strength=inf: expected a finite number >= 0"),
        ({"strength": {"*": 1.0, "heads.*": 2.0}}, r"strength=\['heads.\*'\] does not match any"),
        ({"strength": {"0.*": 1.0}}, "no pattern matches '2.weight'; begin the mapping with '\\*'"),
        ({"exclude": "0.*"}, r"exclude='0.\*': expected a tuple of patterns, such as \('0.\*',\)"),
        ({"discount": 1.5}, "discount=1.5: expected a number between 0 and 1"),
        ({"accumulate": "average"}, "expected one of 'sum', 'mean', 'exponential', 'max'"),
    ],
)
def test_settings_are_checked(model: nn.Module, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PenaltyError, match=message):
        MAS(model, **options)


def test_arguments_are_checked(model: nn.Module) -> None:
    mas = MAS(model)
    for act in (mas.adapt, mas.forget):
        with pytest.raises(PenaltyError, match=f"nothing to {act.__name__}: call consolidate"):
            act([DATA[0]])
    mas.consolidate([DATA[0]])
    with pytest.raises(PenaltyError, match="factor=2: expected a number between 0 and 1"):
        mas.decay(2)
    with pytest.raises(PenaltyError, match="keep=-1: expected"):
        mas.adapt([DATA[0]], keep=-1)
    with pytest.raises(PenaltyError, match="weight=-1: expected a finite number >= 0"):
        mas.forget([DATA[0]], weight=-1)


def test_the_last_matching_pattern_counts(model: nn.Module) -> None:
    mas = MAS(model, strength={"0.*": 5.0, "*": 1.0, "*.bias": 2.0})
    mas.consolidate([DATA[0]])
    assert {p.name: p.strength for p in mas.diagnose().parameters} == {
        name: 2.0 if name.endswith("bias") else 1.0 for name in mas.omega
    }


def test_a_given_strength_is_kept_as_it_was(model: nn.Module) -> None:
    strength = {"*": 1.0}
    mas = MAS(model, strength=strength)
    strength["*"] = -1.0
    assert mas.strength == {"*": 1.0}


def test_state_goes_round_with_every_setting(model: nn.Module) -> None:
    mas = MAS(
        model, strength={"*": 1.0, "0.*": 2.0}, accumulate="exponential", discount=0.5,
        normalize="mean", exclude=["4.bias"],
    )  # fmt: skip
    for data in DATA[:2]:
        mas.consolidate([data])
    fresh = MAS(MLP.model(torch.float64))
    fresh.load_state_dict(copy.deepcopy(mas.state_dict()))
    assert fresh.state_dict().keys() == mas.state_dict().keys()
    assert snapshots.of_penalty(fresh) == snapshots.of_penalty(mas)
    assert (fresh.measured, fresh.discount) == (mas.measured, 0.5)
    fresh.model.load_state_dict(model.state_dict())
    for held in (mas, fresh):
        held.consolidate([DATA[2]])
    assert snapshots.of_penalty(fresh) == snapshots.of_penalty(mas)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.pop("measured"), "the state lacks measured"),
        (lambda s: s["parameters"].append("5.weight"), "5.weight: in the model or in the state, "),
        (lambda s: s["parameters"].remove("4.bias"), "4.bias: in the model or in the state, but"),
        (lambda s: s.update(strength=-1.0), "strength=-1.0"),
        (lambda s: s.update(discount=2.0), "discount=2.0"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(
    model: nn.Module, spoil: Callable[[dict[str, Any]], None], message: str
) -> None:
    mas = MAS(model, strength=2.0)
    mas.consolidate([DATA[0]])
    state = copy.deepcopy(mas.state_dict())
    spoil(state)
    before = snapshots.of_penalty(mas)
    with pytest.raises(PenaltyError, match=message):
        mas.load_state_dict(state)
    assert snapshots.of_penalty(mas) == before
