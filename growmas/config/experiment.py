"""Experiments: the records that a config file is checked against.

Each field's ``description`` says what it expects; error messages quote it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from growmas.config.formatting import KeyPath, dotted, show
from growmas.config.methods import (
    ANSWER_BY_TASK,
    TASK_FREE,
    GrowByNeedConfig,
    MethodConfig,
    OvergrowConfig,
)
from growmas.config.record import Record
from growmas.data.names import Scenario, did_you_mean
from growmas.data.sources import source_names


def _known_source(name: str) -> str:
    if name not in source_names():
        raise ValueError(
            f"expected a source, got {show(name)}; {did_you_mean(name, source_names())}"
        )
    return name


def _as_widths(value: object) -> object:
    """Turn a single width into a list of one."""
    return [value] if type(value) is int else value


_Source = Annotated[str, AfterValidator(_known_source)]
_Widths = Annotated[
    tuple[Annotated[int, Field(ge=1)], ...],
    Field(min_length=1, strict=False),
    BeforeValidator(_as_widths),
]
_LIMIT = "at least 1 training sample of each class, or null for all of them"
_BECAUSE = "as stream.kind is task_free"
_WIDTHS = "positive whole numbers, one for each layer, such as [64, 64]"


class SplitConfig(Record):
    """Tasks of some classes each."""

    kind: Literal["split"] = Field(description="split")
    source: _Source = Field(description="the name of a source, such as mnist5k")
    tasks: int = Field(5, ge=1, description="a number of tasks that divides the classes")
    scenario: Scenario = Field(description="task, domain or class")
    shuffle_classes: bool = Field(False, description="true or false")
    limit: int | None = Field(None, ge=1, description=_LIMIT)


class PermutedConfig(Record):
    """Tasks of all classes, each with its own order of pixels."""

    kind: Literal["permuted"] = Field(description="permuted")
    source: _Source = Field(description="the name of a source, such as mnist5k")
    tasks: int = Field(10, ge=1, description="a whole number of tasks, at least 1")
    scenario: Scenario = Field(description="task or domain")
    first_identity: bool = Field(True, description="true or false")
    limit: int | None = Field(None, ge=1, description=_LIMIT)


class SourcesConfig(Record):
    """Tasks of all classes of one source each."""

    kind: Literal["sources"] = Field(description="sources")
    sources: tuple[_Source, ...] = Field(
        min_length=1,
        strict=False,
        description="a list of names of sources, such as [digits, mnist5k]",
    )
    scenario: Scenario = Field(description="task, domain or class")
    limit: int | None = Field(None, ge=1, description=_LIMIT)

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        return len(self.sources)


class TaskFreeConfig(Record):
    """Batches of one task after another, without task boundaries."""

    kind: Literal["task_free"] = Field(description="task_free")
    source: _Source = Field(description="the name of a source, such as mnist5k")
    of: Literal["split", "permuted", "turning"] = Field(
        description="split, permuted, or turning: gradually rotating images"
    )
    scenario: Literal["domain", "class"] = Field("domain", description="domain or class")
    tasks: int = Field(5, ge=1, description="a whole number of tasks, 1 for a stream with no shift")
    steps_per_task: int = Field(100, ge=1, description="a whole number of batches, at least 1")
    visits: int = Field(1, ge=1, description="a whole number of visits to each task, at least 1")
    blur: int = Field(
        0, ge=0, description="a whole number of steps that a boundary takes, 0 for a sharp one"
    )
    degrees: float = Field(
        90.0, description="the rotation of a turning stream at its last step, in degrees"
    )
    limit: int | None = Field(None, ge=1, description=_LIMIT)


class MLPConfig(Record):
    """Multi-layer perceptron."""

    kind: Literal["mlp"] = Field(description="mlp")
    hidden: _Widths = Field(description=_WIDTHS)


class ConvNetConfig(Record):
    """Convolution stages, followed by dense layers."""

    kind: Literal["convnet"] = Field(description="convnet")
    channels: _Widths = Field(description=_WIDTHS)
    hidden: _Widths = Field(description=_WIDTHS)


class TrainingConfig(Record):
    """Training of each task."""

    epochs: int = Field(ge=1, description="a whole number of epochs for each task, at least 1")
    batch_size: int = Field(128, ge=1, description="a whole number of samples, at least 1")
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="adam, adamw or sgd")
    learning_rate: float = Field(gt=0, description="a number above 0")
    momentum: float = Field(0.0, ge=0, lt=1, description="a number that is 0 or more, under 1")
    weight_decay: float = Field(0.0, ge=0, description="a number that is 0 or more")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="constant, or cosine: from learning_rate to 0 in every task"
    )
    input_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="a share of inputs to set to zero in training, 0 or more, under 1",
    )


StreamConfig = SplitConfig | PermutedConfig | SourcesConfig | TaskFreeConfig
ModelConfig = MLPConfig | ConvNetConfig


class Experiment(Record):
    """Experiment: a stream, the model that learns it, and the method of learning."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="text of letters, digits, dots, dashes and underscores",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="a whole number, 0 or more, under 2^63")
    stream: StreamConfig = Field(
        discriminator="kind",
        description="a mapping with kind split, permuted, sources or task_free",
    )
    model: ModelConfig = Field(
        discriminator="kind", description="a mapping with kind mlp or convnet"
    )
    method: MethodConfig = Field(
        discriminator="kind",
        description="a mapping with kind growmas, mas, finetune, separate, joint or gaussian",
    )
    training: TrainingConfig = Field(description="a mapping with epochs and learning_rate")
    device: str = Field(
        "cpu", pattern=r"^(cpu|mps|cuda(:\d+)?)$", description="cpu, mps, cuda or cuda:0"
    )
    threads: int = Field(1, ge=1, description="a whole number of CPU threads, at least 1")

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
    if _at(values, "stream", "kind") == "permuted" and scenario == "class":
        expected = "task or domain, as all tasks of a permuted stream share the same classes"
        found.append((("stream", "scenario"), f"expected {expected}; got {show(scenario)}"))
    if free:
        found += _task_free_conflicts(values)
    else:
        found += [*_context_conflicts(values, scenario), *_selection_conflicts(values)]
        if _at(values, "method", "task_free") is not None:
            expected = "null, as stream.kind is not task_free"
            found.append((("method", "task_free"), f"expected {expected}; got a mapping"))
    found += _trial_conflicts(values)
    if momentum and optimizer != "sgd":
        expected = "0, as only optimizer sgd takes a momentum"
        found.append((("training", "momentum"), f"expected {expected}; got {show(momentum)}"))
    return found


