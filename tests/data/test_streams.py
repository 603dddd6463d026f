import hashlib

import pytest
import torch
from hypothesis import given, settings, strategies as st

from growmas.data import (
    Dataset,
    Stream,
    load_source,
    permuted_stream,
    sources_stream,
    split_stream,
)
from growmas.errors import DataError

DIGITS = load_source("digits")
KINDS = {"split": split_stream, "permuted": permuted_stream}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def checksum(stream: Stream) -> str:
    """Of every pixel, as one of 256 greys, and of every label."""
    digest = hashlib.sha256()
    for task in stream.tasks:
        for split in (task.train, task.test):
            digest.update((split.inputs * 255).round().byte().numpy().tobytes())
            digest.update(split.labels.byte().numpy().tobytes())
    return digest.hexdigest()[:16]


GOLDEN = {
    ("digits", "split", "task"): "f6cb9a80a2c9c499",
    ("digits", "split", "domain"): "f6cb9a80a2c9c499",
    ("digits", "split", "class"): "5a1bdef178288857",
    ("digits", "permuted", "task"): "cea84f37d146c7ea",
    ("digits", "permuted", "domain"): "cea84f37d146c7ea",
    ("mnist5k", "split", "task"): "d9fe7b0b0e6c8b5d",
    ("mnist5k", "permuted", "domain"): "84589ad140ca7852",
}


@pytest.mark.parametrize(("source", "kind", "scenario"), GOLDEN)
def test_golden_checksum(source, kind, scenario):
    stream = KINDS[kind](load_source(source), tasks=5, scenario=scenario, generator=seeded())
    assert checksum(stream) == GOLDEN[source, kind, scenario]


def test_golden_class_order():
    stream = split_stream(
        DIGITS, tasks=5, scenario="task", generator=seeded(), shuffle_classes=True
    )
    assert [task.name for task in stream.tasks] == ["4/1", "7/5", "3/9", "0/8", "6/2"]


@pytest.mark.parametrize(
    ("scenario", "heads", "last_head", "last_labels"),
    [("task", (2,) * 5, 4, [0, 1]), ("domain", (2,), 0, [0, 1]), ("class", (10,), 0, [8, 9])],
)
def test_split_scenarios(scenario, heads, last_head, last_labels):
    stream = split_stream(DIGITS, tasks=5, scenario=scenario, generator=seeded())
    last = stream.tasks[-1]
    assert (stream.name, stream.scenario) == ("digits split", scenario)
    assert stream.head_sizes == heads
    assert stream.input_shape == (1, 8, 8)
    assert (last.name, last.index, last.head, last.classes) == ("8/9", 4, last_head, (8, 9))
    assert last.train.labels.unique().tolist() == last_labels
    assert last.test.labels.unique().tolist() == last_labels


@pytest.mark.parametrize(("scenario", "heads", "last_head"), [("task", 3, 2), ("domain", 1, 0)])
def test_permuted_scenarios(scenario, heads, last_head):
    stream = permuted_stream(DIGITS, tasks=3, scenario=scenario, generator=seeded())
    last = stream.tasks[-1]
    assert stream.head_sizes == (10,) * heads
    assert (last.name, last.index, last.head) == ("permutation 3", 2, last_head)
    assert last.classes == tuple(range(10))
    assert torch.equal(last.test.labels, DIGITS.test_labels)


@settings(deadline=None)
@given(
    tasks=st.sampled_from([1, 2, 5, 10]),
    scenario=st.sampled_from(["task", "domain", "class"]),
    seed=st.integers(0, 2**32),
)
def test_split_tasks_are_the_source_dealt_out(tasks, scenario, seed):
    stream = split_stream(
        DIGITS, tasks=tasks, scenario=scenario, generator=seeded(seed), shuffle_classes=True
    )
    assert sorted(c for task in stream.tasks for c in task.classes) == list(range(10))
    assert sum(len(task.train) for task in stream.tasks) == len(DIGITS.train_labels)
    for task in stream.tasks:
        names = range(10) if scenario == "class" else task.classes
        for label in task.test.labels.unique().tolist():
            ours = task.test.inputs[task.test.labels == label]
            theirs = DIGITS.test_inputs[DIGITS.test_labels == names[label]]
            assert torch.equal(ours, theirs)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), first_identity=st.booleans())
def test_permuted_tasks_are_the_source_rearranged(seed, first_identity):
    stream = permuted_stream(
        DIGITS, tasks=2, scenario="task", generator=seeded(seed), first_identity=first_identity
    )
    for task in stream.tasks:
        ours, theirs = task.test.inputs.flatten(1), DIGITS.test_inputs.flatten(1)
        assert torch.equal(ours.sort(1).values, theirs.sort(1).values)
    assert torch.equal(stream.tasks[0].train.inputs, DIGITS.train_inputs) == first_identity


