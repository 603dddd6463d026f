"""Laws of contexts that are sums: how samples come does not matter."""

from collections.abc import Sequence

import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from growmas import RidgeContext, SharedGaussianContext
from growmas.contexts.linear import LinearContext

few = settings(max_examples=25, deadline=None, derandomize=True)
SEEDS = st.integers(0, 2**31 - 1)
KINDS = st.sampled_from([RidgeContext, SharedGaussianContext])
NUMBER, TASKS = 60, 3


def samples(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, tasks and labels, in a random order."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(NUMBER, 8, generator=generator, dtype=torch.float64)
    tasks, labels = torch.arange(NUMBER) % TASKS, torch.arange(NUMBER) // TASKS % 2
    order = torch.randperm(NUMBER, generator=generator)
    inputs = 5 + inputs @ torch.randn(8, 8, generator=generator).double()
    return (inputs + 2 * tasks[:, None] - labels[:, None])[order], tasks[order], labels[order]


def learnt(
    kind: type[LinearContext],
    data: tuple[Tensor, Tensor, Tensor],
    rows: Tensor,
    order: Sequence[int] = range(TASKS),
) -> LinearContext:
    """A context that saw some of the samples, task by task."""
    context = kind(strength=0.03)
    inputs, tasks, labels = (part[rows] for part in data)
    for task in order:
        mine = tasks == task
        context.update(task, inputs[mine], labels[mine])
    return context


def assert_alike(a: LinearContext, b: LinearContext, inputs: Tensor) -> None:
    assert set(a.components) == set(b.components)
    order = [b.components.index(component) for component in a.components]
    for found, other in (
        (a.class_scores(inputs), b.class_scores(inputs)[:, order]),
        (a.novelty(inputs), b.novelty(inputs)),
    ):
        torch.testing.assert_close(found, other, rtol=1e-8, atol=1e-8)


@few
@given(KINDS, SEEDS, st.integers(2, 7))
def test_shuffled_shards_merge_to_one_pass(
    kind: type[LinearContext], seed: int, shards: int
) -> None:
    data = samples(seed)
    whole = learnt(kind, data, torch.arange(NUMBER))
    order = torch.randperm(NUMBER, generator=torch.Generator().manual_seed(seed + 1))
    first, *others = [learnt(kind, data, part) for part in order.chunk(shards)]
    for other in others:
        before = other.state_dict()
        first.merge(other)
        assert torch.equal(other.state_dict()["products"], before["products"])
    assert_alike(whole, first, data[0])


@few
@given(KINDS, SEEDS, st.lists(st.integers(1, NUMBER - 1), max_size=5))
def test_cutting_into_batches_does_not_matter(
    kind: type[LinearContext], seed: int, cuts: list[int]
) -> None:
    data = samples(seed)
    context = kind(strength=0.03)
    for rows in torch.tensor_split(torch.arange(NUMBER), sorted(cuts)):
        for task in range(TASKS):
            inputs, tasks, labels = (part[rows] for part in data)
            context.update(task, inputs[tasks == task], labels[tasks == task])
    assert_alike(learnt(kind, data, torch.arange(NUMBER)), context, data[0])


@few
@given(KINDS, SEEDS, st.permutations(range(TASKS)))
def test_tasks_may_come_in_any_order(
    kind: type[LinearContext], seed: int, order: list[int]
) -> None:
    data, everything = samples(seed), torch.arange(NUMBER)
    shuffled = learnt(kind, data, everything, order)
    assert shuffled.tasks == tuple(order)
    assert_alike(learnt(kind, data, everything), shuffled, data[0])


@few
@given(KINDS, SEEDS, st.integers(2, 4))
def test_samples_that_come_more_than_once_change_nothing(
    kind: type[LinearContext], seed: int, times: int
) -> None:
    data = samples(seed)
    once = learnt(kind, data, torch.arange(NUMBER))
    often = learnt(kind, data, torch.arange(NUMBER).repeat(times))
    assert_alike(once, often, data[0])


@few
@given(KINDS, SEEDS, st.floats(0.1, 10), st.floats(-100, 100))
def test_units_and_origin_of_the_features_do_not_matter(
    kind: type[LinearContext], seed: int, scale: float, shift: float
) -> None:
    inputs, tasks, labels = samples(seed)
    plain = learnt(kind, (inputs, tasks, labels), torch.arange(NUMBER))
    moved = learnt(kind, (inputs * scale + shift, tasks, labels), torch.arange(NUMBER))
    torch.testing.assert_close(
        plain.class_scores(inputs), moved.class_scores(inputs * scale + shift),
        rtol=1e-7, atol=1e-7,
    )  # fmt: skip


@few
@given(KINDS, SEEDS)
def test_rotating_the_features_does_not_matter(kind: type[LinearContext], seed: int) -> None:
    inputs, tasks, labels = samples(seed)
    drawn = torch.randn(8, 8, generator=torch.Generator().manual_seed(seed)).double()
    turn = torch.linalg.qr(drawn).Q
    plain = learnt(kind, (inputs, tasks, labels), torch.arange(NUMBER))
    turned = learnt(kind, (inputs @ turn, tasks, labels), torch.arange(NUMBER))
    torch.testing.assert_close(
        plain.class_scores(inputs), turned.class_scores(inputs @ turn), rtol=1e-7, atol=1e-7
    )
