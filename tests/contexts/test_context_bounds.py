"""The bounds of the Gaussian context: what equals a threshold, and what is just enough."""

import pytest
import torch
from torch import Tensor

import growmas as gm
from growmas.errors import ContextError


def calibrated(samples: int = 9) -> tuple[gm.GaussianContext, Tensor]:
    """A context in one dimension, and the inputs at growing distances that it was calibrated on."""
    context = gm.GaussianContext(threshold=0.5)
    context.update("a", torch.tensor([[-1.0], [1.0]]))
    known = 1.2 ** torch.arange(samples)[:, None]
    context.calibrate(known)
    return context, known


def test_a_novelty_that_equals_the_threshold_is_unknown() -> None:
    context, known = calibrated()
    assert context.novelty(known).tolist() == [k / 10 for k in range(9)]
    assert context.select(known).tolist() == [0] * 5 + [gm.UNKNOWN] * 4


def test_a_threshold_may_be_as_fine_as_the_samples_allow() -> None:
    context, known = calibrated()
    context.threshold = 0.9
    assert context.select(known * 1.2).tolist() == [0] * 8 + [gm.UNKNOWN]
    context.threshold = 0.91
    with pytest.raises(ContextError, match="cannot be measured with 9 calibrated samples, it n"):
        context.select(known)


def test_classes_weigh_as_often_as_they_were_seen() -> None:
    context = gm.GaussianContext(per="class")
    rows = torch.tensor([[-1.0], [1.0]]).repeat(3, 1)
    context.update("a", torch.cat([rows, rows[:2]]), torch.tensor([0] * 6 + [1] * 2))
    scores = context.class_scores(torch.zeros(1, 1)).exp()
    torch.testing.assert_close(scores, torch.tensor([[0.75, 0.25]], dtype=torch.float64))


def test_experts_that_disagree_leave_probabilities() -> None:
    answers = [torch.tensor([[5.0, 0.0]]), torch.tensor([[0.0, 0.0]])]
    experts = [torch.tensor([[0.0, 5.0]]), torch.tensor([[0.0, 0.0]])]
    found = gm.combine_views(
        torch.zeros(1, 2).log_softmax(1),
        answers.__getitem__,
        experts=lambda task: experts[task].log_softmax(1),
    )
    torch.testing.assert_close(found.exp().sum(1), torch.ones(1))
    assert float(found.exp()[0, :2].sum()) < 0.05, "a task on whose classes they disagree"


def test_entropy_is_relative_to_the_size_of_the_head() -> None:
    context = gm.EntropyContext()
    two, ten = torch.zeros(1, 2), torch.zeros(1, 10)
    ten[0, 0] = 3.0
    # more entropy in absolute terms than two equal classes, but less of what it could have
    assert float(torch.special.entr(ten.softmax(1)).sum()) > 0.7
    assert float(context.confidence(ten)) > float(context.confidence(two))


def test_random_filters_do_not_see_brightness() -> None:
    image = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    filters = gm.RandomFilters(4, size=3, pool=2)
    plain, bright = (filters(image + shift).view(4, 6, 6)[:, 1:-1, 1:-1] for shift in (0.0, 1.0))
    torch.testing.assert_close(plain, bright, atol=1e-5, rtol=1e-5)
