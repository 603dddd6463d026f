"""One experiment from its config to a run directory.

A run directory holds `config.yaml` (everything resolved), `metrics.json` (rewritten after every
task), `history.db` (the topology, written as it changes) and `checkpoint/` (the last state); that
of a task-free stream also `stream.jsonl` (losses and shifts, step by step).
"""

import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from growmas import __version__
from growmas.checkpoint import save
from growmas.config import (
    ANSWER_BY_TASK,
    Experiment,
    PermutedConfig,
    SourcesConfig,
    TaskFreeConfig,
    differing_keys,
    dump_config,
    load_config,
)
from growmas.data import (
    Stream,
    TaskFreeStream,
    drifting_stream,
    load_source,
    own_heads,
    permuted_stream,
    sources_stream,
    split_stream,
    task_free_stream,
)
from growmas.errors import RunError
from growmas.history.tracker import TopologyTracker
from growmas.models import build_model, build_separate
from growmas.structure import Structure
from growmas.training.learner import EpochDone, TaskAwareLearner
from growmas.training.methods import build_method
from growmas.training.optimizers import build_optimizer
from growmas.training.task_free.build import build_learner, heads
from growmas.training.task_free.loop import StreamRun

EXAMPLES = 8
"""Real samples on which every edit is verified."""


@dataclass
class Results:
    """What `metrics.json` holds.

    Attributes:
        name: Of the experiment.
        method: The kind of method of the config.
        stream: Source and kind.
        scenario: task, domain or class.
        seed: Of all randomness.
        tasks: Names of all tasks of the stream.
        accuracy: R[i][j], accuracy on task j after learning task i; a row per task learnt.
        parameters: Number of parameters after the last task learnt; 0 for a method that trains no
            network.
        units: Width of every group then.
        seconds: Wall time of learning, importance and surgery; evaluation left out.
        cpu_seconds: CPU time of the process meanwhile, over all threads.
        context_size: Numbers that the method's context keeps, beside the parameters.
        status: "finished" or "unfinished".
        started: Seconds since the epoch.
        versions: Of growmas and torch.
    """

    name: str
    method: str
    stream: str
    scenario: str
    seed: int
    tasks: list[str]
    parameters: int
    units: dict[str, int]
    accuracy: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    context_size: int = 0
    status: str = "unfinished"
    started: float = field(default_factory=time.time)
    versions: dict[str, str] = field(
        default_factory=lambda: {"growmas": __version__, "torch": torch.__version__}
    )


@dataclass(frozen=True)
class TaskDone:
    """A task was learnt and all tasks so far were tested.

    Attributes:
        index: Of the task.
        results: Everything known by now.
    """

    index: int
    results: Results


class Observer(Protocol):
    """Is told how a run goes."""

    def epoch_done(self, done: EpochDone) -> None:
        """Called after every epoch."""

    def task_done(self, done: TaskDone) -> None:
        """Called after every task, when its results are on disk."""


def run_experiment(
    experiment: Experiment,
    directory: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    resume: bool = False,
    observer: Observer | None = None,
) -> Results:
    """Run an experiment and write its run directory.

    Args:
        experiment: What to run.
        directory: Where to write; it must not exist.
        overwrite: Replace a run directory that exists (never anything else).
        resume: Go on with a run over a task-free stream that was stopped, from its last
            checkpoint; its numbers are those of a run that was not.
        observer: Is told of every epoch and every task.

    Raises:
        RunError: The directory exists, or the device is not there, or the loss left the numbers.
        GrowmasError: Whatever the parts refuse.
    """
    folder = Path(directory)
    free = isinstance(experiment.stream, TaskFreeConfig)
    _check_free(folder, overwrite=overwrite, resume=resume)
    if resume and not free:
        raise RunError("only runs over a task-free stream can be resumed: use --overwrite")
    if resume:
        _check_same(folder, experiment)
    _check_device(experiment.device)
    torch.set_num_threads(experiment.threads)
    if free:
        return _run_task_free(
            experiment, folder, overwrite=overwrite, resume=resume, observer=observer
        )
    return _run_task_aware(experiment, folder, overwrite=overwrite, observer=observer)


