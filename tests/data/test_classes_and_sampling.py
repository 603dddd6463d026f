"""Unequal tasks, limits, noise, imbalance, validation, changes, and the hash of a stream."""

import pytest
import torch

from growmas.data import (
    Sampling,
    load_source,
    permuted_stream,
    repeated_stream,
    rotated,
    rotated_stream,
    split_stream,
)

DIGITS = load_source("digits")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"tasks": [[0, 1], ["7", 3, 4]]}, [(0, 1), (7, 3, 4)]),
        ({"tasks": 5, "sizes": [1, 3]}, [(0,), (1, 2, 3)]),
        ({"tasks": 3, "first": 4}, [(0, 1, 2, 3), (4, 5, 6), (7, 8, 9)]),
        ({"tasks": 2, "class_order": [9, 8, 1, 0]}, [(9, 8), (1, 0)]),
    ],
)
def test_tasks_have_the_classes_that_are_asked_for(given, expected) -> None:
    stream = split_stream(DIGITS, scenario="class", generator=seeded(), **given)
    assert [task.classes for task in stream.tasks] == expected
    for task in stream.tasks:
        assert {*task.train.labels.tolist()} == {*task.classes}
    heads = split_stream(DIGITS, scenario="task", generator=seeded(), **given)
    assert heads.head_sizes == tuple(map(len, expected))


def test_validation_comes_from_training_data_and_noise_leaves_it_alone() -> None:
    plain = split_stream(DIGITS, tasks=1, scenario="class", generator=seeded()).tasks[0]
    sampling = Sampling(label_noise=0.3, validation=0.25)
    task = split_stream(
        DIGITS, tasks=1, scenario="class", generator=seeded(), sampling=sampling
    ).tasks[0]
    assert task.validation is not None
    assert len(task.train) + len(task.validation) == len(plain.train)
    rows = {row.numpy().tobytes(): int(label) for row, label in zip(
        plain.train.inputs, plain.train.labels, strict=True)}  # fmt: skip
    held = zip(task.validation.inputs, task.validation.labels, strict=True)
    assert all(rows[row.numpy().tobytes()] == int(label) for row, label in held)
    learnt = zip(task.train.inputs, task.train.labels, strict=True)
    wrong = sum(rows[row.numpy().tobytes()] != int(label) for row, label in learnt)
    assert wrong / len(task.train) == pytest.approx(0.3, abs=0.05)
    assert torch.equal(task.test.labels, plain.test.labels)


def test_limits_and_imbalance_leave_the_first_samples_of_each_class() -> None:
    limits = split_stream(
        DIGITS, tasks=1, scenario="class", generator=seeded(), limit={"3": 7, "4": 0 + 1}
    ).tasks[0]
    assert limits.train.labels.bincount()[[3, 4]].tolist() == [7, 1]
    rare = split_stream(
        DIGITS, tasks=1, scenario="class", generator=seeded(), limit=100,
        sampling=Sampling(imbalance=0.01),
    ).tasks[0]  # fmt: skip
    counts = rare.train.labels.bincount().tolist()
    assert (counts[0], counts[-1]) == (100, 1)
    assert counts == sorted(counts, reverse=True)


def test_tasks_share_one_copy_of_the_inputs_and_are_changed_when_read() -> None:
    for stream in (
        permuted_stream(DIGITS, tasks=4, scenario="domain", generator=seeded()),
        rotated_stream(DIGITS, tasks=4, scenario="domain", generator=seeded()),
    ):
        assert len({task.train.stored.data_ptr() for task in stream.tasks}) == 1
    assert torch.allclose(
        stream.tasks[1].train.take(slice(5)), rotated(DIGITS.train_inputs[:5], 30), atol=1e-6
    )


def test_a_second_visit_is_a_task_of_its_own() -> None:
    stream = repeated_stream(
        split_stream(DIGITS, tasks=2, scenario="task", generator=seeded()), visits=2
    )
    assert [task.index for task in stream.tasks] == [0, 1, 2, 3]
    assert [task.head for task in stream.tasks] == [0, 1, 0, 1]
    assert stream.tasks[2].name == "0/1/2/3/4, visit 2"


def test_the_hash_depends_on_samples_labels_and_order_alone() -> None:
    def digest(seed: int = 0, **more) -> str:
        stream = split_stream(
            load_source("digits"), tasks=5, scenario="class", generator=seeded(seed), **more
        )
        return stream.digest

    assert digest() == digest(seed=1)  # nothing is drawn
    others = [
        digest(shuffle_classes=True),
        digest(limit=50),
        digest(sampling=Sampling(label_noise=0.1)),
        digest(sampling=Sampling(validation=0.1)),
    ]
    assert len({digest(), *others}) == 5
    permuted = [
        permuted_stream(DIGITS, tasks=2, scenario="domain", generator=seeded(seed)).digest
        for seed in (0, 0, 1)
    ]
    assert permuted[0] == permuted[1] != permuted[2]
