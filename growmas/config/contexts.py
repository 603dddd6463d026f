"""Records of `method.context`: what tells the task of an input, and how views answer with it."""

from typing import Literal

from pydantic import Field

from growmas.config.record import Record

_COMBINE = (
    "tasks to weigh all views by their tasks, classes to multiply them with the context's "
    "probabilities of the classes as well, or none to use the likeliest view"
)
_FEATURES = (
    "inputs, filters (random convolutions of images), or model (a copy of the network, frozen "
    "after the first task: what its heads read)"
)
_WHITEN = "analytic (keeps nothing of the data), patches or covariance (of the first images), none"


class GaussianContextConfig(Record):
    """Gaussians of the inputs tell tasks apart."""

    kind: Literal["gaussian"] = Field(description="gaussian")
    per: Literal["task", "class"] = Field("task", description="task or class")
    features: Literal["inputs", "filters", "model"] = Field("inputs", description=_FEATURES)
    filters: int = Field(32, ge=1, description="a whole number of filters, at least 1")
    pool: int = Field(4, ge=1, description="side of a neighbourhood in pixels, at least 1")
    whiten: Literal["analytic", "patches", "covariance", "none"] = Field(
        "none", description=_WHITEN
    )
    dimensions: int = Field(100, ge=1, description="a whole number of dimensions, at least 1")
    shrinkage: float = Field(0.1, ge=0, le=1, description="a number in 0 … 1")
    combine: Literal["none", "tasks", "classes"] | None = Field(
        None, description=f"{_COMBINE}; null is tasks, on a task-free stream none"
    )
    temperature: float = Field(
        1.0, gt=0, description="a number above 0; above 1 the classes' Gaussians have less weight"
    )
    weight: float = Field(
        1.0, gt=0, le=1, description="weight of the views with combine: classes, above 0, up to 1"
    )


class _LinearContextConfig(Record):
    """Settings of contexts that score classes by a linear function of features."""

    per: Literal["task", "class"] = Field("class", description="task or class")
    features: Literal["inputs", "filters", "model"] = Field("inputs", description=_FEATURES)
    filters: int = Field(64, ge=1, description="a whole number of filters, at least 1")
    pool: int = Field(7, ge=1, description="side of a neighbourhood in pixels, at least 1")
    whiten: Literal["analytic", "patches", "covariance", "none"] = Field(
        "analytic", description=_WHITEN
    )
    strength: float | None = Field(
        None, gt=0, description="a number above 0, or null for generalised cross-validation"
    )
    temperature: float | None = Field(
        None, gt=0, description="a number above 0, or null for the context's own"
    )
    combine: Literal["none", "tasks", "classes"] | None = Field(
        None, description=f"{_COMBINE}; null is classes if per is class, tasks otherwise"
    )
    weight: float = Field(
        0.2, gt=0, le=1, description="weight of the views with combine: classes, above 0, up to 1"
    )


class RidgeContextConfig(_LinearContextConfig):
    """A streaming ridge on features of the inputs tells classes or tasks apart."""

    kind: Literal["ridge"] = Field(description="ridge")


class SharedContextConfig(_LinearContextConfig):
    """Gaussians with one covariance tell classes or tasks apart."""

    kind: Literal["shared"] = Field(description="shared")


FILTERED: dict[str, type[Record]] = {
    "gaussian": GaussianContextConfig,
    "ridge": RidgeContextConfig,
    "shared": SharedContextConfig,
}
"""Kinds of contexts that take random filters."""


class EntropyContextConfig(Record):
    """The view whose answer has the least entropy is used."""

    kind: Literal["entropy"] = Field(description="entropy")


class EnergyContextConfig(Record):
    """The view whose answer has the least energy is used."""

    kind: Literal["energy"] = Field(description="energy")


ContextKind = (
    GaussianContextConfig
    | RidgeContextConfig
    | SharedContextConfig
    | EntropyContextConfig
    | EnergyContextConfig
)
