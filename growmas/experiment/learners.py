"""Learners, built from a config: task-aware ones and task-free ones."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from growmas.checkpoint.saving import load_model_state, model_state
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
from growmas.data import Stream
from growmas.errors import RunError
from growmas.experiment.baselines import Boundless, build_boundless
from growmas.experiment.blame import blame
from growmas.experiment.contexts import build_gaussian
from growmas.experiment.methods import build_method
from growmas.experiment.models import build_structure
from growmas.experiment.optimizers import build_optimizer
from growmas.experiment.policies import build_budget, grow_policies, prune_policy
from growmas.experiment.randomness import derived_seed, random_generator
from growmas.experiment.transforms import build_transforms
from growmas.penalty import MAS
from growmas.shift import PlateauDetector
from growmas.structure import Structure
from growmas.training.execution import Execution
from growmas.training.learner import TaskAwareLearner
from growmas.training.task_free.fixed import TaskFreeMAS, norm
from growmas.training.task_free.learner import TaskFreeLearner
from growmas.training.task_free.method import TaskFreeMethod
from growmas.training.trial import STEPS


def build_task_aware(
    experiment: Experiment,
    stream: Stream,
    *,
    task_known: bool,
    state: Mapping[str, Any] | None = None,
) -> TaskAwareLearner:
    """Build model, optimizer, method and learner of an experiment.

    Args:
        experiment: Of a stream with tasks.
        stream: The tasks as the method learns them, see `own_heads`.
        task_known: The method is given the task of each test sample.
        state: Of `task_aware_state`, to continue from.

    Raises:
        GrowmasError: The state does not fit.
    """
    structure = build_structure(experiment, stream)
    optimizer = build_optimizer(experiment.training, structure.model.parameters())
    if state is not None:
        load_model_state(state, structure, optimizer)
        if structure.generator is not None and state["growth"] is not None:
            structure.generator.set_state(state["growth"])
    with blame(experiment, "method"):
        method = build_method(
            experiment.method,
            structure,
            optimizer=optimizer,
            stream=stream,
            batch_size=experiment.training.batch_size,
            epochs=experiment.training.epochs,
            seed=derived_seed(experiment.seed, "context"),
            imports=experiment.imports,
        )
    learner = TaskAwareLearner(
        method,
        optimizer,
        experiment.training,
        generator=random_generator(experiment.seed, "shuffle"),
        device=experiment.device,
        task_known=task_known,
        transforms=build_transforms(experiment, stream),
    )
    if state is not None:
        method.load_state_dict(state)
        learner.load_state_dict(state["learner"])
    return learner


def task_aware_state(learner: TaskAwareLearner) -> dict[str, Any]:
    """Return everything that a task-aware run needs to continue, as tensors and JSON values."""
    structure = learner.method.structure
    generator = structure.generator
    return {
        **model_state(structure, learner.optimizer),
        **learner.method.state_dict(),
        "protect": None,
        "growth": None if generator is None else generator.get_state(),
        "learner": learner.state_dict(),
    }


def head_count(experiment: Experiment) -> int:
    """Return how many heads a task-free model needs: one for each context, else one."""
    method = experiment.method
    if not isinstance(method, GrowmasConfig):
        return 1
    return (method.task_free or TaskFreeGrowthConfig.model_validate({})).contexts


def build_task_free(
    experiment: Experiment,
    structure: Structure,
    optimizer: Optimizer,
    *,
    seed: int,
) -> TaskFreeLearner | TaskFreeMAS | TaskFreeMethod:
    """Build the learner of an experiment over a task-free stream.

    Args:
        experiment: Of a stream of kind task_free.
        structure: The units of the network.
        optimizer: Over its parameters.
        seed: Of the context's random projection, or of a memory.

    Raises:
        RunError: The method needs task boundaries.
    """
    method, training = experiment.method, experiment.training
    compiled = structure if training.compile else None
    execution = Execution(training.precision, experiment.device, compiled=compiled)
    if isinstance(method, GrowmasConfig):
        return _growing(method, structure, optimizer, seed, execution)
    if isinstance(method, FinetuneConfig):
        return TaskFreeMAS(
            structure.model, optimizer, strength=0.0, buffer=0, steps=1, execution=execution
        )
    if isinstance(method, Boundless):
        boundless = build_boundless(method, structure, optimizer, seed=seed)
        return TaskFreeMethod(boundless, optimizer, execution=execution)
    if not isinstance(method, MASConfig):
        raise RunError(f"method {method.kind} needs task boundaries: use another kind of stream")
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
        execution=execution,
    )


def _growing(
    method: GrowmasConfig,
    structure: Structure,
    optimizer: Optimizer,
    seed: int,
    execution: Execution,
) -> TaskFreeLearner:
    settings = method.task_free or TaskFreeGrowthConfig.model_validate({})
    given = method.context
    if not isinstance(given, GaussianContextConfig):
        given = GaussianContextConfig.model_validate({"kind": "gaussian"})
    return TaskFreeLearner(
        structure,
        optimizer,
        mas=MAS(structure.model, strength=method.strength, normalize=method.normalize),
        grow=grow_policies(method.grow, replace_dead=method.replace_dead, replace=method.replace),
        prune=prune_policy(method.prune),
        budget=build_budget(method.budget),
        detector=PlateauDetector(settings.window, settings.detector),
        context=build_gaussian(given, "task", seed=seed),
        forward=_own_head,
        contexts=settings.contexts,
        steps=settings.steps,
        recent=settings.recent,
        norms=method.norms,
        init=method.init,
        trial=method.grow.trial if isinstance(method.grow, GrowByNeedConfig) else STEPS,
        execution=execution,
    )


def _own_head(model: nn.Module, inputs: Any, context: int) -> Tensor:
    logits: Tensor = model(inputs, context)
    return logits
