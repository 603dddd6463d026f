"""Laws of contexts that hold for any data."""

import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from growmas import GaussianContext

few = settings(max_examples=25, deadline=None, derandomize=True)
SEEDS = st.integers(0, 2**31 - 1)
PER = st.sampled_from(["task", "class"])


def samples(seed: int, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs, tasks and labels; every task has samples of every label."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(number, 8, generator=generator, dtype=torch.float64)
    tasks, labels = torch.arange(number) % 3, torch.arange(number) // 3 % 2
    return inputs + tasks[:, None] - labels[:, None], tasks, labels


def learnt(per: str, data: tuple[Tensor, Tensor, Tensor], rows: Tensor) -> GaussianContext:
    """Return a context that has seen some samples, task by task."""
    context = GaussianContext(5, per)  # type: ignore[arg-type]
    inputs, tasks, labels = (part[rows] for part in data)
    for task in range(3):
        mine = tasks == task
        context.update(task, inputs[mine], labels[mine])
    return context


def assert_alike(a: GaussianContext, b: GaussianContext, inputs: Tensor) -> None:
    assert a.components == b.components
    torch.testing.assert_close(
        a.log_likelihood(inputs), b.log_likelihood(inputs), rtol=1e-8, atol=1e-8
    )
    torch.testing.assert_close(a.scores(inputs), b.scores(inputs), rtol=1e-8, atol=1e-8)


@few
@given(PER, SEEDS, st.integers(12, 40), st.lists(st.integers(1, 39), max_size=5))
def test_cutting_and_order_of_samples_do_not_matter(
    per: str, seed: int, number: int, cuts: list[int]
) -> None:
    data = samples(seed, number)
    whole = learnt(per, data, torch.arange(number))
    inputs, tasks, labels = data
    order = torch.randperm(number, generator=torch.Generator().manual_seed(seed))
    pieces = GaussianContext(5, per)  # type: ignore[arg-type]
    for task in range(3):
        mine = order[tasks[order] == task]
        for part in torch.tensor_split(mine, sorted(c for c in cuts if c < len(mine))):
            pieces.update(task, inputs[part], labels[part])
    assert_alike(whole, pieces, inputs)


@few
@given(PER, SEEDS, st.integers(12, 40), st.integers(6, 30))
def test_merging_equals_one_pass(per: str, seed: int, number: int, at: int) -> None:
    data, everyone = samples(seed, number), torch.arange(number)
    first, second = learnt(per, data, everyone[:at]), learnt(per, data, everyone[at:])
    first.calibrate(data[0])
    if at < number:
        second.calibrate(data[0])
    first.merge(second)
    assert_alike(learnt(per, data, everyone), first, data[0])
    assert int(first.state_dict()["distances"].sum()) == number * (1 + (at < number))


@few
@given(PER, SEEDS, st.permutations(range(3)))
def test_tasks_may_come_in_any_order(per: str, seed: int, order: list[int]) -> None:
    inputs, tasks, labels = samples(seed, 30)
    plain = learnt(per, (inputs, tasks, labels), torch.arange(30))
    shuffled = GaussianContext(5, per)  # type: ignore[arg-type]
    for task in order:
        shuffled.update(task, inputs[tasks == task], labels[tasks == task])
    assert shuffled.tasks == tuple(order)
    torch.testing.assert_close(shuffled.scores(inputs), plain.scores(inputs)[:, order])
    assert torch.equal(torch.tensor(order)[shuffled.select(inputs)], plain.select(inputs))


@few
@given(PER, SEEDS, st.integers(1, 30))
def test_scores_are_probabilities_and_samples_do_not_mix(per: str, seed: int, number: int) -> None:
    data = samples(seed, 30)
    context = learnt(per, data, torch.arange(30))
    inputs = data[0][:number]
    scores = context.scores(inputs)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(number, dtype=torch.float64))
    alone = torch.cat([context.scores(sample[None]) for sample in inputs])
    torch.testing.assert_close(scores, alone)
    novelty = context.novelty(inputs)
    assert ((novelty >= 0) & (novelty <= 1)).all()
