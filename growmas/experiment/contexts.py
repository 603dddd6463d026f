"""Contexts, and how they and the views answer together, built from a config."""

from torch import nn

from growmas.config import (
    ContextKind,
    EnergyContextConfig,
    EntropyContextConfig,
    GaussianConfig,
    GaussianContextConfig,
    RanPACConfig,
    RidgeContextConfig,
    SharedContextConfig,
    SLDAConfig,
)
from growmas.contexts import (
    EnergyContext,
    EntropyContext,
    GaussianContext,
    NetworkFeatures,
    RandomFilters,
    RidgeContext,
    SharedGaussianContext,
)
from growmas.contexts.gaussian import Per
from growmas.contexts.projection import Extract
from growmas.training.methods.viewed import Answering


def build_gaussian(
    config: GaussianConfig | GaussianContextConfig,
    per: Per,
    *,
    seed: int,
    model: nn.Module | None = None,
) -> GaussianContext:
    """Build a context of Gaussians, one for each task or class; `seed` is of its projection."""
    if isinstance(config, GaussianContextConfig):
        extract = build_extract(config, seed=seed, model=model)
    else:
        extract = RandomFilters(seed=seed) if config.features == "filters" else None
    return GaussianContext(
        config.dimensions, per, shrinkage=config.shrinkage, seed=seed, extract=extract
    )


def build_linear(
    config: RidgeContextConfig | SharedContextConfig, *, seed: int, model: nn.Module | None = None
) -> RidgeContext | SharedGaussianContext:
    """Build a context that scores classes by a linear function of features."""
    kind = RidgeContext if isinstance(config, RidgeContextConfig) else SharedGaussianContext
    return kind(
        config.per,
        extract=build_extract(config, seed=seed, model=model),
        strength=config.strength,
        temperature=config.temperature,
    )


def build_extract(
    config: GaussianContextConfig
    | RidgeContextConfig
    | SharedContextConfig
    | SLDAConfig
    | RanPACConfig,
    *,
    seed: int,
    model: nn.Module | None = None,
) -> Extract | None:
    """Build what makes the features of a context; None for the inputs as they are.

    Args:
        config: The context.
        seed: Of random filters.
        model: The network of the experiment, of which a copy is frozen at the first statistic.
    """
    if config.features == "model":
        if model is None:
            raise ValueError("features: model needs the model")
        return NetworkFeatures(model, into="heads.0", copy=True)
    if config.features == "filters":
        whiten = None if config.whiten == "none" else config.whiten
        return RandomFilters(config.filters, pool=config.pool, seed=seed, whiten=whiten)
    return None


def build_answering(
    config: ContextKind | None, *, seed: int, model: nn.Module | None = None
) -> Answering:
    """Build the context that a config describes, with the rule by which views answer."""
    if config is None:
        return Answering()
    if isinstance(config, EntropyContextConfig):
        return Answering(EntropyContext())
    if isinstance(config, EnergyContextConfig):
        return Answering(EnergyContext())
    if isinstance(config, GaussianContextConfig):
        gaussian = build_gaussian(config, config.per, seed=seed, model=model)
        combine = config.combine or "tasks"
        return Answering(gaussian, combine, config.temperature, config.weight)
    linear = build_linear(config, seed=seed, model=model)
    combine = config.combine or ("classes" if config.per == "class" else "tasks")
    return Answering(linear, combine, weight=config.weight)
