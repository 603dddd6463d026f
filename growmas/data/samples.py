"""Samples of a stream: drawn for training, validation and test, and checked."""

from typing import get_args

import torch

from growmas.data.names import Scenario, did_you_mean
from growmas.data.sampling import Limit, Sampling
from growmas.data.sources import Dataset
from growmas.data.splits import Split
from growmas.data.tasks import Task
from growmas.errors import DataError


def check_stream(source: Dataset, tasks: int, scenario: str, limit: Limit) -> None:
    """Refuse an unknown scenario, a stream without tasks, and a limit below one sample."""
    scenarios = get_args(Scenario)
    if scenario not in scenarios:
        raise DataError(f"unknown scenario {scenario!r}; {did_you_mean(scenario, scenarios)}")
    if tasks < 1:
        raise DataError(f"a stream over {source.name!r} needs at least 1 task, got {tasks}")
    if isinstance(limit, int) and limit < 1:
        raise DataError(
            f"limit must be at least 1 training sample of each class, got {limit}; "
            "None keeps them all"
        )


def samples(
    source: Dataset, limit: Limit, sampling: Sampling, generator: torch.Generator
) -> tuple[Split, Split | None, Split]:
    """Return training, validation and test samples."""
    train = Split(source.train_inputs, source.train_labels, scaling=source.scaling, shared=True)
    train, validation = sampling.drawn(train, source.classes, limit, generator)
    test = Split(source.test_inputs, source.test_labels, scaling=source.scaling, shared=True)
    return train, validation, test


def filled(task: Task) -> Task:
    """Return the task; refuse one that lacks training or test samples."""
    for part, split in (("training", task.train), ("test", task.test)):
        if not len(split):
            raise DataError(f"task {task.name!r} has no {part} samples: add some, or merge tasks")
    return task