def _context_conflicts(values: Mapping[str, object], scenario: object) -> list[tuple[KeyPath, str]]:
    """Return what a method lacks to find out the task of a sample."""
    method = _at(values, "method", "kind")
    given = _at(values, "method", "context")
    combine = _at(given, "combine")
    if combine == "classes" and _at(given, "per") != "class":
        expected = "tasks or none, unless there is a Gaussian for each class (per: class)"
        path: KeyPath = ("method", "context", "combine")
        return [(path, f"expected {expected}; got {show(combine)}")]
    temperature = _at(given, "temperature")
    if combine != "classes" and temperature not in (None, 1):
        expected = "1, unless the context has a say in the classes (combine: classes)"
        path = ("method", "context", "temperature")
        return [(path, f"expected {expected}; got {show(temperature)}")]
    if method not in ANSWER_BY_TASK or scenario not in ("domain", "class") or given is not None:
        return []
    expected = (
        f"a mapping such as {{kind: gaussian, per: task}}, as method {method} answers each task "
        f"by itself, and in scenario {scenario} the task is unknown"
    )
    return [(("method", "context"), f"expected {expected}; got null")]


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
    fine = scenario != "class" or of not in ("permuted", "turning")
    words = f"domain, as all tasks of a {of} stream share the same classes"
    yield ("stream", "scenario"), fine, words


def _task_free_method(values: Mapping[str, object]) -> Iterator[_Check]:
    method = _at(values, "method")
    kind = _at(method, "kind")
    known = not isinstance(kind, str) or kind in TASK_FREE
    yield ("method", "kind"), known, f"{_listed(TASK_FREE)}, {_BECAUSE}"
    context = _at(method, "context")
    for key, fitting, words in (
        ("kind", ("gaussian",), f"gaussian, {_BECAUSE}"),
        ("per", ("task",), f"task, {_BECAUSE}"),
        ("combine", ("none",), f"none, or nothing, {_BECAUSE}: the likeliest view answers"),
        ("temperature", (1,), f"1, {_BECAUSE}"),
    ):
        value = _at(context, key)
        yield ("method", "context", key), value is None or value in fitting, words
    yield ("method", "protect"), _at(method, "protect") is None, f"null, {_BECAUSE}"
    grow = _at(method, "grow", "kind")
    yield ("method", "grow", "kind"), grow != "overgrow", f"any but overgrow, {_BECAUSE}"


def _task_free_training(values: Mapping[str, object]) -> Iterator[_Check]:
    words = f"1, {_BECAUSE}: a task lasts for stream.steps_per_task batches"
    yield ("training", "epochs"), _at(values, "training", "epochs") in (1, None), words
    for name, plain in (("schedule", "constant"), ("input_dropout", 0.0)):
        fine = _at(values, "training", name) in (None, plain)
        yield ("training", name), fine, f"{plain}, {_BECAUSE}"


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _at(values: object, *path: str) -> object:
    for key in path:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values
