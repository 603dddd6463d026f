"""Policies, budgets and protection of a manager, built from a config."""

from typing import Literal

from growmas.config import (
    BudgetConfig,
    GrowByGainConfig,
    GrowByNeedConfig,
    GrowBySaturationConfig,
    GrowConfig,
    GrowKind,
    GrowmasConfig,
    GrowShareConfig,
    PruneBelowConfig,
    PruneConfig,
    PruneKind,
    PruneRedundantConfig,
    ReplaceConfig,
)
from growmas.manager import (
    AutoProtection,
    BirthProtection,
    Budget,
    GrowByGain,
    GrowByNeed,
    GrowBySaturation,
    GrowPolicy,
    OvergrowSelect,
    Policy,
    PruneBelow,
    PruneByRedundancy,
    PrunePolicy,
    PruneWithin,
    ReplaceDead,
    ReplaceLowUtility,
)
from growmas.penalty import MAS, HardProtection
from growmas.structure import Structure

TRIED = (0.1, 1.0, 10.0)
"""Factors on the strength that `protect: auto` compares."""


def grow_policies(
    config: GrowKind | None,
    *,
    replace_dead: bool | Literal["recent"],
    replace: ReplaceConfig | None = None,
) -> list[Policy]:
    """Build the policies that add and replace units, in the order in which they are asked."""
    found: list[Policy] = [ReplaceDead(recent=replace_dead == "recent")] if replace_dead else []
    found += [] if config is None else [_grow_policy(config)]
    return found + ([] if replace is None else [ReplaceLowUtility(**replace.model_dump())])


def prune_policy(config: PruneKind | None) -> Policy | None:
    """Build the policy that removes units; None where the config has none."""
    if config is None:
        return None
    if isinstance(config, PruneConfig):
        return PrunePolicy(
            config.ratio,
            round_to=config.round_to,
            grace=config.grace,
            reconstruct=config.reconstruct,
        )
    if isinstance(config, PruneBelowConfig):
        return PruneBelow(config.threshold, grace=config.grace, reconstruct=config.reconstruct)
    if isinstance(config, PruneRedundantConfig):
        return PruneByRedundancy(
            config.ratio,
            weight=config.weight,
            guard=config.guard,
            round_to=config.round_to,
            grace=config.grace,
            reconstruct=config.reconstruct,
        )
    return PruneWithin(
        config.bound, most=config.most, grace=config.grace, reconstruct=config.reconstruct
    )


def build_budget(config: BudgetConfig | None) -> Budget | None:
    """Build the limits of growth; None where the config has none."""
    if config is None:
        return None
    return Budget(parameters=config.parameters, flops=config.flops, units=config.units)


def build_protection(
    config: GrowmasConfig, structure: Structure, mas: MAS
) -> HardProtection | BirthProtection | None:
    """Build what freezes parameters of earlier tasks; None where the config freezes none."""
    if config.protect is None:
        return None
    if config.protect == "old":
        return BirthProtection(structure)
    if config.protect == "auto":
        tried = [config.strength * factor for factor in TRIED]
        return AutoProtection(structure, mas, strengths=tried)
    return HardProtection(structure.model, fraction=config.protect)


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