def test_one_permutation_serves_training_test_and_all_channels():
    ramp = torch.arange(16.0).reshape(1, 1, 4, 4).repeat(2, 3, 1, 1)
    labels = torch.zeros(2, dtype=torch.int64)
    source = Dataset("ramp", ramp, labels, ramp, labels, ("any",))
    task = permuted_stream(source, tasks=2, scenario="task", generator=seeded()).tasks[1]
    assert torch.equal(task.train.inputs, task.test.inputs)
    assert (task.train.inputs == task.train.inputs[:1, :1]).all()
    assert not torch.equal(task.train.inputs, ramp)


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_share_no_memory_with_the_source(kind):
    source = load_source("digits")
    for task in KINDS[kind](source, tasks=2, scenario="task", generator=seeded()).tasks:
        task.train.inputs.zero_()
        task.test.labels.zero_()
    assert torch.equal(source.train_inputs, DIGITS.train_inputs)
    assert torch.equal(source.test_labels, DIGITS.test_labels)


@pytest.mark.parametrize("kind", KINDS)
def test_limit_keeps_the_first_of_each_class(kind):
    stream = KINDS[kind](DIGITS, tasks=1, scenario="task", generator=seeded(), limit=3)
    train, test = stream.tasks[0].train, stream.tasks[0].test
    assert train.labels.bincount().tolist() == [3] * 10
    for label in range(10):
        first = DIGITS.train_inputs[DIGITS.train_labels == label][:3]
        assert torch.equal(train.inputs[train.labels == label], first)
    assert len(test) == len(DIGITS.test_labels)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("split", {"tasks": 3}, "cannot be divided into 3 tasks.*must be one of 1, 2, 5, 10"),
        ("split", {"tasks": 0}, "at least 1 task, got 0"),
        ("permuted", {"tasks": -1}, "at least 1 task, got -1"),
        ("split", {"scenario": "tsak"}, r"unknown scenario 'tsak'; did you mean \"task\"\?"),
        ("permuted", {"scenario": "class"}, "cannot have scenario 'class'.*use 'task' or 'domain'"),
        ("split", {"limit": 0}, "limit must be at least 1 training sample.*got 0"),
    ],
)
def test_impossible_requests(kind, changes, message):
    request = {"tasks": 2, "scenario": "task"} | changes
    with pytest.raises(DataError, match=message):
        KINDS[kind](DIGITS, generator=seeded(), **request)


def test_a_task_without_samples_is_refused():
    images, labels = torch.rand(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64)
    source = Dataset("mine", images, labels, images, labels, ("seen", "unseen"))
    with pytest.raises(DataError, match="task 'unseen' has no training samples"):
        split_stream(source, tasks=2, scenario="task", generator=seeded())


@pytest.mark.parametrize(
    ("scenario", "heads", "last_head", "last_labels"),
    [
        ("task", (10, 10), 1, range(10)),
        ("domain", (10,), 0, range(10)),
        ("class", (20,), 0, range(10, 20)),
    ],
)
def test_a_task_for_each_source(scenario, heads, last_head, last_labels):
    stream = sources_stream([DIGITS, load_source("shapes")], scenario=scenario)
    assert (stream.name, stream.input_shape) == ("digits → shapes", (1, 28, 28))
    assert stream.head_sizes == heads
    assert [task.name for task in stream.tasks] == ["digits", "shapes"]
    last = stream.tasks[-1]
    assert last.head == last_head
    assert last.train.labels.unique().tolist() == list(last_labels)
    assert last.classes == tuple(range(10, 20))
    assert stream.tasks[0].train.inputs.shape == (1442, 1, 28, 28)


def test_sources_that_do_not_go_together():
    few = Dataset("few", *(2 * (torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]))), ("a", "b"))
    colour = Dataset("colour", *(2 * (torch.zeros(2, 3, 8, 8), torch.tensor([0, 1]))), ("a", "b"))
    with pytest.raises(DataError, match=r"\[10, 2\] classes: scenario 'domain' has one head"):
        sources_stream([DIGITS, few], scenario="domain")
    with pytest.raises(DataError, match=r"'few', 'colour' differ in channels: \[1, 3\]"):
        sources_stream([few, colour], scenario="task")
    for wrong in ([], [few, few]):
        with pytest.raises(DataError, match="takes each source once"):
            sources_stream(wrong, scenario="task")
