"""The bounds of hard protection, of the monitor and of forgetting."""

import warnings
from typing import Any

import pytest
import torch
from torch import nn

import growmas as gm
from growmas.penalty.accumulation import accumulated
from growmas.penalty.monitor import SWAMPED, Monitor, swamped
from growmas.penalty.settings import strength_of

X = torch.rand(8, 3, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def ones(model: nn.Module, value: float = 1.0) -> dict[str, torch.Tensor]:
    return {name: torch.full_like(p, value) for name, p in model.named_parameters()}


def test_a_frozen_entry_stays_old_when_its_importance_is_gone() -> None:
    model = network()
    protect = gm.HardProtection(model, fraction=1.0)
    protect.freeze(ones(model))
    protect.freeze(ones(model, 0.0))
    assert all(bool(mask.all()) for mask in protect.frozen.values())
    shares = protect.frozen_shares(gm.Structure(model, X))
    assert torch.equal(shares["0"], torch.ones(4))


def test_freezing_the_same_again_freezes_no_more() -> None:
    model = network()
    protect = gm.HardProtection(model, fraction=0.5, per="network")
    for _ in range(2):
        protect.freeze(ones(model))
        assert sum(int(mask.sum()) for mask in protect.frozen.values()) == 13


def test_units_of_which_nothing_is_frozen_are_never_listed() -> None:
    model = network()
    protect = gm.HardProtection(model, fraction=1.0)
    omega = ones(model, 0.0)
    omega["0.weight"][2] = 1.0
    protect.freeze(omega)
    structure = gm.Structure(model, X)
    assert protect.frozen_units(structure, at_least=0.0) == {"0": (2,)}
    assert protect.frozen_units(structure) == {"0": (2,)}


def test_frozen_entries_that_drifted_are_set_back_before_more_are_frozen() -> None:
    model = network()
    protect = gm.HardProtection(model, fraction=1.0)
    protect.freeze(ones(model))
    before = [p.clone() for p in model.parameters()]
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    protect.freeze(ones(model))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_a_penalty_gradient_is_compared_with_the_largest_of_the_loss() -> None:
    model = network()
    mas = gm.MAS(model)
    mas.consolidate([X])
    with torch.no_grad():
        model[0].weight.add_(0.1)
    terms = mas._current_terms()
    size = float(torch.cat([g.flatten() for t in terms for g in t.gradients().values()]).norm())
    monitor = Monitor()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.check(torch.tensor(1.0), terms, size)  # as large as the loss's
        monitor.check(torch.tensor(1.0), terms, size / 1e6)  # the loss has been learnt since
    with pytest.warns(gm.GrowmasWarning, match="the gradient of the penalty is"):
        Monitor().check(torch.tensor(1.0), terms, size / 1e6)


def test_a_ratio_at_the_limit_is_not_too_large() -> None:
    assert swamped(SWAMPED) is None
    assert swamped(SWAMPED * 1.01) is not None
    assert swamped(float("nan")) is None


def test_what_is_forgotten_never_falls_below_zero() -> None:
    mas = gm.MAS(network())
    mas.consolidate([X])
    mas.forget([X], weight=3.0)
    assert all(float(omega.min()) >= 0 for omega in mas.omega.values())
    assert all(float(omega.max()) == 0 for omega in mas.omega.values())


def test_of_several_patterns_the_last_counts() -> None:
    assert strength_of("heads.0.weight", {"*": 1.0, "heads.*": 0.1}) == 0.1
    assert strength_of("heads.0.weight", {"heads.*": 0.1, "*": 1.0}) == 1.0


def test_adapt_keeps_the_share_and_the_total() -> None:
    mas = gm.MAS(network())
    mas.consolidate([X])
    before = {name: omega.clone() for name, omega in mas.omega.items()}
    other = gm.mas_importance(mas.model, [-X])
    mas.adapt([-X], keep=0.25, rescale=False)
    for name, omega in mas.omega.items():
        torch.testing.assert_close(omega, 0.25 * before[name] + 0.75 * other[name])


@pytest.mark.parametrize(("rule", "share"), [("mean", 0.5), ("exponential", 0.8), ("sum", 1.0)])
def test_a_parameter_that_is_new_had_no_importance_before(rule: Any, share: float) -> None:
    held, new = torch.tensor([4.0]), torch.tensor([2.0])
    found = accumulated({"old": held}, {"old": held, "new": new}, rule=rule, tasks=2, discount=0.25)
    torch.testing.assert_close(found["new"], share * new)
    torch.testing.assert_close(found["old"], (2.0 if rule == "sum" else 1.0) * held)
