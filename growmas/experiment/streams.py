"""Streams of tasks and task-free streams, built from a config."""

from growmas.config import Experiment, PermutedConfig, SourcesConfig, TaskFreeConfig
from growmas.data import (
    Stream,
    TaskFreeStream,
    drifting_stream,
    load_source,
    permuted_stream,
    sources_stream,
    split_stream,
    task_free_stream,
)
from growmas.errors import RunError
from growmas.experiment.randomness import derived_seed, random_generator


def build_stream(experiment: Experiment) -> Stream:
    """Build the tasks of an experiment; the same seed gives the same stream on every machine.

    Raises:
        RunError: The stream is task-free.
    """
    config, generator = experiment.stream, random_generator(experiment.seed, "stream")
    if isinstance(config, TaskFreeConfig):
        raise RunError(
            "a stream of kind task_free has no task boundaries: use build_task_free_stream"
        )
    if isinstance(config, SourcesConfig):
        sources = [load_source(name) for name in config.sources]
        return sources_stream(sources, scenario=config.scenario, limit=config.limit)
    source = load_source(config.source)
    if isinstance(config, PermutedConfig):
        return permuted_stream(
            source,
            tasks=config.tasks,
            scenario=config.scenario,
            generator=generator,
            first_identity=config.first_identity,
            limit=config.limit,
        )
    return split_stream(
        source,
        tasks=config.tasks,
        scenario=config.scenario,
        generator=generator,
        shuffle_classes=config.shuffle_classes,
        limit=config.limit,
    )


def build_task_free_stream(experiment: Experiment) -> TaskFreeStream:
    """Build the task-free stream of an experiment, the same on every machine.

    Raises:
        RunError: The stream is not task-free.
    """
    config, batch_size = experiment.stream, experiment.training.batch_size
    if not isinstance(config, TaskFreeConfig):
        raise RunError(f"a stream of kind {config.kind} is not task-free: use build_stream")
    source, seed = load_source(config.source), derived_seed(experiment.seed, "stream")
    if config.of == "turning":
        return drifting_stream(
            source,
            steps=config.tasks * config.steps_per_task,
            degrees=config.degrees,
            views=config.tasks,
            batch_size=batch_size,
            seed=seed,
            limit=config.limit,
        )
    build = split_stream if config.of == "split" else permuted_stream
    base = build(
        source,
        tasks=config.tasks,
        scenario=config.scenario,
        generator=random_generator(experiment.seed, "stream"),
        limit=config.limit,
    )
    return task_free_stream(
        base,
        batch_size=batch_size,
        steps_per_task=config.steps_per_task,
        visits=config.visits,
        blur=config.blur,
        seed=seed,
    )
