"""Published methods to compare with: the records of `method` for each, and their scenarios."""

from typing import Literal

from pydantic import Field

from growmas.config.record import Record
from growmas.config.replacement import (
    CBPConfig,
    CCBPConfig,
    LayerNormConfig,
    ReDoConfig,
    ShrinkPerturbConfig,
    UPGDConfig,
)

_STRENGTH = "a number that is 0 or more"
_MEMORY = "a whole number of stored samples, at least 1"
_REPLAYED = "a whole number of samples drawn for each batch, at least 1, or null: as many as it has"
_FISHER = (
    "model (expectation over the network's own answers, the Fisher information), label (of the "
    "data, the empirical one) or sample (one draw of the answers)"
)
_FEATURES = (
    "inputs, filters (random convolutions of images), or model (what the heads of the network, "
    "which is not trained, would read)"
)
_WHITEN = "analytic (keeps nothing of the data), patches or covariance (of the first images), none"


class EWCConfig(Record):
    """Elastic weight consolidation: a quadratic term for each earlier task."""

    kind: Literal["ewc"] = Field(description="ewc")
    strength: float = Field(100.0, ge=0, description=_STRENGTH)
    fisher: Literal["model", "label", "sample"] = Field("model", description=_FISHER)


class OnlineEWCConfig(Record):
    """Elastic weight consolidation with one running Fisher information that forgets."""

    kind: Literal["online_ewc"] = Field(description="online_ewc")
    strength: float = Field(100.0, ge=0, description=_STRENGTH)
    decay: float = Field(0.95, gt=0, le=1, description="a number above 0, up to 1")
    normalize: Literal["mean", "max"] | None = Field(None, description="mean, max, or null")
    fisher: Literal["model", "label", "sample"] = Field("model", description=_FISHER)


class SIConfig(Record):
    """Synaptic intelligence: parameters that lowered the loss of earlier tasks are held."""

    kind: Literal["si"] = Field(description="si")
    strength: float = Field(0.1, ge=0, description=_STRENGTH)
    damping: float = Field(0.1, gt=0, description="a number above 0")


class LwFConfig(Record):
    """Learning without forgetting: the network before the task teaches its old outputs."""

    kind: Literal["lwf"] = Field(description="lwf")
    strength: float = Field(1.0, ge=0, description=_STRENGTH)
    temperature: float = Field(2.0, gt=0, description="a number above 0")


class ERConfig(Record):
    """Experience replay: each batch is learnt together with stored samples."""

    kind: Literal["er"] = Field(description="er")
    memory: int = Field(500, ge=1, description=_MEMORY)
    replayed: int | None = Field(None, ge=1, description=_REPLAYED)


class DERppConfig(Record):
    """Dark experience replay: stored samples with their labels and the logits they had."""

    kind: Literal["derpp"] = Field(description="derpp")
    memory: int = Field(500, ge=1, description=_MEMORY)
    alpha: float = Field(0.2, ge=0, description="a weight of the logits that is 0 or more")
    beta: float = Field(0.5, ge=0, description="a weight of the labels that is 0 or more")
    replayed: int | None = Field(None, ge=1, description=_REPLAYED)


class PackNetConfig(Record):
    """Weights of each task, found by pruning, frozen for later ones."""

    kind: Literal["packnet"] = Field(description="packnet")
    prune: float = Field(
        0.5, gt=0, lt=1, description="a share of free weights to leave free, between 0 and 1"
    )
    after: int | None = Field(
        None,
        ge=1,
        description="a number of epochs before pruning, at least 1, or null for two thirds",
    )


class HATConfig(Record):
    """Hard attention: a learnt mask over the units for each task."""

    kind: Literal["hat"] = Field(description="hat")
    scale: float = Field(400.0, ge=1, description="the largest steepness of a gate, at least 1")
    sparsity: float = Field(0.75, ge=0, description="a weight of the units used, 0 or more")
    gate_rate: float = Field(0.05, gt=0, description="a learning rate of the gates, above 0")


class ICaRLConfig(Record):
    """Nearest mean of exemplars, on features trained with these and by distillation."""

    kind: Literal["icarl"] = Field(description="icarl")
    memory: int = Field(2000, ge=1, description=_MEMORY)


class _StatisticsConfig(Record):
    """Settings of the features of classifiers that are not trained."""

    features: Literal["inputs", "filters", "model"] = Field("inputs", description=_FEATURES)
    filters: int = Field(64, ge=1, description="a whole number of filters, at least 1")
    pool: int = Field(7, ge=1, description="side of a neighbourhood in pixels, at least 1")
    whiten: Literal["analytic", "patches", "covariance", "none"] = Field(
        "analytic", description=_WHITEN
    )


class SLDAConfig(_StatisticsConfig):
    """Streaming linear discriminant analysis: Gaussians of the classes with one covariance."""

    kind: Literal["slda"] = Field(description="slda")
    strength: float | None = Field(
        1e-4, gt=0, le=1, description="a shrinkage above 0, up to 1, or null for cross-validation"
    )


class RanPACConfig(_StatisticsConfig):
    """A ridge on random features."""

    kind: Literal["ranpac"] = Field(description="ranpac")
    projections: int = Field(
        2000, ge=2, description="a whole number of random features, at least 2"
    )
    strength: float | None = Field(
        None, gt=0, description="a number above 0, or null for cross-validation"
    )


FILTERED: dict[str, type[Record]] = {"slda": SLDAConfig, "ranpac": RanPACConfig}
"""Kinds of methods that take random filters, with settings of these."""


class L2InitConfig(Record):
    """Every parameter is pulled toward its initial value."""

    kind: Literal["l2_init"] = Field(description="l2_init")
    strength: float = Field(0.01, ge=0, description=_STRENGTH)


BaselineConfig = (
    EWCConfig
    | OnlineEWCConfig
    | SIConfig
    | LwFConfig
    | ERConfig
    | DERppConfig
    | PackNetConfig
    | HATConfig
    | ICaRLConfig
    | SLDAConfig
    | RanPACConfig
    | L2InitConfig
    | CBPConfig
    | CCBPConfig
    | LayerNormConfig
    | ReDoConfig
    | ShrinkPerturbConfig
    | UPGDConfig
)

SCENARIOS = {
    "packnet": (("task",), "a task has weights of its own, so it must be known"),
    "hat": (("task",), "a task has a mask of its own, so it must be known"),
    "icarl": (("class",), "it tells the classes of all tasks apart by exemplars"),
}
"""Kinds of methods that are for some scenarios alone -> these, and why."""

TASK_FREE_BASELINES = (
    *("er", "derpp", "l2_init", "cbp", "ccbp", "layernorm", "redo", "shrink_perturb", "upgd"),
)
"""Kinds of published methods that work without task boundaries."""
