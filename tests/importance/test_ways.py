"""The way each case of tests/cases.py is measured: by a rule, or by the fallback."""

from collections.abc import Callable
from typing import Any

import pytest
import reference
import torch
from cases import CANCELLING, IMPORTANCE, Case
from torch import nn
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from growmas import fisher_information, mas_importance
from growmas.importance import recording
from growmas.importance.fallback import Fallback
from tests.foreign.test_kinds import drawn

Spy = Callable[[], set[str]]


@pytest.fixture
def fallback(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the parameters that the fallback is asked for."""
    asked: set[str] = set()
    original = Fallback.sums

    def spy(self: Fallback, parameters: dict[str, Any], *rest: Any) -> Any:
        asked.update(parameters)
        return original(self, parameters, *rest)

    monkeypatch.setattr(Fallback, "sums", spy)
    return asked


@pytest.mark.parametrize("case", [*IMPORTANCE, *CANCELLING], ids=lambda case: case.name)
@pytest.mark.parametrize("samples", [1, 2, 9])
def test_a_rule_that_is_lost_fails_here(case: Case, samples: int, fallback: set[str]) -> None:
    mas_importance(case.model(), [case.inputs(samples)])
    assert fallback == set()


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_packed_sequences_have_rules(layer: Any, fallback: set[str]) -> None:
    torch.manual_seed(0)

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = layer(3, 4, 2, bidirectional=True)

        def forward(self, packed: Any) -> Any:
            return pad_packed_sequence(self.cell(packed)[0], batch_first=True)[0]

    parts = [torch.randn(length, 3) for length in (2, 5, 1, 3)]
    found = mas_importance(Reader(), [pack_sequence(parts, enforce_sorted=False)])
    assert found["cell.weight_hh_l1_reverse"].sum() > 0
    assert fallback == set()


PROVEN = (
    "matrices without a layer",
    "einsums",
    "learnt attention masks",
    "mask that is left out if full",
    "mask by vmap",
)
"""Kinds of tests/foreign/kinds.py whose rows are proven although masks or weights are unusual."""


@pytest.mark.parametrize("name", PROVEN)
def test_unusual_weights_and_masks_have_rules_and_proofs(
    name: str, fallback: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: Any) -> None:
        raise AssertionError("the owners of rows were measured")

    monkeypatch.setattr(recording, "owners_of_rows", never)
    case = drawn(name, 3)
    mas_importance(case.model, [case.batch], forward=case.forward)
    assert fallback == set()


class Windowed(nn.Module):
    """Attention with Swin's table of relative positions, looked up, reshaped and added."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(7, 2))
        self.qkv, self.head = nn.Linear(4, 12), nn.Linear(4, 3)
        places = torch.arange(4)
        self.register_buffer("index", places[:, None] - places + 3)

    def forward(self, x: Any) -> Any:
        heads = self.qkv(x).view(*x.shape[:2], 3, 2, 2).permute(2, 0, 3, 1, 4)
        q, k, v = heads
        bias = self.table[self.index.view(-1)].view(4, 4, -1).permute(2, 0, 1).contiguous()
        weights = (q @ k.mT + bias.unsqueeze(0)).softmax(-1)
        return self.head((weights @ v).transpose(1, 2).flatten(2).tanh())


class Scaled(nn.Module):
    """A product of matrices as weight, and an expression that is multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(2, 4))
        self.base, self.slope = nn.Linear(4, 3), nn.Parameter(torch.randn(3))

    def forward(self, x: Any) -> Any:
        weight = self.base.weight + self.up @ self.down
        return torch.sin(self.slope) * nn.functional.linear(x, weight, self.base.bias).tanh()


class Clipped(nn.Module):
    """An expression that is used twice, and a parameter that is used with and without it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Any) -> Any:
        weight = nn.functional.normalize(self.weight, dim=1)
        hidden = nn.functional.linear(x, weight).tanh()
        return nn.functional.linear(nn.functional.linear(hidden, weight).tanh(), self.weight)


NORMED = nn.utils.parametrizations.weight_norm
DERIVED: dict[str, Callable[[], nn.Module]] = {
    "table of relative positions": Windowed,
    "expressions": Scaled,
    "with and without": Clipped,
    "weight_norm": lambda: nn.Sequential(NORMED(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 2)),
    "old weight_norm": lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 5)), nn.Tanh()),
    "spectral_norm": lambda: nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 2)
    ),
    "orthogonal": lambda: nn.Sequential(
        nn.utils.parametrizations.orthogonal(nn.Linear(4, 4)), nn.Tanh(), nn.Linear(4, 2)
    ),
    "normed convolution": lambda: nn.Sequential(
        NORMED(nn.Conv1d(4, 5, 2, padding=1)), nn.Tanh(), nn.Flatten(), nn.LazyLinear(2)
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated", "ignore:Lazy modules")
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("name", DERIVED)
def test_expressions_of_parameters_have_rules(name: str, power: int, fallback: set[str]) -> None:
    torch.manual_seed(0)
    model, data = DERIVED[name]().double(), torch.randn(5, 4, 4).double()
    model(data)
    if power == 1:
        found = mas_importance(model, [data])
    else:
        labels = model(data).detach() + 1
        found = fisher_information(model, [(data, labels)], loss="squared_error")
    assert fallback == set()
    if power == 1:
        wanted = reference.importance(model.eval(), list(data.split(1)))
        for parameter, omega in wanted.items():
            assert torch.allclose(found[parameter], omega, rtol=1e-8, atol=1e-11), parameter


class Escaping(nn.Module):
    """An expression that is also read where no rule applies."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4))

    def forward(self, x: Any) -> Any:
        weight = self.weight.sin()
        return nn.functional.linear(x, weight) + weight.square().sum() * x[..., :1]


def test_an_expression_that_is_read_elsewhere_goes_to_the_fallback(fallback: set[str]) -> None:
    torch.manual_seed(0)
    model, data = Escaping().double(), torch.randn(5, 4).double()
    found = mas_importance(model, [data])
    wanted = reference.importance(model, list(data.split(1)))
    assert torch.allclose(found["weight"], wanted["weight"], rtol=1e-8)
    assert fallback == {"weight"}