def _run_task_aware(
    experiment: Experiment, folder: Path, *, overwrite: bool, observer: Observer | None
) -> Results:
    stream = build_stream(experiment)
    lessons = own_heads(stream) if experiment.method.kind in ANSWER_BY_TASK else stream
    learner = _build_task_aware(experiment, lessons, task_known=stream.scenario == "task")
    method, structure = learner.method, learner.method.structure
    results = _first_results(experiment, stream, structure)
    _open_folder(folder, experiment, results, overwrite=overwrite)
    with TopologyTracker(structure, folder / "history.db") as tracker:
        for task in lessons.tasks:
            for epoch in learner.learn(task):
                if observer:
                    observer.epoch_done(epoch)
            row = [learner.accuracy(known) for known in stream.tasks[: task.index + 1]]
            results.accuracy.append(row)
            _take_stock(results, learner)
            omega = method.mas.omega if method.mas else None
            tracker.snapshot(metrics=_metrics(stream, row), omega=omega)
            save(
                folder / "checkpoint",
                structure=structure,
                mas=method.mas,
                optimizer=learner.optimizer,
                context=method.context,
                manager=method.manager,
            )
            if len(row) == len(stream.tasks):
                results.status = "finished"
            _write_results(folder, results)
            if observer:
                observer.task_done(TaskDone(task.index, results))
    return results


def _build_task_aware(
    experiment: Experiment, lessons: Stream, *, task_known: bool
) -> TaskAwareLearner:
    structure = _build_structure(experiment, lessons)
    optimizer = build_optimizer(experiment.training, structure.model.parameters())
    method = build_method(
        experiment.method,
        structure,
        optimizer=optimizer,
        stream=lessons,
        batch_size=experiment.training.batch_size,
        seed=_generator(experiment.seed, "context").initial_seed(),
    )
    return TaskAwareLearner(
        method,
        optimizer,
        experiment.training,
        generator=_generator(experiment.seed, "shuffle"),
        device=experiment.device,
        task_known=task_known,
    )


def _run_task_free(
    experiment: Experiment,
    folder: Path,
    *,
    overwrite: bool,
    resume: bool,
    observer: Observer | None,
) -> Results:
    stream = build_task_free_stream(experiment)
    structure = _build_structure(experiment, stream, (stream.outputs,) * heads(experiment))
    optimizer = build_optimizer(experiment.training, structure.model.parameters())
    seed = _generator(experiment.seed, "context").initial_seed()
    learner = build_learner(experiment, structure, optimizer, seed=seed)
    run = StreamRun(learner, structure, stream, folder=folder, device=experiment.device)
    results = _first_results(experiment, stream, structure)
    if resume:
        results = Results(**json.loads((folder / "metrics.json").read_text(encoding="utf-8")))
    else:
        _open_folder(folder, experiment, results, overwrite=overwrite)
    with run.start(resume=resume) as tracker:
        for done in run.go(tracker):
            results.accuracy[done.index :] = [list(done.row)]
            results.seconds, results.cpu_seconds = run.seconds, run.cpu_seconds
            results.units, results.parameters = _widths(structure), structure.parameters
            results.context_size = getattr(getattr(learner, "context", None), "size", 0)
            tracker.snapshot(metrics=_metrics(stream, list(done.row)))
            if len(done.row) == len(stream.tasks):
                results.status = "finished"
            _write_results(folder, results)
            if observer:
                name = stream.tasks[done.index].name
                observer.epoch_done(EpochDone(done.index, name, 1, done.loss, 0.0))
                observer.task_done(TaskDone(done.index, results))
    return results


def build_task_free_stream(experiment: Experiment) -> TaskFreeStream:
    """The task-free stream of an experiment, the same on every machine."""
    config, batch_size = experiment.stream, experiment.training.batch_size
    if not isinstance(config, TaskFreeConfig):
        raise RunError(f"a stream of kind {config.kind} is not task-free")
    source, seed = load_source(config.source), _generator(experiment.seed, "stream").initial_seed()
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
        generator=_generator(experiment.seed, "stream"),
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


