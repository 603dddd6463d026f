"""From a config to a method."""

from collections.abc import Sequence

from torch.optim import Optimizer

from growmas.config import (
    ContextKind,
    EntropyContextConfig,
    FinetuneConfig,
    GaussianConfig,
    GaussianContextConfig,
    GrowByNeedConfig,
    GrowmasConfig,
    JointConfig,
    MASConfig,
    MethodConfig,
    OvergrowConfig,
    SeparateConfig,
)
from growmas.contexts import (
    EnergyContext,
    EntropyContext,
    GaussianContext,
    RandomFilters,
)
from growmas.contexts.gaussian import Per
from growmas.data import Stream
from growmas.manager import OvergrowSelect, Policy, StructuralManager
from growmas.penalty import MAS, HardProtection
from growmas.structure import Structure
from growmas.training.methods.gaussian import GaussianClasses
from growmas.training.methods.growmas import Growmas
from growmas.training.methods.joint import Joint
from growmas.training.methods.mas import FixedMAS
from growmas.training.methods.method import Method
from growmas.training.methods.policies import build_budget, grow_policies, prune_policy
from growmas.training.methods.separate import Separate
from growmas.training.methods.trial import TrialRun
from growmas.training.methods.viewed import Answering


def build_method(
    config: MethodConfig,
    structure: Structure,
    *,
    optimizer: Optimizer,
    stream: Stream,
    batch_size: int = 128,
    seed: int = 0,
) -> Method:
    """The method a config describes.

    Args:
        config: The `method` of an experiment.
        structure: The units of the network.
        optimizer: Follows the network where it changes.
        stream: What it will learn; with a head for each task where the method has answers for
            each, see `own_heads`.
        batch_size: Of trials on new tasks.
        seed: Of a context's random projection.
    """
    if isinstance(config, FinetuneConfig):
        return Method(structure)
    if isinstance(config, JointConfig):
        return Joint(structure, stream)
    if isinstance(config, GaussianConfig):
        return GaussianClasses(structure, _gaussian(config, "class", seed), stream)
    if isinstance(config, SeparateConfig):
        return Separate(structure, stream=stream, answering=_answering(config.context, seed))
    mas = MAS(structure.model, strength=config.strength, normalize=config.normalize)
    if isinstance(config, MASConfig):
        return FixedMAS(structure, mas, config.importance)
    grow = grow_policies(config.grow, replace_dead=config.replace_dead)
    manager = StructuralManager(
        structure,
        mas=mas,
        optimizer=optimizer,
        grow=grow,
        prune=prune_policy(config.prune) if config.prune else None,
        budget=build_budget(config.budget) if config.budget else None,
        protect=_protection(config, structure),
        norms=config.norms,
    )
    return Growmas(
        manager,
        stream=stream,
        answering=_answering(config.context, seed),
        trial=_trial(config, optimizer, batch_size),
        select=_selection(config, grow),
    )


def _protection(config: GrowmasConfig, structure: Structure) -> HardProtection | None:
    if config.protect is None:
        return None
    return HardProtection(structure.model, fraction=config.protect)


def _trial(config: GrowmasConfig, optimizer: Optimizer, batch_size: int) -> TrialRun | None:
    if not isinstance(config.grow, GrowByNeedConfig):
        return None
    return TrialRun(optimizer, config.grow.trial, batch_size)


def _selection(
    config: GrowmasConfig, policies: Sequence[Policy]
) -> tuple[OvergrowSelect, int] | None:
    chosen = [policy for policy in policies if isinstance(policy, OvergrowSelect)]
    if not chosen or not isinstance(config.grow, OvergrowConfig):
        return None
    return chosen[0], config.grow.after


def _answering(config: ContextKind | None, seed: int) -> Answering:
    """The context, and how it and the views answer together."""
    if config is None:
        return Answering()
    if isinstance(config, GaussianContextConfig):
        context = _gaussian(config, config.per, seed)
        return Answering(context, config.combine or "tasks", config.temperature)
    return Answering(
        EntropyContext() if isinstance(config, EntropyContextConfig) else EnergyContext()
    )


def _gaussian(
    config: GaussianConfig | GaussianContextConfig, per: Per, seed: int
) -> GaussianContext:
    extract = RandomFilters(seed=seed) if config.features == "filters" else None
    return GaussianContext(
        config.dimensions, per, shrinkage=config.shrinkage, seed=seed, extract=extract
    )
