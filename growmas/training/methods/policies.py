"""From a config to the policies of the manager."""

from growmas.config import (
    BudgetConfig,
    GrowByGainConfig,
    GrowByNeedConfig,
    GrowBySaturationConfig,
    GrowConfig,
    GrowKind,
    GrowShareConfig,
    PruneBelowConfig,
    PruneConfig,
    PruneKind,
)
from growmas.manager import (
    Budget,
    GrowByGain,
    GrowByNeed,
    GrowBySaturation,
    GrowPolicy,
    OvergrowSelect,
    Policy,
    PruneBelow,
    PrunePolicy,
    PruneWithin,
    ReplaceDead,
)


def grow_policies(config: GrowKind | None, *, replace_dead: bool) -> list[Policy]:
    """The policies that add units, in the order in which they are to be asked."""
    first: list[Policy] = [ReplaceDead()] if replace_dead else []
    return first if config is None else [*first, _grow_policy(config)]


def prune_policy(config: PruneKind) -> Policy:
    """The policy that removes units."""
    if isinstance(config, PruneConfig):
        return PrunePolicy(config.ratio, grace=config.grace, reconstruct=config.reconstruct)
    if isinstance(config, PruneBelowConfig):
        return PruneBelow(config.threshold, grace=config.grace, reconstruct=config.reconstruct)
    return PruneWithin(
        config.bound, most=config.most, grace=config.grace, reconstruct=config.reconstruct
    )


def build_budget(config: BudgetConfig) -> Budget:
    """The limits of growth."""
    return Budget(parameters=config.parameters, flops=config.flops, units=config.units)


def _grow_policy(config: GrowKind) -> Policy:
    if isinstance(config, GrowConfig):
        return GrowPolicy(config.units)
    if isinstance(config, GrowShareConfig):
        return GrowPolicy(fraction=config.share)
    if isinstance(config, GrowBySaturationConfig):
        return GrowBySaturation(config.threshold, most=config.most)
    if isinstance(config, GrowByNeedConfig):
        return GrowByNeed(slack=config.slack, step=config.step, most=config.most)
    if isinstance(config, GrowByGainConfig):
        return GrowByGain(config.threshold, most=config.most)
    return OvergrowSelect(config.keep, factor=config.factor)
