"""Contexts that ask the views."""

import math

import pytest
import torch
from torch import Tensor

from growmas import EnergyContext, EntropyContext
from growmas.contexts.confidence import ConfidenceContext
from growmas.errors import ContextError

LOGITS = [torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 0.0, 0.1], [0.0, 9.0, 0.0]])]


def learnt(kind: type[ConfidenceContext]) -> ConfidenceContext:
    context = kind()
    for task in ("a", "b", "a"):
        context.update(task)
    return context


def entropy(row: Tensor) -> float:
    p = row.softmax(0)
    return -sum(float(x * x.log()) for x in p) / math.log(len(p))


@pytest.mark.parametrize(
    ("kind", "score"),
    [(EntropyContext, lambda row: -entropy(row)), (EnergyContext, lambda row: row.logsumexp(0))],
)
def test_the_surest_view_is_taken(kind: type[ConfidenceContext], score: object) -> None:
    context = learnt(kind)
    assert context.tasks == ("a", "b")
    wanted = torch.tensor([[float(score(row)) for row in rows] for rows in LOGITS]).T
    found = context.scores(torch.rand(2, 5), LOGITS.__getitem__)
    torch.testing.assert_close(found, wanted.log_softmax(1))
    assert context.select(None, LOGITS.__getitem__).tolist() == [0, 1]
    together = context.select(None, LOGITS.__getitem__, together=True)
    assert together.tolist() == [int(found.sum(0).argmax())] * 2
    other = kind()
    other.load_state_dict(context.state_dict())
    assert other.tasks == context.tasks


def test_a_certain_answer_has_no_entropy() -> None:
    context = learnt(EntropyContext)
    logits = [torch.tensor([[0.0, torch.inf]]).nan_to_num(posinf=1e4), torch.zeros(1, 2)]
    assert context.scores(None, logits.__getitem__).isfinite().all()
    assert context.select(None, logits.__getitem__).tolist() == [0]


def test_refusals() -> None:
    with pytest.raises(ContextError, match="this EnergyContext has seen no task yet"):
        EnergyContext().scores(None, LOGITS.__getitem__)
    with pytest.raises(ContextError, match="EntropyContext needs the answers of the views: give"):
        learnt(EntropyContext).scores(torch.rand(2, 5))
    with pytest.raises(ContextError, match="at least 2 outputs, got 1: use EnergyContext"):
        learnt(EntropyContext).scores(None, lambda task: torch.zeros(3, 1))
    with pytest.raises(ContextError, match="of kind EnergyContext, not EntropyContext"):
        EntropyContext().load_state_dict(EnergyContext().state_dict())
