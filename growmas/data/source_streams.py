"""Streams over several sources: a task for each."""

from collections.abc import Sequence

import torch

from growmas.data.changes import Resizing
from growmas.data.names import Scenario
from growmas.data.samples import check_stream, filled, samples
from growmas.data.sampling import PLAIN, Limit, Sampling
from growmas.data.sources import Dataset
from growmas.data.splits import Split
from growmas.data.tasks import Stream, Task
from growmas.errors import DataError


def sources_stream(
    sources: Sequence[Dataset],
    *,
    scenario: Scenario,
    generator: torch.Generator | None = None,
    limit: Limit = None,
    sampling: Sampling = PLAIN,
) -> Stream:
    """Make one task of each source, with all of its classes.

    Images are resized (bilinearly) to the largest height and width among the sources.

    Args:
        sources: at least one, with equally many channels.
        scenario: ``"domain"`` needs equally many classes in all sources; in ``"class"`` all
            classes of all sources are distinguished.
        generator: on the CPU, for `sampling`.
        limit: keep the first ``limit`` training samples of each class, for quick trials.
        sampling: noise, imbalance and validation of training data.

    Raises:
        DataError: the sources do not fit together, or two have the same name.
    """
    for source in sources:
        check_stream(source, 1, scenario, limit)
    _check_together(sources, scenario)
    generator = generator or torch.Generator()
    shapes = [tuple(source.train_inputs.shape[1:]) for source in sources]
    counts = [len(source.classes) for source in sources]
    images = all(len(shape) == 3 for shape in shapes)
    size = (max(s[1] for s in shapes), max(s[2] for s in shapes)) if images else None
    made = []
    for index, source in enumerate(sources):
        start = sum(counts[:index])
        offset = start if scenario == "class" else 0
        train, validation, test = (
            _sized(part, size, offset) if part else None
            for part in samples(source, limit, sampling, generator)
        )
        if train is None or test is None:
            continue
        task = Task(
            name=source.name,
            index=index,
            train=train,
            test=test,
            classes=tuple(range(start, start + counts[index])),
            head=index if scenario == "task" else 0,
            validation=validation,
        )
        made.append(filled(task))
    heads = {"task": tuple(counts), "domain": (counts[0],), "class": (sum(counts),)}
    return Stream(
        name=" → ".join(source.name for source in sources),
        scenario=scenario,
        tasks=tuple(made),
        head_sizes=heads[scenario],
        input_shape=shapes[0] if size is None else (shapes[0][0], *size),
        classes=tuple(name for source in sources for name in source.classes),
    )


def _check_together(sources: Sequence[Dataset], scenario: Scenario) -> None:
    """Refuse sources that do not make one stream."""
    named = ", ".join(repr(source.name) for source in sources)
    if not sources or len({source.name for source in sources}) < len(sources):
        raise DataError(f"a stream over sources takes each source once, got {named or 'none'}")
    shapes = [tuple(source.train_inputs.shape[1:]) for source in sources]
    counts = [len(source.classes) for source in sources]
    images = all(len(shape) == 3 for shape in shapes)
    if not images and len({*shapes}) > 1:
        raise DataError(f"{named} differ in the shape of their inputs: {shapes}", key=("sources",))
    if images and len({shape[0] for shape in shapes}) > 1:
        raise DataError(
            f"{named} differ in channels: {[shape[0] for shape in shapes]}; set channels of each",
            key=("sources",),
        )
    if scenario == "domain" and len(set(counts)) > 1:
        raise DataError(
            f"{named} have {counts} classes: scenario 'domain' has one head and needs equally "
            "many; use 'task' or 'class'"
        )


def _sized(split: Split, size: tuple[int, int] | None, offset: int) -> Split:
    split = split.relabelled(split.labels + offset)
    if size is None or split.stored.shape[2:] == size:
        return split
    return split.changed(Resizing(*size))
