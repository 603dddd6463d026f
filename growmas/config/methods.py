"""Methods of learning: the records of ``method`` and of its parts."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from growmas.config.baselines import TASK_FREE_BASELINES, BaselineConfig
from growmas.config.contexts import ContextKind
from growmas.config.record import Record
from growmas.config.replacement import (
    ReplaceConfig,
)

_NORMALIZE = "mean, max, or null"
_STRENGTH = "a number that is 0 or more"
_RECONSTRUCT = "true or false"
_GRACE = "a number of tasks for which a new unit is never removed, 0 or more"
_LIMIT = "a whole number, at least 1, or null for no limit"


def _kind_of(default: str) -> Callable[[object], object]:
    """Return a validator that gives a mapping without a kind the default one."""

    def filled(value: object) -> object:
        return {"kind": default, **value} if type(value) is dict else value

    return filled


class GrowConfig(Record):
    """The same number of fresh units in every layer when a task begins."""

    kind: Literal["fixed"] = Field("fixed", description="fixed")
    units: int = Field(ge=1, description="at least 1 unit for each layer and task")


class GrowShareConfig(Record):
    """A share of every layer's width when a task begins."""

    kind: Literal["share"] = Field(description="share")
    share: float = Field(gt=0, description="a share of a layer's width, above 0")


class GrowBySaturationConfig(Record):
    """Growth of the layers whose importance is spread over all of their weights."""

    kind: Literal["saturation"] = Field(description="saturation")
    threshold: float = Field(0.3, gt=0, lt=1, description="a saturation between 0 and 1")
    most: int = Field(64, ge=1, description="the most units of a layer at once, at least 1")


class GrowByNeedConfig(Record):
    """Units until a short trial on the new task reaches the loss of earlier tasks."""

    kind: Literal["need"] = Field(description="need")
    slack: float = Field(1.0, gt=0, description="a factor on the loss to reach, above 0")
    step: int = Field(8, ge=1, description="the fewest units of a layer at once, at least 1")
    most: int = Field(64, ge=1, description="the most units of a layer at once, at least 1")
    trial: int = Field(20, ge=1, description="a whole number of steps of the trial, at least 1")


class GrowByGainConfig(Record):
    """Units whose first gradient on the new task promises enough."""

    kind: Literal["gain"] = Field(description="gain")
    threshold: float = Field(0.25, gt=0, description="in gains of a mean living unit, above 0")
    most: int = Field(64, ge=1, description="the most units over all layers, at least 1")


class OvergrowConfig(Record):
    """More units than wanted when a task begins; the best are kept after some epochs."""

    kind: Literal["overgrow"] = Field(description="overgrow")
    keep: int = Field(ge=1, description="at least 1 unit for each layer and task that stays")
    factor: float = Field(
        3.0, ge=1, le=100, description="a factor on the units to begin with, 1 to 100"
    )
    after: int = Field(
        2, ge=1, description="a number of epochs after which the best stay, at least 1"
    )


class PruneConfig(Record):
    """Removal of the least important share of every layer when a task ends."""

    kind: Literal["ratio"] = Field("ratio", description="ratio")
    ratio: float = Field(ge=0, lt=1, description="the share of units to remove, 0 or more, under 1")
    round_to: int = Field(1, ge=1, description="the multiple of channels that stays, at least 1")
    grace: int = Field(1, ge=0, description=_GRACE)
    reconstruct: bool = Field(True, description=_RECONSTRUCT)


class PruneBelowConfig(Record):
    """Removal of units less important than a share of their layer's mean."""

    kind: Literal["below"] = Field(description="below")
    threshold: float = Field(gt=0, le=1, description="a share of a layer's mean, above 0, up to 1")
    grace: int = Field(1, ge=0, description=_GRACE)
    reconstruct: bool = Field(True, description=_RECONSTRUCT)


