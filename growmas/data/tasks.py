"""Tasks, and streams of tasks that come one after another."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from growmas.data.names import Scenario
from growmas.data.splits import Split


@dataclass(frozen=True, eq=False)
class Task:
    """One task of a stream.

    Attributes:
        name: ``"0/1"`` (its class names) or ``"permutation 1"``.
        index: its place in the stream, from 0.
        train: samples to learn from; labels index the outputs of the task's head.
        test: samples to test on, labelled in the same way.
        classes: the labels of its classes among those of the whole stream.
        head: which head of the model answers it.
        validation: training samples that are not learnt, to choose settings by; None for none.
    """

    name: str
    index: int
    train: Split
    test: Split
    classes: tuple[int, ...]
    head: int
    validation: Split | None = None


@dataclass(frozen=True, eq=False)
class Stream:
    """Tasks in the order in which they are learnt.

    Attributes:
        name: source and kind, such as ``"mnist5k split"``.
        scenario: ``"task"``, ``"domain"`` or ``"class"``.
        tasks: at least one.
        head_sizes: the number of outputs of each head that a model needs.
        input_shape: of one sample, (channels, height, width) of images.
        classes: the names of all classes; empty where they are not known.
        identity: the digest, where the inputs were computed from those of another stream.
        labels: for each head, the label of a test sample that each of its outputs stands for;
            left out, output i stands for label i.
    """

    name: str
    scenario: Scenario
    tasks: tuple[Task, ...]
    head_sizes: tuple[int, ...]
    input_shape: tuple[int, ...]
    labels: tuple[tuple[int, ...], ...] = ()
    classes: tuple[str, ...] = ()
    identity: str = ""

    def __post_init__(self) -> None:
        if not self.labels:
            plain = tuple(tuple(range(size)) for size in self.head_sizes)
            object.__setattr__(self, "labels", plain)

    @cached_property
    def digest(self) -> str:
        """Hash of all samples, labels and their order: the same for the same stream everywhere."""
        return self.identity or digest_of(self.scenario, self.head_sizes, self.tasks)


def digest_of(scenario: str, head_sizes: Sequence[int], tasks: Sequence[Task]) -> str:
    """Return a hash of tasks, of 16 hexadecimal digits."""
    known: dict[int, bytes] = {}
    found = hashlib.sha256(f"{scenario} {tuple(head_sizes)}".encode())
    for task in tasks:
        found.update(f"{task.name} {task.head} {task.classes}".encode())
        for split in (task.train, task.test, task.validation):
            found.update(split.digest(known) if split is not None else b"none")
    return found.hexdigest()[:16]
