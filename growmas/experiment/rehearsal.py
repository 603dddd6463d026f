"""Rehearsals of runs: everything is built and measured, nothing is learnt or written."""

from __future__ import annotations

from dataclasses import dataclass

from growmas.config import (
    EWCConfig,
    Experiment,
    GrowByGainConfig,
    GrowByNeedConfig,
    GrowBySaturationConfig,
    GrowConfig,
    GrowmasConfig,
    GrowShareConfig,
    MASConfig,
    OnlineEWCConfig,
    OvergrowConfig,
    SIConfig,
    TaskFreeConfig,
)
from growmas.data import Stream, TaskFreeStream
from growmas.errors import GrowmasError
from growmas.experiment.learners import build_task_aware, build_task_free, head_count
from growmas.experiment.loading import lessons_of
from growmas.experiment.models import build_structure
from growmas.experiment.optimizers import build_optimizer
from growmas.experiment.results import group_widths
from growmas.experiment.streams import build_stream, build_task_free_stream
from growmas.experiment.transforms import build_transforms
from growmas.structure import Plan, Structure

_NUMBER = 4  # bytes
_PENALISED = (GrowmasConfig, MASConfig, EWCConfig, OnlineEWCConfig, SIConfig)


@dataclass(frozen=True)
class Rehearsal:
    """Summary of a run that has not begun.

    Attributes:
        stream: Name of the stream.
        digest: Hash of its samples.
        input_shape: Of one sample.
        tasks: Name, and numbers of training, validation and test samples, of each task.
        widths: Width of each group of units at the start.
        parameters: Of the network at the start.
        largest: Parameters after all the growth that the config allows.
        data_bytes: Of all stored inputs.
        training_bytes: Of parameters, gradients, optimizer state, importance and anchors, at their
            largest; activations are left out.
    """

    stream: str
    digest: str
    input_shape: tuple[int, ...]
    tasks: tuple[tuple[str, int, int, int], ...]
    widths: dict[str, int]
    parameters: int
    largest: int
    data_bytes: int
    training_bytes: int


def rehearse(experiment: Experiment) -> Rehearsal:
    """Build all parts of an experiment, and measure them.

    Raises:
        GrowmasError: As a run would, before its first task.
    """
    stream: Stream | TaskFreeStream
    if isinstance(experiment.stream, TaskFreeConfig):
        stream = build_task_free_stream(experiment)
        structure = build_structure(experiment, stream, heads=head_count(experiment))
        optimizer = build_optimizer(experiment.training, structure.model.parameters())
        build_task_free(experiment, structure, optimizer, seed=0)
        build_transforms(experiment, stream)
    else:
        stream = build_stream(experiment)
        lessons = lessons_of(experiment, stream)
        learner = build_task_aware(experiment, lessons, task_known=stream.scenario == "task")
        structure = learner.method.structure
    parameters, widths = structure.parameters, group_widths(structure)
    largest = max(parameters, _largest(experiment, structure, len(stream.tasks)))
    stored = {}
    for task in stream.tasks:
        for split in (task.train, task.test):
            stored[id(split.stored)] = split.stored.nbytes
    return Rehearsal(
        stream=stream.name,
        digest=stream.digest,
        input_shape=tuple(stream.input_shape),
        tasks=tuple(
            (t.name, len(t.train), len(t.validation) if t.validation else 0, len(t.test))
            for t in stream.tasks
        ),
        widths=widths,
        parameters=parameters,
        largest=largest,
        data_bytes=sum(stored.values()),
        training_bytes=largest * _NUMBER * _copies(experiment),
    )


def _copies(experiment: Experiment) -> int:
    """Return how many numbers there are for each parameter while a task is learnt."""
    training, method = experiment.training, experiment.method
    state = 2 if training.optimizer != "sgd" else int(training.momentum > 0)
    return 2 + state + 2 * isinstance(method, _PENALISED)


def _largest(experiment: Experiment, structure: Structure, tasks: int) -> int:
    """Return the number of parameters after all growth that the config allows."""
    method = experiment.method
    if not isinstance(method, GrowmasConfig) or method.grow is None:
        return structure.parameters
    growing = [name for name, group in structure.groups.items() if not group.no_grow]
    times = tasks - 1
    grow = method.grow
    units = dict.fromkeys(growing, 0)
    for name in growing:
        width = structure.groups[name].width
        if isinstance(grow, GrowConfig):
            units[name] = grow.units * times
        elif isinstance(grow, GrowShareConfig):
            units[name] = round(width * ((1 + grow.share) ** times - 1))
        elif isinstance(grow, OvergrowConfig):
            units[name] = grow.keep * times + round(grow.keep * (grow.factor - 1))
        elif isinstance(grow, GrowBySaturationConfig | GrowByNeedConfig | GrowByGainConfig):
            units[name] = grow.most * times
    try:
        structure.apply(Plan(grow={name: n for name, n in units.items() if n}), verify=False)
    except GrowmasError:
        return structure.parameters
    limit = method.budget.parameters if method.budget else None
    return min(structure.parameters, limit) if limit else structure.parameters
