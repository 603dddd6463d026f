"""Experiments: the records that a config file is checked against.

Each field's ``description`` says what it expects; error messages quote it.
"""

from collections.abc import Iterator, Mapping
from typing import Self, get_args

from pydantic import Field, PrivateAttr, model_validator

from growmas.config import baselines, contexts
from growmas.config.baselines import SCENARIOS
from growmas.config.checkpoints import CheckpointConfig
from growmas.config.formatting import KeyPath, dotted, listed, show
from growmas.config.loggers import Log
from growmas.config.methods import (
    ANSWER_BY_TASK,
    TASK_FREE,
    GrowByNeedConfig,
    MethodConfig,
    OvergrowConfig,
)
from growmas.config.models import ModelConfig
from growmas.config.origins import Origins
from growmas.config.record import Record
from growmas.config.streams import SplitConfig, StreamConfig, TaskFreeConfig
from growmas.config.sweeps import SweepConfig
from growmas.config.training import SignalsConfig, TrainingConfig
from growmas.config.tune import TuneConfig

_BECAUSE = "as stream.kind is task_free"


class Experiment(Record):
    """Experiment: a stream, the model that learns it, and the method of learning."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="text of letters, digits, dots, dashes and underscores",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="a whole number, 0 or more, under 2^63")
    stream: StreamConfig = Field(
        discriminator="kind",
        description="a mapping with kind split, permuted, rotated, ordered, sources or task_free",
    )
    model: ModelConfig = Field(
        discriminator="kind",
        description="a mapping with kind mlp, convnet, resnet, vit, python, timm or transformers",
    )
    method: MethodConfig = Field(
        discriminator="kind",
        description="a mapping with kind growmas, mas, finetune, separate, joint, gaussian, ewc, "
        "online_ewc, si, lwf, er, derpp, packnet, hat, icarl, slda, ranpac, l2_init or python",
    )
    training: TrainingConfig = Field(description="a mapping with epochs and learning_rate")
    signals: SignalsConfig | None = Field(
        None, description="a mapping such as {every: 200}, or null to measure none"
    )
    checkpoint: CheckpointConfig = Field(
        default_factory=lambda: CheckpointConfig.model_validate({}),
        description="a mapping such as {every: 5 minutes}",
    )
    log: tuple[Log, ...] = Field(
        (),
        strict=False,
        description="a list of loggers, such as [tensorboard, {kind: wandb, project: mine}]; of "
        "csv, tensorboard, wandb, mlflow and python",
    )
    device: str = Field(
        "cpu", pattern=r"^(cpu|mps|cuda(:\d+)?)$", description="cpu, mps, cuda or cuda:0"
    )
    threads: int = Field(1, ge=1, description="a whole number of CPU threads, at least 1")
    imports: tuple[str, ...] = Field(
        (),
        strict=False,
        description="a list of folders in which modules of targets are found; that of this config "
        "is always one of them",
    )
    sweep: SweepConfig | None = Field(
        None, description="a mapping with engine, for growmas sweep, or null"
    )
    tune: TuneConfig | None = Field(
        None, description="a mapping with keys to tune, for growmas sweep, or null"
    )
    _origins: Origins = PrivateAttr(default_factory=Origins)

    @property
    def origins(self) -> Origins:
        """The file and line of each value; empty where the experiment was not read from a file."""
        return self._origins

    def read_from(self, origins: Origins) -> Self:
        """Return the same experiment, which knows where its values were written."""
        copy = self.model_copy()
        copy._origins = origins
        return copy

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        found = conflicts(self.model_dump())
        if found:
            raise ValueError("; ".join(f"{dotted(path)}: {text}" for path, text in found))
        return self


def conflicts(values: Mapping[str, object]) -> list[tuple[KeyPath, str]]:
    """Return keys that are valid by themselves but contradict each other.

    Args:
        values: of an experiment; they may have other mistakes too.

    Returns:
        The path of each key to change, and why.
    """
    free = _at(values, "stream", "kind") == "task_free"
    scenario = _at(values, "stream", "scenario")
    optimizer = _at(values, "training", "optimizer")
    momentum = _at(values, "training", "momentum")
    found: list[tuple[KeyPath, str]] = []
    kind = _at(values, "stream", "kind")
    if kind in ("permuted", "rotated", "ordered") and scenario == "class":
        expected = f"task or domain, as all tasks of {kind} streams share the same classes"
        found.append((("stream", "scenario"), f"expected {expected}; got {show(scenario)}"))
    found += _stream_conflicts(values)
    if free:
        found += _task_free_conflicts(values)
    else:
        found += [*_context_conflicts(values, scenario), *_selection_conflicts(values)]
        found += _baseline_conflicts(values, scenario)
        if _at(values, "method", "task_free") is not None:
            expected = "null, as stream.kind is not task_free"
            found.append((("method", "task_free"), f"expected {expected}; got a mapping"))
    if _at(values, "method", "protect") == "auto" and _at(values, "method", "strength") == 0:
        text = "expected a number above 0, as protect: auto tries multiples of it; got 0"
        found.append((("method", "strength"), text))
    found += _filter_conflicts(values)
    found += _trial_conflicts(values)
    found += _replacement_conflicts(values)
    frozen, turns = _at(values, "model", "freeze"), _at(values, "stream", "of") == "turning"
    fixed = isinstance(frozen, list | tuple) and "*" in frozen and not turns
    if fixed and _at(values, "training", "transforms"):
        text = 'expected [], as model.freeze is ["*"]: features are computed once'
        found.append((("training", "transforms"), text))
    found += _log_conflicts(values)
    if momentum and optimizer != "sgd":
        expected = "0, as only optimizer sgd takes a momentum"
        found.append((("training", "momentum"), f"expected {expected}; got {show(momentum)}"))
    return found


def _log_conflicts(values: Mapping[str, object]) -> list[tuple[KeyPath, str]]:
    """Return loggers that are given twice, which would write to the same place."""
    given = _at(values, "log")
    kinds = [
        each if isinstance(each, str) else _at(each, "kind")
        for each in (given if isinstance(given, list | tuple) else ())
    ]
    return [
        (("log", position), f"leave it out, as {kind} is given before")
        for position, kind in enumerate(kinds)
        if kind != "python" and kind in kinds[:position]
    ]


def _stream_conflicts(values: Mapping[str, object]) -> list[tuple[KeyPath, str]]:
    """Return settings of a stream, or of its source, that exclude each other."""
    stream = _at(values, "stream")
    found: list[tuple[KeyPath, str]] = []
    given = [key for key in ("sizes", "first") if _at(stream, key) is not None]
    listed = isinstance(_at(stream, "tasks"), list | tuple)
    if listed and (
        given or _at(stream, "class_order") is not None or _at(stream, "shuffle_classes")
    ):
        keys = [*given, *(k for k in ("class_order", "shuffle_classes") if _at(stream, k))]
        text = "leave it out, as the classes of each task are listed in tasks"
        found += [(("stream", key), text) for key in keys]
    elif len(given) == 2:
        found.append((("stream", "first"), "leave it out, as sizes has the size of every task"))
    elif "sizes" in given and isinstance(_at(stream, "tasks"), int):
        sizes, tasks = _at(stream, "sizes"), _at(stream, "tasks")
        default = SplitConfig.model_fields["tasks"].default
        if isinstance(sizes, list | tuple) and tasks not in (len(sizes), default):
            text = f"expected {len(sizes)}, the number of sizes, or nothing; got {show(tasks)}"
            found.append((("stream", "tasks"), text))
    if _at(stream, "class_order") is not None and _at(stream, "shuffle_classes"):
        found.append((("stream", "shuffle_classes"), "expected false, as class_order is given"))
    source = _at(stream, "source")
    if _at(source, "kind") == "hub" and (_at(source, "name") is None) == (
        _at(source, "path") is None
    ):
        text = "expected either a name on the hub or a path, not both or neither"
        found.append((("stream", "source", "name"), text))
    if _at(stream, "kind") == "task_free" and _at(stream, "validation"):
        found.append((("stream", "validation"), f"expected 0, {_BECAUSE}"))
    return found


def _context_conflicts(values: Mapping[str, object], scenario: object) -> list[tuple[KeyPath, str]]:
    """Return what a method lacks to find out the task of a sample."""
    method = _at(values, "method", "kind")
    given = _at(values, "method", "context")
    combine = _at(given, "combine")
    linear = _at(given, "kind") in ("ridge", "shared")
    per = _at(given, "per") or ("class" if linear else "task")
    if combine == "classes" and per != "class":
        expected = "tasks or none, unless there is a Gaussian for each class (per: class)"
        if linear:
            expected = "tasks or none, unless classes are told apart (per: class)"
        path: KeyPath = ("method", "context", "combine")
        return [(path, f"expected {expected}; got {show(combine)}")]
    temperature = _at(given, "temperature")
    if not linear and combine != "classes" and temperature not in (None, 1):
        expected = "1, unless the context has a say in the classes (combine: classes)"
        path = ("method", "context", "temperature")
        return [(path, f"expected {expected}; got {show(temperature)}")]
    if _at(given, "features") == "model" and method == "separate":
        expected = "inputs or filters, as method separate has no network of all tasks"
        return [(("method", "context", "features"), f"expected {expected}; got model")]
    if method not in ANSWER_BY_TASK or scenario not in ("domain", "class") or given is not None:
        return []
    expected = (
        f"a mapping such as {{kind: gaussian, per: task}}, as method {method} answers each task "
        f"by itself, and in scenario {scenario} the task is unknown"
    )
    return [(("method", "context"), f"expected {expected}; got null")]


def _filter_conflicts(values: Mapping[str, object]) -> list[tuple[KeyPath, str]]:
    """Return settings of random filters where features are something else."""
    found: list[tuple[KeyPath, str]] = []
    places: tuple[tuple[KeyPath, dict[str, type[Record]]], ...] = (
        (("method",), baselines.FILTERED),
        (("method", "context"), contexts.FILTERED),
    )
    for path, kinds in places:
        given = _at(values, *map(str, path))
        record = kinds.get(str(_at(given, "kind")))
        if record is None or _at(given, "features") == "filters":
            continue
        for key in ("filters", "pool", "whiten"):
            field, value = record.model_fields[key], _at(given, key)
            valid = type(value) is int or value in get_args(field.annotation)
            if valid and value != field.default:
                expected = f"features: filters beside it, or {key} left out"
                found.append(((*path, key), f"expected {expected}; got {show(value)}"))
    return found


def _trial_conflicts(values: Mapping[str, object]) -> list[tuple[KeyPath, str]]:
    """Return a largest number of units that is below the smallest."""
    if _at(values, "method", "grow", "kind") != "need":
        return []
    fields = GrowByNeedConfig.model_fields
    step, most = (
        fields[key].default if (value := _at(values, "method", "grow", key)) is None else value
        for key in ("step", "most")
    )
    if not isinstance(step, int) or not isinstance(most, int) or most >= step:
        return []
    return [(("method", "grow", "most"), f"expected at least the {step} of step; got {most}")]


def _replacement_conflicts(values: Mapping[str, object]) -> list[tuple[KeyPath, str]]:
    """Return compiled steps of a method that looks at the activations of training steps."""
    replaces = _at(values, "method", "kind") in ("cbp", "redo")
    replaces |= _at(values, "method", "replace") is not None
    if not (replaces and _at(values, "training", "compile") is True):
        return []
    expected = "false, as the method looks at activations of training steps, which compiled code "
    return [(("training", "compile"), f"expected {expected}does not show; got true")]


def _selection_conflicts(values: Mapping[str, object]) -> list[tuple[KeyPath, str]]:
    """Return a selection that leaves no epochs of training after it."""
    epochs, after = _at(values, "training", "epochs"), _at(values, "method", "grow", "after")
    if _at(values, "method", "grow", "kind") != "overgrow" or not isinstance(epochs, int):
        return []
    after = OvergrowConfig.model_fields["after"].default if after is None else after
    if not isinstance(after, int) or after < epochs:
        return []
    expected = f"fewer than the {epochs} of training.epochs, so that training repairs the loss"
    return [(("method", "grow", "after"), f"expected {expected}; got {after}")]


def _baseline_conflicts(
    values: Mapping[str, object], scenario: object
) -> list[tuple[KeyPath, str]]:
    """Return a method in a scenario that it is not for, or settings beyond the epochs."""
    kind = str(_at(values, "method", "kind"))
    fitting, why = SCENARIOS.get(kind, ((), ""))
    if fitting and scenario in ("task", "domain", "class") and scenario not in fitting:
        expected = f"a method for scenario {scenario}, as {kind} is for {listed(fitting)}: {why}"
        return [(("method", "kind"), f"expected {expected}; got {kind}")]
    if kind == "hat" and _at(values, "training", "precision") == "fp16":
        expected = "fp32 or bf16, as hat learns its gates by a gradient that is not scaled"
        return [(("training", "precision"), f"expected {expected}; got fp16")]
    epochs, after = _at(values, "training", "epochs"), _at(values, "method", "after")
    if kind != "packnet" or not isinstance(epochs, int) or not isinstance(after, int):
        return []
    if after <= epochs:
        return []
    expected = f"at most the {epochs} of training.epochs, or null"
    return [(("method", "after"), f"expected {expected}; got {after}")]


_Check = tuple[KeyPath, bool, str]
"""A key, whether its value goes with the others, and what it should be."""


def _task_free_conflicts(values: Mapping[str, object]) -> list[tuple[KeyPath, str]]:
    """Return what contradicts a stream without task boundaries."""
    checks = (*_task_free_stream(values), *_task_free_method(values), *_task_free_training(values))
    return [
        (path, f"expected {words}; got {show(_at(values, *map(str, path)))}")
        for path, fine, words in checks
        if not fine
    ]


def _task_free_stream(values: Mapping[str, object]) -> Iterator[_Check]:
    steps, blur = _at(values, "stream", "steps_per_task"), _at(values, "stream", "blur")
    steps = TaskFreeConfig.model_fields["steps_per_task"].default if steps is None else steps
    of, scenario = _at(values, "stream", "of"), _at(values, "stream", "scenario")
    fine = not (isinstance(blur, int) and isinstance(steps, int) and blur > steps)
    yield ("stream", "blur"), fine, f"at most the {steps} of stream.steps_per_task"
    fine = scenario != "class" or of not in ("permuted", "ordered", "turning")
    words = f"domain, as all tasks of {of} streams share the same classes"
    yield ("stream", "scenario"), fine, words


def _task_free_method(values: Mapping[str, object]) -> Iterator[_Check]:
    method = _at(values, "method")
    kind = _at(method, "kind")
    known = not isinstance(kind, str) or kind in TASK_FREE
    yield ("method", "kind"), known, f"{listed(TASK_FREE)}, {_BECAUSE}"
    context = _at(method, "context")
    for key, fitting, words in (
        ("kind", ("gaussian",), f"gaussian, {_BECAUSE}"),
        ("per", ("task",), f"task, {_BECAUSE}"),
        ("features", ("inputs", "filters"), f"inputs or filters, {_BECAUSE}"),
        ("combine", ("none",), f"none, or nothing, {_BECAUSE}: the likeliest view answers"),
        ("temperature", (1,), f"1, {_BECAUSE}"),
    ):
        value = _at(context, key)
        yield ("method", "context", key), value is None or value in fitting, words
    yield ("method", "protect"), _at(method, "protect") is None, f"null, {_BECAUSE}"
    yield ("method", "per_task"), not _at(method, "per_task"), f"[], {_BECAUSE}"
    grow = _at(method, "grow", "kind")
    yield ("method", "grow", "kind"), grow != "overgrow", f"any but overgrow, {_BECAUSE}"


def _task_free_training(values: Mapping[str, object]) -> Iterator[_Check]:
    words = f"1, {_BECAUSE}: a task lasts for stream.steps_per_task batches"
    yield ("training", "epochs"), _at(values, "training", "epochs") in (1, None), words
    words = f"constant, {_BECAUSE}: a schedule falls until a task ends, which is not known here"
    yield ("training", "schedule"), _at(values, "training", "schedule") in (None, "constant"), words


def _at(values: object, *path: str) -> object:
    for key in path:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values
