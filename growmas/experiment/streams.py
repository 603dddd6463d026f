"""Streams of tasks and task-free streams, built from a config."""

from collections.abc import Callable
from typing import Any

from growmas.config import (
    Experiment,
    OrderedConfig,
    PermutedConfig,
    RotatedConfig,
    SourcesConfig,
    SplitConfig,
    TaskFreeConfig,
)
from growmas.data import (
    Dataset,
    Sampling,
    Stream,
    TaskFreeStream,
    drifting_stream,
    ordered_stream,
    permuted_stream,
    repeated_stream,
    rotated_stream,
    sources_stream,
    split_stream,
    task_free_stream,
)
from growmas.errors import RunError
from growmas.experiment.blame import blame
from growmas.experiment.features import with_frozen_features
from growmas.experiment.randomness import derived_seed, random_generator
from growmas.experiment.sources import build_source


def build_stream(experiment: Experiment) -> Stream:
    """Build the tasks of an experiment; the same seed gives the same stream on every machine.

    Where everything but the heads of the model is frozen, inputs are the features of the rest.

    Raises:
        RunError: The stream is task-free.
        DataError: The data is missing or does not fit; names the file, line and key.
    """
    config = experiment.stream
    if isinstance(config, TaskFreeConfig):
        raise RunError(
            "a stream of kind task_free has no task boundaries: use build_task_free_stream"
        )
    sources = _sources(experiment)
    with blame(experiment, "stream"):
        raw = _tasks(experiment, config, sources)
    return with_frozen_features(experiment, raw)


def build_raw_stream(experiment: Experiment) -> Stream | TaskFreeStream:
    """Build the stream of an experiment with the inputs of the whole network."""
    sources = _sources(experiment)
    config = experiment.stream
    with blame(experiment, "stream"):
        if isinstance(config, TaskFreeConfig):
            return _task_free(experiment, config, sources[0], features=False)
        return _tasks(experiment, config, sources)


def _tasks(
    experiment: Experiment,
    config: SplitConfig | PermutedConfig | RotatedConfig | OrderedConfig | SourcesConfig,
    sources: list[Dataset],
) -> Stream:
    shared: dict[str, Any] = {
        "scenario": config.scenario,
        "generator": random_generator(experiment.seed, "stream"),
        "limit": config.limit,
        "sampling": Sampling(config.label_noise, config.imbalance, config.validation),
    }
    if isinstance(config, SourcesConfig):
        return sources_stream(sources, **shared)
    (source,) = sources
    if isinstance(config, PermutedConfig):
        first = config.first_identity
        stream = permuted_stream(source, tasks=config.tasks, first_identity=first, **shared)
    elif isinstance(config, OrderedConfig):
        stream = ordered_stream(source, tasks=config.tasks, **shared)
    elif isinstance(config, RotatedConfig):
        stream = rotated_stream(source, tasks=config.tasks, degrees=config.degrees, **shared)
    else:
        stream = split_stream(
            source,
            tasks=config.tasks,
            shuffle_classes=config.shuffle_classes,
            sizes=config.sizes,
            first=config.first,
            class_order=config.class_order,
            **shared,
        )
    return repeated_stream(stream, config.visits)


def _sources(experiment: Experiment) -> list[Dataset]:
    config = experiment.stream
    if not isinstance(config, SourcesConfig):
        with blame(experiment, "stream", "source"):
            return [build_source(config.source, experiment.imports)]
    sources = []
    for index, each in enumerate(config.sources):
        with blame(experiment, "stream", "sources", index):
            sources.append(build_source(each, experiment.imports))
    return sources


def build_task_free_stream(experiment: Experiment) -> TaskFreeStream:
    """Build the task-free stream of an experiment, the same on every machine.

    Where everything but the heads of the model is frozen, inputs are the features of the rest, but
    not on a turning stream.

    Raises:
        RunError: The stream is not task-free.
        DataError: The data is missing or does not fit; names the file, line and key.
    """
    config = experiment.stream
    if not isinstance(config, TaskFreeConfig):
        raise RunError(f"a stream of kind {config.kind} is not task-free: use build_stream")
    (source,) = _sources(experiment)
    with blame(experiment, "stream"):
        return _task_free(experiment, config, source, features=True)


def _task_free(
    experiment: Experiment, config: TaskFreeConfig, source: Dataset, *, features: bool
) -> TaskFreeStream:
    batch_size = experiment.training.batch_size
    seed = derived_seed(experiment.seed, "stream")
    sampling = Sampling(config.label_noise, config.imbalance)
    if config.of == "turning":
        return drifting_stream(
            source,
            steps=config.tasks * config.steps_per_task,
            degrees=config.degrees,
            views=config.tasks,
            batch_size=batch_size,
            seed=seed,
            limit=config.limit,
            sampling=sampling,
        )
    builders: dict[str, Callable[..., Stream]] = {
        "split": split_stream,
        "permuted": permuted_stream,
        "ordered": ordered_stream,
    }
    build = builders[config.of]
    base = build(
        source,
        tasks=config.tasks,
        scenario=config.scenario,
        generator=random_generator(experiment.seed, "stream"),
        limit=config.limit,
        sampling=sampling,
    )
    return task_free_stream(
        with_frozen_features(experiment, base) if features else base,
        batch_size=batch_size,
        steps_per_task=config.steps_per_task,
        visits=config.visits,
        blur=config.blur,
        seed=seed,
    )
