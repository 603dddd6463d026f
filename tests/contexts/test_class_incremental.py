"""Every class of every task, told apart without the task: views and contexts together, learnt."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import growmas as gm
from growmas.models.mlp import MLP

TASKS = ("a", "b", "c")


def samples(task: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two classes a task, on two sides of a place that is the task's own."""
    generator = torch.Generator().manual_seed(100 * task + seed)
    labels = torch.arange(count) % 2
    place = torch.zeros(8)
    place[task] = 4.0
    x = place + torch.randn(count, 8, generator=generator)
    x[:, 7] += 4.0 * labels - 2.0
    return x, labels


def learn(
    net: nn.Module,
    logits: Callable[[nn.Module, Tensor, int], Tensor],
    start: Callable[[gm.StructuralManager, int], None],
) -> tuple[gm.Structure, gm.GaussianContext]:
    structure = gm.Structure(net, samples(0, 4, 0)[0])
    mas = gm.MAS(net, strength=1.0)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    context = gm.GaussianContext(8, per="class")
    manager = gm.StructuralManager(
        structure, mas=mas, optimizer=optimizer, grow=gm.GrowPolicy(units=4)
    )
    for task, name in enumerate(TASKS):
        manager.begin_task(name)
        start(manager, task)
        x, y = samples(task, 200, 1)
        for _ in range(60):
            loss = F.cross_entropy(logits(net, x, task), y) + mas.penalty()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        manager.end_task([x], forward=lambda model, batch, task=task: logits(model, batch, task))
        context.update(name, x, y)
    return structure, context


def multihead() -> tuple[gm.Structure, gm.GaussianContext, Callable[..., Tensor]]:
    def logits(model: nn.Module, x: Tensor, task: int) -> Tensor:
        return model(x, task)

    net = MLP((8,), hidden=[16], head_sizes=[2, 2, 2])
    return *learn(net, logits, lambda manager, task: None), logits


def shared() -> tuple[gm.Structure, gm.GaussianContext, Callable[..., Tensor]]:
    def logits(model: nn.Module, x: Tensor, task: int) -> Tensor:
        return model(x)[:, 2 * task : 2 * task + 2]

    def start(manager: gm.StructuralManager, task: int) -> None:
        if task:
            manager.structure.grow_head("2", 2, followers=manager.followers)

    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    return *learn(net, logits, start), logits


@pytest.mark.parametrize("heads", [multihead, shared])
def test_all_classes_are_told_apart_without_the_task(heads: Callable[[], object]) -> None:
    torch.manual_seed(0)
    structure, context, logits = heads()
    parts = [samples(task, 100, 2) for task in range(3)]
    x = torch.cat([x for x, _ in parts])
    truth = torch.cat([2 * task + y for task, (_, y) in enumerate(parts)])
    classes = [[0, 1], [2, 3], [4, 5]]
    answers = gm.view_answers(structure, x, forward=logits)
    together = gm.combine_views(context.scores(x), answers, classes=classes)
    assert together.shape == (300, 6)
    torch.testing.assert_close(together.exp().sum(1), torch.ones(300).to(together))
    assert float((together.argmax(1) == truth).float().mean()) > 0.9
    chosen = gm.answer_by_context(structure, context, x, forward=logits)
    named = 2 * chosen.tasks + chosen.logits.argmax(1)
    assert float((named == truth).float().mean()) > 0.9
    scores = context.scores(x)
    for sample in (0, 120, 299):  # by hand, one sample through the view of one task at a time
        for task, name in enumerate(TASKS):
            with structure.view(name), torch.no_grad():
                own = logits(structure.model.eval(), x[sample : sample + 1], task)
            wanted = scores[sample, task] + own.log_softmax(1)[0]
            found = together[sample, classes[task]].float()
            torch.testing.assert_close(found, wanted.float(), rtol=1e-5, atol=1e-5)
    blind = gm.combine_views(torch.zeros(300, 3), answers, classes=classes)
    assert float((blind.argmax(1) == truth).float().mean()) < 0.8, "the context is needed"