def _first_results(
    experiment: Experiment, stream: Stream | TaskFreeStream, structure: Structure
) -> Results:
    return Results(
        name=experiment.name,
        method=experiment.method.kind,
        stream=stream.name,
        scenario=stream.scenario,
        seed=experiment.seed,
        tasks=[task.name for task in stream.tasks],
        parameters=structure.parameters,
        units=_widths(structure),
    )


def build_stream(experiment: Experiment) -> Stream:
    """The tasks of an experiment; the same seed gives the same stream on every machine."""
    config, generator = experiment.stream, _generator(experiment.seed, "stream")
    if isinstance(config, TaskFreeConfig):
        raise RunError("a task-free stream has no tasks to be told: use build_task_free_stream")
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


def _build_structure(
    experiment: Experiment, stream: Stream | TaskFreeStream, heads: tuple[int, ...] | None = None
) -> Structure:
    seed = _generator(experiment.seed, "model").initial_seed()
    build = build_separate if experiment.method.kind == "separate" else build_model
    model = build(experiment.model, stream.input_shape, heads or stream.head_sizes, seed=seed)
    examples = stream.tasks[0].train.inputs[:EXAMPLES].to(experiment.device)
    generator = _generator(experiment.seed, "growth")
    return Structure(model.to(experiment.device), examples, generator=generator)


def _take_stock(results: Results, learner: TaskAwareLearner) -> None:
    """Note what the network has become, and what that took."""
    method = learner.method
    results.seconds, results.cpu_seconds = learner.seconds, learner.cpu_seconds
    results.units = _widths(method.structure)
    results.parameters = method.parameters
    results.context_size = getattr(method.context, "size", 0)


def _generator(seed: int, purpose: str) -> torch.Generator:
    """A stream of randomness of its own for each purpose, so that methods share all but theirs."""
    words = np.random.SeedSequence([seed, *purpose.encode()]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> 1))


def _widths(structure: Structure) -> dict[str, int]:
    return {name: group.width for name, group in structure.groups.items()}


def _metrics(stream: Stream | TaskFreeStream, row: list[float]) -> dict[str, float]:
    named = {f"accuracy/{t.name}": a for t, a in zip(stream.tasks, row, strict=False)}
    return {**named, "accuracy": sum(row) / len(row)}


def _check_free(folder: Path, *, overwrite: bool, resume: bool) -> None:
    if resume:
        if overwrite:
            raise RunError("a run is either resumed or replaced: give one of resume and overwrite")
        if not (folder / "metrics.json").exists():
            raise RunError(f"{folder} is not a run that could be resumed")
        return
    if not folder.exists():
        return
    if not overwrite:
        raise RunError(f"{folder} exists: name another with --out, or replace it with --overwrite")
    if not (folder / "metrics.json").exists():
        raise RunError(f"{folder} exists and is not a run of growmas: name another with --out")


def _check_same(folder: Path, experiment: Experiment) -> None:
    """Refuse to go on with another experiment than the one that was begun."""
    begun = load_config(folder / "config.yaml")
    other = differing_keys(begun, experiment)
    if other:
        raise RunError(
            f"{folder} was begun with another config: {', '.join(other)} differ; resume it with "
            f"growmas run {folder / 'config.yaml'} --out {folder} --resume"
        )


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RunError(f"device {device!r} cannot be used here: {error}") from error


def _open_folder(
    folder: Path, experiment: Experiment, results: Results, *, overwrite: bool
) -> None:
    _check_free(folder, overwrite=overwrite, resume=False)  # another run may have begun meanwhile
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(dump_config(experiment), encoding="utf-8")
    except OSError as error:
        raise _unwritten(folder, error) from error
    _write_results(folder, results)


def _write_results(folder: Path, results: Results) -> None:
    data: dict[str, Any] = asdict(results)
    fresh = folder / ".metrics.json.new"
    try:
        fresh.write_text(json.dumps(data, indent=1), encoding="utf-8")
        fresh.replace(folder / "metrics.json")
    except OSError as error:
        raise _unwritten(folder, error) from error


def _unwritten(folder: Path, error: OSError) -> RunError:
    return RunError(
        f"the run {folder} could not be written: {error.strerror or error}; make room there, or "
        "name another place with --out"
    )
