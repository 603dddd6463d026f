"""From a config to a task-free learner."""

from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from growmas.config import (
    Experiment,
    FinetuneConfig,
    GaussianContextConfig,
    GrowByNeedConfig,
    GrowmasConfig,
    MASConfig,
    TaskFreeGrowthConfig,
    TaskFreePenaltyConfig,
)
from growmas.contexts import GaussianContext, RandomFilters
from growmas.errors import RunError
from growmas.penalty import MAS
from growmas.shift import PlateauDetector
from growmas.structure import Structure
from growmas.training.methods.policies import build_budget, grow_policies, prune_policy
from growmas.training.task_free.fixed import TaskFreeMAS, norm
from growmas.training.task_free.learner import TaskFreeLearner
from growmas.training.task_free.trial import STEPS


def heads(experiment: Experiment) -> int:
    """How many heads the model needs: one for each context of a network that has some."""
    method = experiment.method
    if not isinstance(method, GrowmasConfig):
        return 1
    return (method.task_free or TaskFreeGrowthConfig.model_validate({})).contexts


def build_learner(
    experiment: Experiment,
    structure: Structure,
    optimizer: Optimizer,
    *,
    seed: int,
) -> TaskFreeLearner | TaskFreeMAS:
    """The learner a config describes.

    Args:
        experiment: Of a stream of kind task_free.
        structure: The units of the network.
        optimizer: Over its parameters.
        seed: Of the context's random projection.

    Raises:
        RunError: The method has to be told where tasks end.
    """
    method = experiment.method
    if isinstance(method, GrowmasConfig):
        return _growing(method, structure, optimizer, seed)
    if isinstance(method, FinetuneConfig):
        return TaskFreeMAS(structure.model, optimizer, strength=0.0, buffer=0, steps=1)
    if not isinstance(method, MASConfig):
        raise RunError(f"method {method.kind} has to be told where a task ends")
    settings = method.task_free or TaskFreePenaltyConfig.model_validate({})
    return TaskFreeMAS(
        structure.model,
        optimizer,
        strength=method.strength,
        buffer=settings.buffer,
        steps=settings.steps,
        detector=PlateauDetector(settings.window, settings.detector),
        function=norm if settings.function == "norm" else settings.function,
        normalize=method.normalize,
        recent=settings.recent,
    )


def _growing(
    method: GrowmasConfig,
    structure: Structure,
    optimizer: Optimizer,
    seed: int,
) -> TaskFreeLearner:
    settings = method.task_free or TaskFreeGrowthConfig.model_validate({})
    given = method.context
    if not isinstance(given, GaussianContextConfig):
        given = GaussianContextConfig.model_validate({"kind": "gaussian"})
    return TaskFreeLearner(
        structure,
        optimizer,
        mas=MAS(structure.model, strength=method.strength, normalize=method.normalize),
        grow=grow_policies(method.grow, replace_dead=method.replace_dead),
        prune=prune_policy(method.prune) if method.prune else None,
        budget=build_budget(method.budget) if method.budget else None,
        detector=PlateauDetector(settings.window, settings.detector),
        context=GaussianContext(
            given.dimensions,
            shrinkage=given.shrinkage,
            seed=seed,
            extract=RandomFilters(seed=seed) if given.features == "filters" else None,
        ),
        forward=_own_head,
        contexts=settings.contexts,
        steps=settings.steps,
        recent=settings.recent,
        norms=method.norms,
        trial=method.grow.trial if isinstance(method.grow, GrowByNeedConfig) else STEPS,
    )


def _own_head(model: nn.Module, inputs: Any, context: int) -> Tensor:
    logits: Tensor = model(inputs, context)
    return logits
