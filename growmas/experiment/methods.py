"""Methods of task-aware learning, built from a config."""

from collections.abc import Sequence

from torch.optim import Optimizer

from growmas.config import (
    FinetuneConfig,
    GaussianConfig,
    GrowByNeedConfig,
    GrowmasConfig,
    JointConfig,
    MASConfig,
    MethodConfig,
    OvergrowConfig,
    PythonMethodConfig,
    SeparateConfig,
)
from growmas.data import Stream
from growmas.distributed import DistributedManager, size
from growmas.experiment.baselines import BASELINES, Given, build_baseline
from growmas.experiment.contexts import build_answering, build_gaussian
from growmas.experiment.own_methods import build_own_method
from growmas.experiment.policies import (
    build_budget,
    build_protection,
    grow_policies,
    prune_policy,
)
from growmas.manager import OvergrowSelect, Policy, StructuralManager
from growmas.penalty import MAS
from growmas.structure import Structure
from growmas.training.methods import Method
from growmas.training.methods.classifier import GaussianClasses
from growmas.training.methods.growmas import Growmas
from growmas.training.methods.joint import Joint
from growmas.training.methods.mas import FixedMAS
from growmas.training.methods.separate import Separate
from growmas.training.protection_trial import ProtectionTrial
from growmas.training.trial import Trials


def build_method(
    config: MethodConfig,
    structure: Structure,
    *,
    optimizer: Optimizer,
    stream: Stream,
    batch_size: int = 128,
    epochs: int = 1,
    seed: int = 0,
    imports: Sequence[str] = (),
) -> Method:
    """Build the method a config describes.

    Args:
        config: The `method` of an experiment.
        structure: The units of the network.
        optimizer: Follows the network where it changes.
        stream: What it will learn; with a head for each task where the method has answers for
            each, see `own_heads`.
        batch_size: Of training, and of trials on new tasks.
        epochs: Of each task.
        seed: Of a context's random projection, of a memory, and of gates.
        imports: Folders in which modules of targets are found.

    Raises:
        ConfigError: A target cannot be imported, or is not a method.
    """
    if isinstance(config, PythonMethodConfig):
        return build_own_method(config, structure, stream=stream, seed=seed, imports=imports)
    if isinstance(config, FinetuneConfig):
        return Method(structure)
    if isinstance(config, BASELINES):
        given = Given(
            structure=structure,
            optimizer=optimizer,
            stream=stream,
            epochs=epochs,
            batch_size=batch_size,
            seed=seed,
        )
        return build_baseline(config, given)
    if isinstance(config, JointConfig):
        return Joint(structure, stream)
    if isinstance(config, GaussianConfig):
        return GaussianClasses(structure, build_gaussian(config, "class", seed=seed), stream)
    if isinstance(config, SeparateConfig):
        answering = build_answering(config.context, seed=seed)
        return Separate(structure, stream=stream, answering=answering)
    mas = MAS(structure.model, strength=config.strength, normalize=config.normalize)
    if isinstance(config, MASConfig):
        return FixedMAS(structure, mas, config.importance)
    grow = grow_policies(config.grow, replace_dead=config.replace_dead, replace=config.replace)
    kind = DistributedManager if size() > 1 else StructuralManager
    manager = kind(
        structure,
        mas=mas,
        optimizer=optimizer,
        grow=grow,
        prune=prune_policy(config.prune),
        budget=build_budget(config.budget),
        protect=build_protection(config, structure, mas),
        norms=config.norms,
        per_task=config.per_task,
    )
    return Growmas(
        manager,
        stream=stream,
        answering=build_answering(config.context, seed=seed, model=structure.model),
        trials=_trials(config, optimizer, batch_size),
        select=_selection(config, grow),
        init=config.init,
        protection=_protection(config, optimizer, batch_size, epochs),
    )


def _protection(
    config: GrowmasConfig, optimizer: Optimizer, batch_size: int, epochs: int
) -> ProtectionTrial | None:
    if config.protect != "auto":
        return None
    return ProtectionTrial(optimizer, batch_size=batch_size, epochs=epochs)


def _trials(config: GrowmasConfig, optimizer: Optimizer, batch_size: int) -> Trials | None:
    if not isinstance(config.grow, GrowByNeedConfig):
        return None
    return Trials(optimizer, steps=config.grow.trial, batch_size=batch_size)


def _selection(
    config: GrowmasConfig, policies: Sequence[Policy]
) -> tuple[OvergrowSelect, int] | None:
    chosen = [policy for policy in policies if isinstance(policy, OvergrowSelect)]
    if not chosen or not isinstance(config.grow, OvergrowConfig):
        return None
    return chosen[0], config.grow.after
