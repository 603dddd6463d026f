"""Ties between tasks, refused arguments, and the representation of contexts."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import growmas as gm
from growmas.contexts.context import likeliest
from growmas.contexts.settings import is_number
from growmas.errors import ContextError

ROWS = torch.rand(20, 6, generator=torch.Generator().manual_seed(0))


def test_of_equal_scores_the_first_task_is_taken() -> None:
    scores = torch.tensor([[0.0, 1.0, 1.0], [2.0, 2.0, 2.0], [0.0, 0.5, 3.0]])
    assert likeliest(scores, together=False).tolist() == [1, 0, 2]
    assert likeliest(scores[:2], together=True).tolist() == [1, 1]
    assert likeliest(scores.flip(0)[1:], together=True).tolist() == [1, 1]


@pytest.mark.parametrize("per", ["task", "class"])
@pytest.mark.parametrize("order", [("a", "b", "c"), ("c", "a", "b")])
def test_of_tasks_with_the_same_inputs_the_first_seen_is_taken(
    per: Any, order: tuple[str, ...]
) -> None:
    context = gm.GaussianContext(per=per)
    for task in order:
        context.update(task, ROWS, torch.arange(20) % 2)
    scores = context.scores(ROWS)
    assert torch.equal(scores[:, 0], scores[:, 1])
    for together in (False, True):
        assert context.select(ROWS, together=together).tolist() == [0] * 20
    loaded = gm.GaussianContext(per=per)
    loaded.load_state_dict(context.state_dict())
    assert loaded.tasks == order
    assert loaded.select(ROWS).tolist() == [0] * 20


def test_a_tie_in_novelty_counts_as_known_for_samples_that_come_together() -> None:
    context = gm.GaussianContext(threshold=0.9)
    context.update("a", ROWS)
    mixed = torch.cat([ROWS[:2], ROWS[:2] + 100])
    assert context.select(mixed).tolist() == [0, 0, gm.UNKNOWN, gm.UNKNOWN]
    assert context.select(mixed, together=True).tolist() == [0] * 4, "half is not more than half"
    assert context.select(mixed[1:], together=True).tolist() == [gm.UNKNOWN] * 3


@pytest.mark.parametrize("kind", [gm.EntropyContext, gm.EnergyContext])
def test_of_equally_confident_views_the_first_is_taken(kind: Any) -> None:
    context = kind()
    for task in ("a", "b", "c"):
        context.update(task)
    logits = [torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 5.0]]), torch.tensor([[5.0, 0.0]])]
    assert context.select(None, logits.__getitem__).tolist() == [1]


@pytest.fixture
def structure() -> gm.Structure:
    torch.manual_seed(0)
    structure = gm.Structure(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), ROWS)
    structure.begin_task("a")
    return structure


@pytest.mark.parametrize("wrong", [5, None, "gaussian", gm.GaussianContext, nn.Linear(1, 1)])
def test_something_else_than_a_context_is_refused(structure: gm.Structure, wrong: Any) -> None:
    with pytest.raises(ContextError, match=r"context: expected a context such as GaussianContext"):
        gm.answer_by_context(structure, wrong, ROWS)


def test_a_structure_or_forward_of_the_wrong_type_is_refused(structure: gm.Structure) -> None:
    context = gm.GaussianContext()
    context.update("a", ROWS)
    wrong: Any = structure.model
    number: Any = 5
    chosen = torch.zeros(20, dtype=torch.int64)
    with pytest.raises(ContextError, match="structure: expected Structure, got Sequential"):
        gm.answer_by_context(wrong, context, ROWS)
    with pytest.raises(ContextError, match="structure: expected Structure, got Sequential"):
        gm.view_answers(wrong, ROWS)
    for ask in (
        lambda: gm.answer_by_context(structure, context, ROWS, forward=number),
        lambda: gm.answer_by_view(structure, chosen, ROWS, forward=number),
        lambda: gm.view_answers(structure, ROWS, forward=number),
    ):
        with pytest.raises(ContextError, match="forward=5: expected a function"):
            ask()


def test_what_combine_views_is_given_is_checked() -> None:
    number: Any = 5
    scores = torch.zeros(2, 1)
    with pytest.raises(ContextError, match="answers=5: expected a function, position of a task"):
        gm.combine_views(scores, number)
    with pytest.raises(ContextError, match="experts=5: expected a function, position of a task"):
        gm.combine_views(scores, lambda task: torch.zeros(2, 3), experts=number)
    with pytest.raises(ContextError, match=r"scores must be log-probabilities .* got int"):
        gm.combine_views(number, lambda task: torch.zeros(2, 3))


def test_class_answers_know_only_the_tasks_seen() -> None:
    context = gm.GaussianContext(per="class")
    context.update("a", ROWS, torch.arange(20) % 2)
    answers = context.class_answers(ROWS)
    for position in (-1, 1):
        with pytest.raises(ContextError, match=f"no task at position {position}: there are 1"):
            answers(position)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filters": 0}, "filters=0: expected a whole number >= 1"),
        ({"size": 4}, "size=4: expected an odd whole number"),
        ({"pool": 0}, "pool=0: expected a whole number >= 1"),
        ({"seed": -1}, "seed=-1: expected a whole number >= 0"),
        ({"filters": 1.5, "pool": "4"}, "filters=1.5: .*\npool='4': "),
    ],
)
def test_settings_of_random_filters(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ContextError, match=message):
        gm.RandomFilters(**settings)
    assert gm.RandomFilters(1, size=1, pool=1, seed=0)(torch.rand(2, 1, 3, 3)).shape == (2, 9)


def test_each_context_says_what_it_is_in_one_line() -> None:
    context = gm.GaussianContext(50, "class", shrinkage=0.2)
    assert repr(context) == "GaussianContext(50, 'class', shrinkage=0.2; 0 tasks, 0 Gaussians)"
    context.update("a", ROWS, torch.zeros(20, dtype=torch.int64))
    assert repr(context) == "GaussianContext(50, 'class', shrinkage=0.2; 1 task, 1 Gaussian)"
    energy = gm.EnergyContext()
    energy.update("a")
    assert repr(energy) == "EnergyContext(1 task)"
    assert repr(gm.EntropyContext()) == "EntropyContext(0 tasks)"
    assert repr(gm.RandomFilters(8)) == "RandomFilters(8, size=5, pool=4, seed=0)"


def test_a_context_of_ones_own_has_a_representation() -> None:
    class Mine(gm.Context):
        tasks = ("a", "b")

        def update(self, task: Any, inputs: Any, labels: Tensor | None = None) -> None: ...

        def scores(self, inputs: Any, answers: Any = None) -> Tensor:
            return torch.zeros(1, 2)

        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state: Any) -> None: ...

    assert repr(Mine()) == "Mine(2 tasks)"
    assert Mine().select(None).tolist() == [0]


@pytest.mark.parametrize("value", [True, None, "1", float("nan"), float("inf")])
def test_what_is_not_a_number(value: object) -> None:
    assert not is_number(value)
