"""Contexts, and how they and the views answer together, built from a config."""

from growmas.config import (
    ContextKind,
    EntropyContextConfig,
    GaussianConfig,
    GaussianContextConfig,
)
from growmas.contexts import EnergyContext, EntropyContext, GaussianContext, RandomFilters
from growmas.contexts.gaussian import Per
from growmas.training.methods.viewed import Answering


def build_gaussian(
    config: GaussianConfig | GaussianContextConfig, per: Per, *, seed: int
) -> GaussianContext:
    """Build a context of Gaussians, one for each task or class; `seed` is of its projection."""
    extract = RandomFilters(seed=seed) if config.features == "filters" else None
    return GaussianContext(
        config.dimensions, per, shrinkage=config.shrinkage, seed=seed, extract=extract
    )


def build_answering(config: ContextKind | None, *, seed: int) -> Answering:
    """Build the context that a config describes, with the rule by which views answer."""
    if config is None:
        return Answering()
    if isinstance(config, GaussianContextConfig):
        context = build_gaussian(config, config.per, seed=seed)
        return Answering(context, config.combine or "tasks", config.temperature)
    return Answering(
        EntropyContext() if isinstance(config, EntropyContextConfig) else EnergyContext()
    )
