"""Finished and stopped runs, loaded from their directories."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from growmas.checkpoint import read_state
from growmas.config import ANSWER_BY_TASK, Experiment, TaskFreeConfig, load_config
from growmas.data import Stream, TaskFreeStream, own_heads
from growmas.errors import CheckpointError, GrowmasError, RunError
from growmas.experiment.learners import head_count
from growmas.experiment.models import build_structure
from growmas.experiment.streams import build_stream, build_task_free_stream
from growmas.history import TopologyHistory
from growmas.paths import as_path
from growmas.runs import RunDirectory, RunResult
from growmas.structure import Structure


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """A run, as it was at its last checkpoint.

    Attributes:
        path: The run directory.
        config: The experiment with all defaults.
        stream: Its tasks, built again from their source.
        structure: The units of the network, with the tasks that it learnt.
        history: The topology over time; close it, or use it in a `with` block.
        metrics: The result: accuracies, sizes and times.
    """

    path: Path
    config: Experiment
    stream: Stream | TaskFreeStream
    structure: Structure
    history: TopologyHistory
    metrics: RunResult

    @property
    def model(self) -> nn.Module:
        """The network, in eval mode, on the CPU."""
        return self.structure.model


def load_run(directory: str | os.PathLike[str]) -> LoadedRun:
    """Load the network, the stream and the records of a run.

        run = gm.load_run("runs/x")
        inputs = run.stream.tasks[0].test.inputs
        with run.structure.view(task=0):
            logits = run.model(inputs, 0)

    Args:
        directory: The run directory.

    Raises:
        RunError: It is not a run, or has no checkpoint yet.
        ConfigError: Its config cannot be read, or a target cannot be imported.
        DataError: Its data is not where it was, or is not the same as it was.
    """
    folder = RunDirectory(as_path(directory, RunError, "a run directory"))
    if not folder.metrics.is_file():
        raise RunError(f"{directory} is not a run directory: it has no {folder.metrics.name}")
    if not folder.checkpoint.exists():
        raise RunError(f"{directory} has no checkpoint: it was stopped before its first task ended")
    result = folder.read_result()
    config = load_config(folder.config).model_copy(update={"device": "cpu"})
    stream: Stream | TaskFreeStream
    if isinstance(config.stream, TaskFreeConfig):
        stream = build_task_free_stream(config)
        structure = build_structure(config, stream, heads=head_count(config))
    else:
        stream = build_stream(config)
        structure = build_structure(config, lessons_of(config, stream))
    if result.stream_digest and stream.digest != result.stream_digest:
        raise RunError(
            f"the data of {directory} has changed: its stream was {result.stream_digest} and is "
            f"{stream.digest} now; restore the data, or run it again"
        )
    state = read_state(folder.checkpoint)
    try:
        structure.load_state_dict(state["structure"])
        structure.model.load_state_dict(state["model"])
    except (RuntimeError, KeyError, ValueError, GrowmasError) as error:
        raise CheckpointError(f"{folder.checkpoint} does not fit its config: {error}") from error
    structure.model.eval()
    return LoadedRun(
        folder.path, config, stream, structure, TopologyHistory(folder.history), result
    )


def lessons_of(config: Experiment, stream: Stream) -> Stream:
    """Return the tasks as the method learns them: with a head each where it answers each."""
    return own_heads(stream) if config.method.kind in ANSWER_BY_TASK else stream