class PruneWithinConfig(Record):
    """Removal of as many units as a measured change of the output allows."""

    kind: Literal["within"] = Field(description="within")
    bound: float = Field(ge=0, description="the largest relative change of the output, 0 or more")
    most: float = Field(0.5, gt=0, lt=1, description="the largest share of a layer at once")
    grace: int = Field(1, ge=0, description=_GRACE)
    reconstruct: bool = Field(True, description=_RECONSTRUCT)


class PruneRedundantConfig(Record):
    """Removal of the share of every layer that the layers that read it miss least."""

    kind: Literal["redundancy"] = Field(description="redundancy")
    ratio: float = Field(ge=0, lt=1, description="the share of units to remove, 0 or more, under 1")
    weight: float = Field(0.0, ge=0, description="how much importance counts beside, 0 or more")
    guard: float = Field(
        0.0, ge=0, lt=1, description="the share of importance whose units stay, 0 or more, under 1"
    )
    round_to: int = Field(1, ge=1, description="the multiple of channels that stays, at least 1")
    grace: int = Field(1, ge=0, description=_GRACE)
    reconstruct: bool = Field(True, description=_RECONSTRUCT)


class BudgetConfig(Record):
    """Limits that growth never exceeds."""

    parameters: int | None = Field(None, ge=1, description=_LIMIT)
    flops: int | None = Field(None, ge=1, description=_LIMIT)
    units: int | None = Field(None, ge=1, description=_LIMIT)


GrowKind = (
    GrowConfig
    | GrowShareConfig
    | GrowBySaturationConfig
    | GrowByNeedConfig
    | GrowByGainConfig
    | OvergrowConfig
)
PruneKind = PruneConfig | PruneBelowConfig | PruneWithinConfig | PruneRedundantConfig

_Grow = Annotated[GrowKind | None, BeforeValidator(_kind_of("fixed"))]
_Prune = Annotated[PruneKind | None, BeforeValidator(_kind_of("ratio"))]
_CONTEXT = "a mapping such as {kind: gaussian, per: task}, or null"


_DETECTOR = "relative or paper"
_WINDOW = "a whole number of steps, at least 2, or null for the detector's own"
_STEPS = "a whole number of gradient steps on each batch, at least 1"


class TaskFreeGrowthConfig(Record):
    """Settings of a growing network on a stream of kind task_free."""

    detector: Literal["relative", "paper"] = Field("relative", description=_DETECTOR)
    window: int | None = Field(None, ge=2, description=_WINDOW)
    contexts: int = Field(
        16,
        ge=1,
        le=10_000,
        description="a largest number of contexts, 1 to 10,000; each has a head",
    )
    steps: int = Field(1, ge=1, description=_STEPS)
    recent: int = Field(16, ge=15, description="a number of recent batches to keep, at least 15")


class TaskFreePenaltyConfig(Record):
    """Settings of a network of fixed size on a stream of kind task_free: task-free MAS."""

    detector: Literal["relative", "paper"] = Field("paper", description=_DETECTOR)
    window: int | None = Field(None, ge=2, description=_WINDOW)
    buffer: int = Field(30, ge=0, description="a number of hard samples to keep, 0 or more")
    steps: int = Field(5, ge=1, description=_STEPS)
    recent: int = Field(
        0, ge=0, description="a number of recent batches to measure importance on, 0 for the buffer"
    )
    function: Literal["norm", "squared_norm"] = Field("norm", description="norm or squared_norm")


_TASK_FREE = "a mapping such as {detector: relative}, or null"


class FinetuneConfig(Record):
    """Plain fine-tuning: earlier tasks are not protected."""

    kind: Literal["finetune"] = Field(description="finetune")


class MASConfig(Record):
    """A network of fixed size under the MAS penalty."""

    kind: Literal["mas"] = Field(description="mas")
    strength: float = Field(1.0, ge=0, description=_STRENGTH)
    normalize: Literal["mean", "max"] | None = Field(None, description=_NORMALIZE)
    importance: Literal["mas", "fisher", "hebbian"] = Field(
        "mas",
        description="mas, fisher (squared gradients of the loss with labels, as in EWC), or "
        "hebbian (l-MAS, without a backward pass)",
    )
    task_free: TaskFreePenaltyConfig | None = Field(None, description=_TASK_FREE)


