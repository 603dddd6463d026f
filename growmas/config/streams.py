"""Streams: the records of `stream`."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from growmas.config.record import Record
from growmas.config.sources import SOURCE, SourceConfig
from growmas.data.names import Scenario

_LIMIT = (
    "at least 1 training sample of each class, or a mapping of class to number, or null for all"
)
_Label = Annotated[
    Annotated[int, Tag("int")] | Annotated[str, Tag("str")],
    Discriminator(lambda value: "int" if type(value) is int else "str"),
]
_Classes = Annotated[tuple[_Label, ...], Field(min_length=1, strict=False)]
_Count = Annotated[int, Field(ge=1)]


def _form(value: object) -> str:
    return "list" if isinstance(value, list | tuple) else "number"


def _limit_form(value: object) -> str:
    return "map" if isinstance(value, dict) else "number"


_Tasks = Annotated[
    Annotated[_Count, Tag("number")]
    | Annotated[Annotated[tuple[_Classes, ...], Field(min_length=1, strict=False)], Tag("list")],
    Discriminator(_form),
]
_Limit = Annotated[
    Annotated[_Count, Tag("number")] | Annotated[dict[str, _Count], Tag("map")],
    Discriminator(_limit_form),
]
_TASKS = (
    "a number of tasks that divides the classes, or a list of lists of classes, such as "
    "[[0, 1], [2, 3, 4]]"
)


class SampledRecord(Record):
    """Settings by which every stream chooses its samples."""

    limit: _Limit | None = Field(None, description=_LIMIT)
    label_noise: float = Field(
        0.0, ge=0, lt=1, description="a share of training labels made wrong, 0 or more, under 1"
    )
    imbalance: float = Field(
        1.0,
        gt=0,
        le=1,
        description="training samples of the rarest class as a share of those of the most common "
        "one, above 0; 1 for as they are",
    )
    validation: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="a share of each class's training data that is not learnt but tested after "
        "every task, 0 or more, under 1",
    )


class SplitConfig(SampledRecord):
    """Tasks of some classes each."""

    kind: Literal["split"] = Field(description="split")
    source: SourceConfig = Field(description=SOURCE)
    tasks: _Tasks = Field(5, description=_TASKS)
    sizes: tuple[_Count, ...] | None = Field(
        None,
        min_length=1,
        strict=False,
        description="a list with the number of classes of each task, instead of tasks",
    )
    first: int | None = Field(
        None,
        ge=1,
        description="a number of classes of the first task; the others share the rest equally",
    )
    class_order: _Classes | None = Field(
        None, description="a list of all classes, in the order in which tasks take them, or null"
    )
    scenario: Scenario = Field(description="task, domain or class")
    shuffle_classes: bool = Field(False, description="true or false")
    visits: int = Field(1, ge=1, description="a whole number of visits to every task, at least 1")

    @property
    def task_count(self) -> int:
        """Number of tasks."""
        if self.sizes is not None:
            return len(self.sizes) * self.visits
        return (self.tasks if isinstance(self.tasks, int) else len(self.tasks)) * self.visits


class PermutedConfig(SampledRecord):
    """Tasks of all classes, each with its own order of pixels."""

    kind: Literal["permuted"] = Field(description="permuted")
    source: SourceConfig = Field(description=SOURCE)
    tasks: int = Field(10, ge=1, description="a whole number of tasks, at least 1")
    scenario: Scenario = Field(description="task or domain")
    first_identity: bool = Field(True, description="true or false")
    visits: int = Field(1, ge=1, description="a whole number of visits to every task, at least 1")

    @property
    def task_count(self) -> int:
        """Number of tasks."""
        return self.tasks * self.visits


class RotatedConfig(SampledRecord):
    """Tasks of all classes, each with its own rotation of the images."""

    kind: Literal["rotated"] = Field(description="rotated")
    source: SourceConfig = Field(description=SOURCE)
    tasks: int = Field(5, ge=1, description="a whole number of tasks, at least 1")
    scenario: Scenario = Field(description="task or domain")
    degrees: float = Field(
        90.0, description="the rotation of the last task, in degrees; the first one has none"
    )
    visits: int = Field(1, ge=1, description="a whole number of visits to every task, at least 1")

    @property
    def task_count(self) -> int:
        """Number of tasks."""
        return self.tasks * self.visits


class OrderedConfig(SampledRecord):
    """Tasks of all classes, each a period of a source whose samples are in order of time."""

    kind: Literal["ordered"] = Field(description="ordered")
    source: SourceConfig = Field(description=SOURCE)
    tasks: int = Field(10, ge=1, description="a whole number of periods, at least 1")
    scenario: Scenario = Field(description="task or domain")
    visits: int = Field(1, ge=1, description="a whole number of visits to every task, at least 1")

    @property
    def task_count(self) -> int:
        """Number of tasks."""
        return self.tasks * self.visits


class SourcesConfig(SampledRecord):
    """Tasks of all classes of one source each."""

    kind: Literal["sources"] = Field(description="sources")
    sources: tuple[SourceConfig, ...] = Field(
        min_length=1,
        strict=False,
        description="a list of sources, such as [digits, mnist5k]",
    )
    scenario: Scenario = Field(description="task, domain or class")

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        return len(self.sources)

    @property
    def task_count(self) -> int:
        """Number of tasks."""
        return len(self.sources)


class TaskFreeConfig(SampledRecord):
    """Batches of one task after another, without task boundaries."""

    kind: Literal["task_free"] = Field(description="task_free")
    source: SourceConfig = Field(description=SOURCE)
    of: Literal["split", "permuted", "ordered", "turning"] = Field(
        description="split, permuted, ordered (periods of time), or turning: gradually rotating "
        "images"
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

    @property
    def task_count(self) -> int:
        """Number of tasks."""
        return self.tasks


StreamConfig = (
    SplitConfig | PermutedConfig | RotatedConfig | OrderedConfig | SourcesConfig | TaskFreeConfig
)
