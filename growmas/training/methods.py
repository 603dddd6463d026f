"""What is done about earlier tasks: nothing, a penalty, or a network that grows and prunes."""

import torch
from torch import Tensor
from torch.optim import Optimizer

from growmas.config import FinetuneConfig, MASConfig, MethodConfig, PruneConfig
from growmas.data import Task, batches
from growmas.errors import RunError
from growmas.importance.batches import Forward
from growmas.manager import GrowPolicy, PrunePolicy, StructuralManager
from growmas.penalty import MAS
from growmas.structure import Structure

IMPORTANCE_BATCH = 256


class Method:
    """Learn each task with nothing done for the earlier ones: plain fine-tuning.

    Attributes:
        structure: The units of the network that learns.
        mas: Importance over tasks, None where the method has none.
    """

    def __init__(self, structure: Structure, mas: MAS | None = None) -> None:
        self.structure = structure
        self.mas = mas

    def begin_task(self, task: Task) -> None:
        """Called before a task is learnt."""
        self.structure.begin_task(task.name)

    def penalty_grad_(self) -> Tensor:
        """Add the gradient of λ Σ Ω (θ − θ*)², if there is one, to the task's; its value."""
        return self.mas.penalty_grad_() if self.mas else torch.zeros(())

    def end_task(self, task: Task) -> None:
        """Called after a task was learnt, with its training data at hand."""

    def predict(self, inputs: Tensor, task: Task | None) -> Tensor:
        """Labels [N] of samples: of `task`, or of nobody knows which where that is None."""
        logits: Tensor = self.structure.model(inputs, task.head if task else 0)
        return logits.argmax(1)


class FixedMAS(Method):
    """A network of fixed size under the MAS penalty."""

    def __init__(self, structure: Structure, mas: MAS) -> None:
        super().__init__(structure, mas)
        self._consolidate = mas.consolidate

    def end_task(self, task: Task) -> None:
        """Consolidate on the task's training inputs, through its own head."""
        self._consolidate(_inputs(task), forward=_through(task.head))


class Growmas(Method):
    """The MAS penalty on a network that grows and prunes itself; old tasks see their views."""

    def __init__(self, manager: StructuralManager) -> None:
        super().__init__(manager.structure, manager.mas)
        self._manager = manager

    def begin_task(self, task: Task) -> None:
        """Grow, unless it is the first task."""
        self._manager.begin_task(task.name)

    def end_task(self, task: Task) -> None:
        """Consolidate on the task's training inputs, through its own head, then prune."""
        self._manager.end_task(_inputs(task), forward=_through(task.head))

    def predict(self, inputs: Tensor, task: Task | None) -> Tensor:
        """Labels by the network as of the task: units born later are left out."""
        if task is None:
            raise RunError("views are of tasks: without the task they need a context")
        with self.structure.view(task.name):
            return super().predict(inputs, task)


def build_method(config: MethodConfig, structure: Structure, optimizer: Optimizer) -> Method:
    """The method a config describes.

    Args:
        config: The `method` of an experiment.
        structure: The units of the network.
        optimizer: Follows the network where it changes.
    """
    if isinstance(config, FinetuneConfig):
        return Method(structure)
    mas = MAS(structure.model, strength=config.strength, normalize=config.normalize)
    if isinstance(config, MASConfig):
        return FixedMAS(structure, mas)
    grow = GrowPolicy(config.grow.units) if config.grow else None
    prune = _prune_policy(config.prune) if config.prune else None
    manager = StructuralManager(structure, mas=mas, optimizer=optimizer, grow=grow, prune=prune)
    return Growmas(manager)


def _prune_policy(config: PruneConfig) -> PrunePolicy:
    return PrunePolicy(config.ratio, grace=config.grace, reconstruct=config.reconstruct)


def _inputs(task: Task) -> list[Tensor]:
    return [inputs for inputs, _ in batches(task.train, IMPORTANCE_BATCH)]


def _through(head: int) -> Forward:
    return lambda model, inputs: model(inputs, head)
