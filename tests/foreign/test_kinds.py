"""Every kind of network and batch: importance equals the loop, or is refused; nothing changes."""

import pytest
import reference
import snapshots
import torch
from torch import Tensor, nn

from growmas import GrowmasError, mas_importance
from tests.foreign import wrappings
from tests.foreign.kinds import KINDS, Drawn

EXACT = 1e-10
REGISTERED = (wrappings,)  # its import fills KINDS


def drawn(name: str, seed: int) -> Drawn:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return KINDS[name]()


def scale(name: str, expected: dict[str, Tensor]) -> float:
    """Size of a parameter's importance; gradients that cancel to rounding have that of others."""
    largest = max(float(omega.norm()) for omega in expected.values())
    return max(float(expected[name].norm()), 1e-4 * largest, 1e-6)


def loop(name: str, seed: int) -> dict[str, Tensor]:
    """Ω of the samples one by one, of a network of its own: some networks change when they run."""
    case = drawn(name, seed)
    assert case.samples is not None
    for module in case.model.modules():
        if hasattr(module, "cache"):
            module.train()
    case.model.requires_grad_(True)
    forward = case.forward or (lambda model, sample: model(sample))

    def fresh(model: nn.Module, sample: object) -> object:
        for module in model.modules():
            if hasattr(module, "cache"):
                module.cache = {}
        return forward(model, sample)

    return reference.importance(case.model, case.samples, forward=fresh)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", KINDS)
def test_equal_to_the_loop_or_refused(name: str, seed: int) -> None:
    case = drawn(name, seed)
    before = snapshots.of_model(case.model)
    if case.samples is None:
        with pytest.raises(GrowmasError):
            mas_importance(case.model, [case.batch], forward=case.forward, **case.options)
    else:
        found = mas_importance(case.model, [case.batch], forward=case.forward, **case.options)
        expected = loop(name, seed)
        for n, wanted in expected.items():
            assert float((found[n] - wanted).norm()) <= EXACT * scale(n, expected), n
    assert snapshots.of_model(case.model) == before


@pytest.mark.parametrize("seed", range(100, 102))
@pytest.mark.parametrize("name", KINDS)
def test_cut_differently_the_same(name: str, seed: int) -> None:
    case = drawn(name, seed)
    if case.samples is None:
        pytest.skip("refused")
    whole = mas_importance(case.model, [case.batch], forward=case.forward, **case.options)
    one_by_one = mas_importance(case.model, case.samples, forward=case.forward, **case.options)
    pieces = case.batch.split(2) if isinstance(case.batch, Tensor) else [case.batch, case.batch]
    cut = mas_importance(case.model, pieces, forward=case.forward, **case.options)
    for n, wanted in whole.items():
        for found in (one_by_one, cut):
            assert float((found[n] - wanted).norm()) <= EXACT * max(float(wanted.norm()), 1e-6), n
