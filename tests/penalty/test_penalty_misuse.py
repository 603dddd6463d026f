"""Mistakes of a user with a penalty, and the representation of its objects."""

from typing import Any

import pytest
import torch
from torch import nn

import growmas as gm
from growmas.errors import DataError, GrowmasError, ImportanceError, PenaltyError

X = torch.rand(8, 3, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


@pytest.mark.parametrize("wrong", [5, None, "net", nn.Linear])
def test_something_else_than_a_network_is_refused(wrong: Any) -> None:
    for make in (gm.MAS, lambda model: gm.HardProtection(model, fraction=0.5)):
        with pytest.raises(ImportanceError, match="expected a torch"):
            make(wrong)


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda mas: mas.consolidate(5), DataError, "expected an iterable of batches"),
        (lambda mas: mas.adapt([X], keep=2), PenaltyError, "keep=2: expected a number between"),
        (lambda mas: mas.adapt([X], keep=True), PenaltyError, "keep=True: expected a number"),
        (lambda mas: mas.decay("half"), PenaltyError, "factor='half': expected a number between"),
        (lambda mas: mas.forget([X], weight="1"), PenaltyError, "weight='1': expected a finite"),
        (lambda mas: mas.forget([X], weight=-1), PenaltyError, "weight=-1: expected a finite"),
        (
            lambda mas: mas.propose_strength([X], max, optimizer=max, share=float("nan")),
            PenaltyError,
            "share=nan: expected a finite number > 0",
        ),
    ],
)
def test_arguments_out_of_range(ask: Any, error: type[GrowmasError], message: str) -> None:
    mas = gm.MAS(network())
    mas.consolidate([X])
    with pytest.raises(error, match=message):
        ask(mas)
    assert mas.tasks == 1


@pytest.mark.parametrize("wrong", [5, None, [X]])
def test_importance_that_is_not_a_dict_is_refused(wrong: Any) -> None:
    protect = gm.HardProtection(network(), fraction=0.5)
    with pytest.raises(PenaltyError, match="expected a dict of tensors by parameter name"):
        protect.freeze(wrong)
    assert protect.frozen == {}


def test_each_says_what_it_is_in_one_line() -> None:
    model = network()
    mas = gm.MAS(model, strength=0.5, accumulate="max")
    assert repr(mas) == (
        "MAS(Sequential, strength=0.5, accumulate='max'; 0 tasks, 0 parameters held)"
    )
    mas.consolidate([X])
    assert repr(mas).endswith("1 task, 26 parameters held)")
    protect = gm.HardProtection(model, fraction=0.5, per="network")
    assert repr(protect) == (
        "HardProtection(Sequential, fraction=0.5, per='network'; 0 entries frozen)"
    )
    protect.freeze({name: torch.ones_like(p) for name, p in model.named_parameters()})
    assert repr(protect).endswith("per='network'; 13 entries frozen)")
