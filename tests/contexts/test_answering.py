"""Answers by the views that a context chose."""

from collections.abc import Mapping
from typing import Any

import pytest
import snapshots
import torch
from torch import Tensor, nn

import growmas as gm
from growmas import UNKNOWN, Plan, Structure
from growmas.errors import ContextError, PlanError
from growmas.models.multihead import MultiHead


class Heads(MultiHead):
    """Two tasks of different size; dropout and batch norm would mix samples in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.dropout = nn.Dropout()
        self._add_dense(6, [8], [2, 3, 2])

    def features(self, inputs: Tensor) -> Tensor:
        return self.dropout(self.norm(inputs))


def head(model: nn.Module, inputs: Tensor, task: int) -> Tensor:
    return model(inputs, task)


@pytest.fixture
def structure() -> Structure:
    torch.manual_seed(0)
    structure = Structure(Heads(), torch.randn(4, 6))
    for task in range(3):
        structure.begin_task(f"task {task}")
        if task:
            structure.apply(Plan(grow={"fc1": 3}), init="zero_out")
            with torch.no_grad():
                for p in structure.model.parameters():
                    p.add_(0.1 * torch.randn(p.shape))
    return structure


def one_by_one(structure: Structure, chosen: list[int], inputs: Tensor) -> list[Tensor]:
    structure.model.eval()
    answers = []
    for task, sample in zip(chosen, inputs, strict=True):
        task = 2 if task == UNKNOWN else task
        with structure.view(task), torch.no_grad():
            answers.append(structure.model(sample[None], task)[0])
    structure.model.train()
    return answers


def test_each_sample_is_answered_as_if_alone(structure: Structure) -> None:
    inputs, chosen = torch.randn(9, 6), [2, 0, 1, UNKNOWN, 0, 2, 1, UNKNOWN, 0]
    before = snapshots.of_model(structure.model)
    found = gm.answer_by_view(structure, torch.tensor(chosen), inputs, forward=head)
    assert snapshots.of_model(structure.model) == before
    assert found.shape == (9, 3)
    for row, wanted in zip(found, one_by_one(structure, chosen, inputs), strict=True):
        torch.testing.assert_close(row[: len(wanted)], wanted)
        assert (row[len(wanted) :] == -torch.inf).all()
    small = gm.answer_by_view(structure, torch.tensor([0, 2]), inputs[:2], forward=head)
    assert small.shape == (2, 2)
    assert gm.answer_by_view(structure, torch.zeros(0).long(), inputs[:0]).shape == (0, 0)


def test_every_view_runs_once_and_only_those_asked_for(structure: Structure) -> None:
    calls = []

    def counted(model: nn.Module, inputs: Mapping[str, Tensor], task: int) -> Tensor:
        calls.append((task, len(inputs["x"])))
        return model(inputs["x"], task)

    inputs = {"x": torch.randn(5, 6)}
    chosen = torch.tensor([1, 0, 1, 1, 0])
    found = gm.answer_by_view(
        structure, chosen, inputs, tasks=["task 2", "task 0"], forward=counted
    )
    assert calls == [(0, 2), (1, 3)]
    with structure.view("task 0"), torch.no_grad():
        structure.model.eval()
        torch.testing.assert_close(found[0], structure.model(inputs["x"][:1], 1)[0])


def test_a_context_chooses_the_views(structure: Structure) -> None:
    context = gm.GaussianContext(threshold=0.999)
    data = [torch.randn(50, 6) + 10 * task for task in range(3)]
    for task, x in enumerate(data):
        context.update(f"task {task}", x)
    inputs = torch.cat([data[1][:2], data[0][:1], torch.full((1, 6), -99.0), data[2][:2]])
    found = gm.answer_by_context(structure, context, inputs, forward=head)
    chosen = [1, 1, 0, UNKNOWN, 2, 2]
    assert found.tasks.tolist() == chosen
    for row, wanted in zip(found.logits, one_by_one(structure, chosen, inputs), strict=True):
        torch.testing.assert_close(row[: len(wanted)], wanted)
    together = gm.answer_by_context(structure, context, data[1], forward=head, together=True)
    assert together.tasks.tolist() == [1] * 50


def test_a_context_of_ones_own_may_ask_the_views(structure: Structure) -> None:
    class Largest(gm.Context):
        tasks = ("task 0", "task 1")

        def update(self, task: Any, inputs: Any, labels: Tensor | None = None) -> None:
            pass

        def scores(self, inputs: Any, answers: Any = None) -> Tensor:
            return torch.stack([answers(task).amax(1) for task in (0, 1)], 1)

        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state: Any) -> None:
            pass

    inputs = torch.randn(8, 6)
    found = gm.answer_by_context(structure, Largest(), inputs, forward=head)
    views = gm.view_answers(structure, inputs, forward=head)
    largest = torch.stack([views(0).amax(1), views(1).amax(1)])
    assert torch.equal(found.tasks, largest.argmax(0))
    torch.testing.assert_close(found.logits.amax(1), largest.amax(0))


def test_views_are_run_when_they_are_asked_for(structure: Structure) -> None:
    calls = []
    views = gm.view_answers(
        structure, torch.randn(2, 6), forward=lambda m, x, t: calls.append(t) or m(x, t)
    )
    assert not calls
    assert views(1) is views(1)
    assert calls == [1]


class TestCombined:
    scores = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).double().log()
    logits = (
        torch.tensor([[0.5, 0.5], [1.0, 0.0]]).log(),
        torch.tensor([[0.2, 0.2, 0.6], [1.0, 1.0, 2.0]]).log(),
    )

    def test_probabilities_of_task_and_class_are_multiplied(self) -> None:
        found = gm.combine_views(self.scores, self.logits.__getitem__).exp()
        wanted = [[0.125, 0.125, 0.15, 0.15, 0.45], [0.5, 0.0, 0.125, 0.125, 0.25]]
        torch.testing.assert_close(found, torch.tensor(wanted).double())

    def test_a_class_of_several_tasks_collects_from_all(self) -> None:
        classes = [[3, 0], [1, 0, 2]]
        found = gm.combine_views(self.scores, self.logits.__getitem__, classes=classes).exp()
        wanted = [[0.275, 0.15, 0.45, 0.125], [0.125, 0.125, 0.25, 0.5]]
        torch.testing.assert_close(found, torch.tensor(wanted).double())

    def test_classes_must_fit(self) -> None:
        for classes in ([[0, 1], [2, 3]], [[0, 1], [2, 3, -1]], [[0, 1], 5], [[0, 1], ["a", 1, 2]]):
            with pytest.raises(ContextError, match=r"from 0 on, \[2, 3\] of them, got \[\[0, "):
                gm.combine_views(self.scores, self.logits.__getitem__, classes=classes)


def test_refusals(structure: Structure) -> None:
    inputs = torch.randn(2, 6)
    for chosen in (torch.tensor([0]), torch.tensor([0.0, 1.0]), torch.tensor([[0], [1]])):
        with pytest.raises(ContextError, match="one task for each of the 2 samples, got"):
            gm.answer_by_view(structure, chosen, inputs)
    with pytest.raises(ContextError, match=r"must be an int64 tensor \[N\], got list"):
        gm.answer_by_view(structure, [0, 1], inputs)  # type: ignore[arg-type]
    for bad in (None, inputs.sum(1)):
        with pytest.raises(ContextError, match=r"must answer with logits \[N, C\], got "):
            gm.answer_by_view(
                structure, torch.tensor([0, 0]), inputs, forward=lambda *_, bad=bad: bad
            )
    with pytest.raises(ContextError, match="no task at position 3: there are views of 3"):
        gm.combine_views(torch.zeros(2, 4), gm.view_answers(structure, inputs, forward=head))
    for scores in (torch.zeros(2), torch.zeros(2, 0)):
        with pytest.raises(ContextError, match=r"log-probabilities of tasks \[N, T\], got"):
            gm.combine_views(scores, gm.view_answers(structure, inputs, forward=head))
    with pytest.raises(ContextError, match=r"among the 3 tasks, or UNKNOWN .* got \[-2, 7\]"):
        gm.answer_by_view(structure, torch.tensor([7, -2]), inputs)
    with pytest.raises(PlanError, match="no task 'elsewhere'"):
        gm.answer_by_view(structure, torch.tensor([0, 0]), inputs, tasks=["elsewhere"])
    with pytest.raises(ContextError, match="the inputs cannot be divided into samples"):
        gm.answer_by_view(structure, torch.tensor([0, 0]), (inputs, inputs[:1]))
    with pytest.raises(ContextError, match=r"view of task 'task 1' does not take .* the shape"):
        gm.answer_by_view(structure, torch.tensor([1, 1]), torch.randn(2, 5), forward=head)
    with pytest.raises(ContextError, match="has seen no task yet"):
        gm.answer_by_context(structure, gm.GaussianContext(), inputs)


def test_experts_multiply_the_classes_of_each_view(structure: Structure) -> None:
    inputs = torch.randn(5, 6)
    answers = gm.view_answers(structure, inputs, forward=head)
    scores = torch.randn(5, 3).double().log_softmax(1)
    beliefs = [torch.randn(5, size).double().log_softmax(1) for size in (2, 3, 2)]
    found = gm.combine_views(
        scores, answers, classes=[[0, 1], [2, 3, 0], [4, 5]], experts=lambda task: beliefs[task]
    ).exp()
    wanted = torch.zeros(5, 6).double()
    for task, numbers in enumerate([[0, 1], [2, 3, 0], [4, 5]]):
        view = answers(task).double().softmax(1)
        for output, number in enumerate(numbers):
            expert = beliefs[task][:, output].exp()
            wanted[:, number] += scores[:, task].exp() * view[:, output] * expert
    wanted /= wanted.sum(1, keepdim=True)
    torch.testing.assert_close(found, wanted)


def test_experts_of_other_classes_are_refused(structure: Structure) -> None:
    inputs = torch.randn(5, 6)
    answers = gm.view_answers(structure, inputs, forward=head)
    with pytest.raises(ContextError, match=r"for task 1 as its view does, \[5, 3\], got \[5, 2\]"):
        gm.combine_views(torch.zeros(5, 3), answers, experts=lambda task: torch.zeros(5, 2))


@pytest.mark.parametrize("samples", [1, 32, 70])
def test_views_answer_in_batches(
    structure: Structure, monkeypatch: pytest.MonkeyPatch, samples: int
) -> None:
    inputs = torch.randn(samples, 6)
    whole = gm.view_answers(structure, inputs, forward=head)(1)
    monkeypatch.setattr("growmas.contexts.answering.ROWS", 32)
    sizes: list[int] = []

    def forward(model: nn.Module, rows: Tensor, task: int) -> Tensor:
        sizes.append(len(rows))
        return head(model, rows, task)

    answers = gm.view_answers(structure, inputs, forward=forward)
    torch.testing.assert_close(answers(1), whole)
    torch.testing.assert_close(answers(1), whole)
    assert sizes == {1: [1], 32: [32], 70: [32, 32, 6]}[samples]
    tuples = gm.view_answers(
        structure, (inputs, inputs), forward=lambda model, rows, task: head(model, rows[1], task)
    )
    torch.testing.assert_close(tuples(1), whole)


def test_beside_experts_the_views_have_a_weight(structure: Structure) -> None:
    inputs, scores = torch.randn(5, 6), torch.randn(5, 3).double().log_softmax(1)
    beliefs = [torch.randn(5, size).double().log_softmax(1) for size in (2, 3, 2)]
    answers = gm.view_answers(structure, inputs, forward=head)
    found = gm.combine_views(scores, answers, experts=lambda task: beliefs[task], weight=0.2)
    parts = [
        scores[:, [task]] + 0.2 * answers(task).double().log_softmax(1) + beliefs[task]
        for task in range(3)
    ]
    torch.testing.assert_close(found, torch.cat(parts, 1).log_softmax(1))
    alone = gm.combine_views(scores, answers, experts=lambda task: beliefs[task], weight=0)
    parts = [scores[:, [task]] + beliefs[task] for task in range(3)]
    torch.testing.assert_close(alone, torch.cat(parts, 1).log_softmax(1))


@pytest.mark.parametrize("weight", [-0.1, float("nan"), "much", True])
def test_weights_out_of_range(structure: Structure, weight: Any) -> None:
    answers = gm.view_answers(structure, torch.randn(5, 6), forward=head)
    with pytest.raises(ContextError, match=r"weight=.*expected a number >= 0"):
        gm.combine_views(torch.zeros(5, 3), answers, experts=answers, weight=weight)
    with pytest.raises(ContextError, match=r"weight=0.2: expected 1 without experts"):
        gm.combine_views(torch.zeros(5, 3), answers, weight=0.2)
