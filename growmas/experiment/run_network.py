"""The network of a run by itself: from inputs to the logits of one task, or of all."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from growmas.data import Split, Stream, Task
from growmas.errors import RunError
from growmas.experiment.features import frozen_network
from growmas.experiment.loading import LoadedRun, lessons_of
from growmas.experiment.networks import caches_features
from growmas.experiment.streams import build_raw_stream
from growmas.models import MultiHead, SeparateNetworks
from growmas.models.headed import output_of

_EXAMPLES = 16


class RunNetwork(nn.Module):
    """Network from inputs, not yet normalised, to the logits of one head or of all.

    Attributes:
        model: What the run learnt.
        features: The frozen part before it; None where there is none.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        head: int | None,
        mean: Tensor | None,
        std: Tensor | None,
        features: nn.Module | None,
    ) -> None:
        super().__init__()
        self.model = model
        self.features = features
        self._head = head
        for name, value in (("mean", mean), ("std", std)):
            if value is None:  # not a buffer: torch.export of torch 2.6 fails on one that is None
                setattr(self, name, None)
            else:
                self.register_buffer(name, value)

    def forward(self, inputs: Tensor) -> Any:
        """Return logits [N, outputs], or a tuple of those of all heads."""
        if self.mean is not None and self.std is not None:
            inputs = (inputs - self.mean) / self.std
        if self.features is not None:
            inputs = output_of(self.features(inputs)).flatten(1)
        return self.model(inputs, self._head) if self._head is not None else self.model(inputs)


@dataclass(frozen=True, eq=False)
class WholeNetwork:
    """The network of a run, with samples in the form that it reads.

    Attributes:
        network: In eval mode.
        examples: A few inputs.
        train: Training samples of the task, or of all tasks.
        tests: For each of them, test samples and the position of their output.
        about: Class names, shapes and other facts.
    """

    network: RunNetwork
    examples: Tensor
    train: tuple[Split, ...]
    tests: tuple[tuple[Split, int], ...]
    about: Mapping[str, Any]


def run_network(run: LoadedRun, task: int | str | None = None) -> WholeNetwork:
    """Return the network of a run, with its normalisation and its frozen part inside.

    Where tasks change inputs, such as by permutations, normalisation stays outside: it may come
    before the change.

    Args:
        run: Of `load_run`.
        task: Name or number of a task: the slim network as of the task, with its head alone. None
            for the network as it is now, with all heads.

    Raises:
        RunError: There is no such task.
    """
    stream = run.stream
    frozen = caches_features(run.config)
    raw = build_raw_stream(run.config) if frozen else stream
    tasks = lessons_of(run.config, raw).tasks if isinstance(raw, Stream) else raw.tasks
    index = None if task is None else _index(run, task)
    model = run.structure.model if index is None else run.structure.extract(index)
    head, classes = _head(run, tasks, index)
    chosen = [tasks[min(index, len(tasks) - 1)]] if index is not None else list(tasks)
    split = chosen[0].test
    scaling = None if any(each.test.changes for each in chosen) else split.scaling
    if index is not None and head is not None:
        model, head = _with_one_head(model, head), 0
    network = RunNetwork(
        model,
        head,
        scaling.mean if scaling else None,
        scaling.std if scaling else None,
        frozen_network(run.config, raw) if frozen else None,
    ).eval()
    inside = scaling is not None
    examples = _unscaled(split, inside).take(slice(_EXAMPLES))
    about = {
        "name": run.config.name,
        "task": None if index is None else stream.tasks[index].name,
        "classes": classes,
        "input_shape": list(examples.shape[1:]),
        "input_type": str(examples.dtype).removeprefix("torch."),
        "normalised_inside": inside,
        "stream": stream.name,
    }
    return WholeNetwork(
        network,
        examples,
        tuple(_unscaled(each.train, inside) for each in chosen),
        tuple((_unscaled(each.test, inside), _output(each, head)) for each in chosen),
        about,
    )


def _output(task: Task, head: int | None) -> int:
    """Return the position of a task's output among those of the network."""
    return task.head if head is None else 0


def _unscaled(split: Split, inside: bool) -> Split:
    """Return samples before their normalisation, where that is a part of the network."""
    scaling = None if inside else split.scaling
    return Split(
        split.stored,
        split.labels,
        rows=split.rows,
        scaling=scaling,
        changes=split.changes,
        shared=True,
    )


def _with_one_head(model: nn.Module, head: int) -> nn.Module:
    """Return a copy of a model that has one of its heads alone."""
    found = copy.deepcopy(model)
    if isinstance(found, MultiHead):
        found.heads = nn.ModuleList([found.heads[head]])
    elif isinstance(found, SeparateNetworks):
        found.networks = nn.ModuleList([found.networks[head]])
    return found


def _head(run: LoadedRun, tasks: Sequence[Task], index: int | None) -> tuple[int | None, list[Any]]:
    """Return the head to use (None for all of them), and the class names of its outputs.

    Args:
        run: With the network.
        tasks: As its method learns them.
        index: Of the task; None for all of them.
    """
    stream = run.stream
    names = getattr(stream, "classes", ())
    model = run.structure.model
    heads = getattr(model, "heads", None) or getattr(model, "networks", [None])

    def named(labels: Sequence[int]) -> list[str]:
        return [names[label] if label < len(names) else str(label) for label in labels]

    if len(heads) == 1:
        everything = stream.scenario == "class"
        return 0, named(range(stream.head_sizes[0]) if everything else tasks[index or 0].classes)
    if not isinstance(stream, Stream):  # a head for each context
        return (None if index is None else index), [named(range(stream.head_sizes[0]))]
    if index is not None:
        return tasks[index].head, named(tasks[index].classes)
    of_head = {task.head: named(task.classes) for task in reversed(tasks)}
    return None, [of_head[head] for head in sorted(of_head)]


def _index(run: LoadedRun, task: int | str) -> int:
    names = [each.name for each in run.stream.tasks]
    if str(task) in names:
        return names.index(str(task))
    if str(task).isdigit() and int(task) < len(run.structure.tasks):
        return int(task)
    learnt = ", ".join(f"{i} ({name})" for i, name in enumerate(run.structure.tasks))
    raise RunError(f"there is no task {task!r} that was learnt; tasks: {learnt}")