class GrowmasConfig(Record):
    """The MAS penalty on a network that grows and prunes itself; null leaves a part out."""

    kind: Literal["growmas"] = Field(description="growmas")
    strength: float = Field(1.0, ge=0, description=_STRENGTH)
    normalize: Literal["mean", "max"] | None = Field(None, description=_NORMALIZE)
    grow: _Grow = Field(
        None, discriminator="kind", description="a mapping such as {units: 16}, or null"
    )
    prune: _Prune = Field(
        None, discriminator="kind", description="a mapping such as {ratio: 0.05}, or null"
    )
    init: Literal["zero_out", "paired", "split"] = Field(
        "zero_out", description="zero_out, paired or split: the start of fresh units"
    )
    replace_dead: bool | Literal["recent"] = Field(
        False,
        description="true or false: of units no task used; or recent: of units that the data of "
        "the new task do not use and old tasks do not need",
    )
    replace: ReplaceConfig | None = Field(
        None, description="a mapping such as {threshold: 0.2}, or null"
    )
    budget: BudgetConfig | None = Field(
        None, description="a mapping such as {parameters: 300000}, or null"
    )
    protect: Annotated[float, Field(gt=0, le=1)] | Literal["old", "auto"] | None = Field(
        None,
        description="the share of old parameters to freeze, above 0, up to 1; old, to freeze all "
        "units of earlier tasks, without importance; auto, to try old and the penalty at a tenth, "
        "once and ten times the strength on a held-out part of the second task; or null",
    )
    norms: Literal["statistics", "affine"] | None = Field(
        "statistics",
        description="statistics or affine (also the weights) of norms, kept for each view, or null",
    )
    per_task: tuple[Literal["gains", "biases"], ...] = Field(
        (),
        strict=False,
        description="a list of gains, biases or both: those of all units, which each task has for "
        "itself",
    )
    context: ContextKind | None = Field(None, discriminator="kind", description=_CONTEXT)
    task_free: TaskFreeGrowthConfig | None = Field(None, description=_TASK_FREE)


class SeparateConfig(Record):
    """A separate network for each task; `model` gives the widths of each."""

    kind: Literal["separate"] = Field(description="separate")
    context: ContextKind | None = Field(None, discriminator="kind", description=_CONTEXT)


class JointConfig(Record):
    """All tasks learnt at once, as an upper bound for the others."""

    kind: Literal["joint"] = Field(description="joint")


class GaussianConfig(Record):
    """Gaussians of the classes answer; no network is trained."""

    kind: Literal["gaussian"] = Field(description="gaussian")
    features: Literal["inputs", "filters"] = Field(
        "inputs", description="inputs, or filters: random convolutions of images"
    )
    dimensions: int = Field(100, ge=1, description="a whole number of dimensions, at least 1")
    shrinkage: float = Field(0.1, ge=0, le=1, description="a number in 0 … 1")


class PythonMethodConfig(Record):
    """Method of one's own: a subclass of growmas.Method."""

    kind: Literal["python"] = Field(description="python")
    target: str = Field(
        pattern=r"^[\w.]+:[\w.]+$", description='a class "module:name", such as "mymethod:ER"'
    )
    args: dict[str, Any] = Field({}, description="a mapping of its keyword arguments")


MethodConfig = (
    FinetuneConfig
    | MASConfig
    | GrowmasConfig
    | SeparateConfig
    | JointConfig
    | GaussianConfig
    | BaselineConfig
    | PythonMethodConfig
)

ANSWER_BY_TASK = ("growmas", "separate")
"""Kinds of methods with an answer for each task; if the task is unknown, they need a context."""

TASK_FREE = ("growmas", "mas", "finetune", *TASK_FREE_BASELINES)
"""Kinds of methods that work without task boundaries."""
