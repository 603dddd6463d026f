"""Base class of methods, which by itself is plain fine-tuning."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from growmas.batches import Forward
from growmas.contexts import Context
from growmas.data import Split, Task, batches
from growmas.errors import ConfigError
from growmas.manager import StructuralManager
from growmas.penalty import MAS
from growmas.structure import Structure
from growmas.training.methods.own_state import load_own_state, numbers_in, own_state

IMPORTANCE_BATCH = 256


class Method:
    """Learns each task without protecting earlier ones: plain fine-tuning.

    A learner asks it for the samples of a lesson, for the loss of each batch, and at the end for
    labels. N samples.

    A subclass is a method of its own; a config names it by ``{kind: python, target: "mine:ER"}``.
    For every task the learner calls `begin_task`, `lesson`, then for each batch `loss`,
    ``loss.backward()``, `penalty_grad_`, the optimizer's step and `step_done`, after each epoch
    `epoch_done`, and `end_task`. `predict` answers test samples in eval mode, without gradients.
    The network is ``self.structure.model``; ``model(inputs, head)`` gives the logits of one head.
    Experience replay (Chaudhry et al., arXiv 1902.10486), which growmas also has as `ER`::

        class ER(growmas.Method):
            def __init__(self, structure, memory=500):
                super().__init__(structure)
                self.memory = growmas.Reservoir(memory)

            def loss(self, inputs, labels, task):
                old = self.memory.sample(len(labels))
                self.memory.add(inputs, labels, task)
                losses = [F.cross_entropy(self.structure.model(x, h), y) for x, y, h in old]
                return super().loss(inputs, labels, task) + sum(losses)

    A constructor is called with the structure and the ``args`` of the config; one with a parameter
    ``stream`` or ``seed`` is given these too.

    Attributes:
        structure: The units of the network that learns.
        mas: Importance over tasks, None where the method has none.
        context: Infers the task of a sample; None where the method has none.
        manager: Grows and prunes the network; None where the method has none.
        SAVED: Names of the attributes that checkpoints hold beside these. Of a class outside
            growmas every attribute that can be held is, see `own_state`.
    """

    manager: StructuralManager | None = None
    SAVED: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, structure: Structure, mas: MAS | None = None, context: Context | None = None
    ) -> None:
        if not isinstance(structure, Structure):
            raise ConfigError(
                f"structure: expected a Structure, such as Structure(model, inputs), got a "
                f"{type(structure).__name__}"
            )
        self.structure = structure
        self.mas = mas
        self.context = context

    @property
    def parameters(self) -> int:
        """Number of parameters that were learnt by training."""
        return self.structure.parameters

    @property
    def numbers_kept(self) -> int:
        """Numbers kept between tasks, to answer and to learn on.

        They are the entries of the network's parameters and buffers, of what views keep of their
        own, of Ω and anchors, of the statistics of the context, and of everything else that a
        checkpoint of the method holds, such as stored samples, statistics of activations and masks
        of frozen entries. Masks (bool and uint8) count by their bits, of which 32 are one
        number. The state of the optimizer is not among them.
        """
        model = self.structure.model
        network = numbers_in([*model.parameters(), *model.buffers()]) if self.parameters else 0
        penalty = 0 if self.mas is None else numbers_in([self.mas.omega, self.mas.anchor])
        context: int = getattr(self.context, "size", 0)
        manager = {} if self.manager is None else self.manager.state_dict()
        views = self.structure.kept_for_views
        return network + views + penalty + context + numbers_in([manager, own_state(self)])

    def begin_task(self, task: Task) -> None:
        """Prepare for a task, before it is learnt."""
        self.structure.begin_task(task.name)

    def lesson(self, task: Task) -> Split | None:
        """Return the samples to learn for `task`; None if there is nothing to train."""
        return task.train

    def loss(self, inputs: Tensor, labels: Tensor, task: Task) -> Tensor:
        """Return the mean loss of a batch of the lesson, a scalar."""
        return F.cross_entropy(self.structure.model(inputs, task.head), labels)

    def penalty_grad_(self) -> Tensor:
        """Add the gradient of λ Σ Ω (θ − θ*)² to the task's, and return the penalty's value."""
        return self.mas.penalty_grad_() if self.mas else torch.zeros(())

    def step_done(self, task: Task) -> None:
        """Act after a step of the optimizer; gradients are still those of the step."""

    def epoch_done(self, task: Task, epoch: int) -> None:
        """Act after a pass over the lesson, counted from 1."""

    def end_task(self, task: Task) -> None:
        """Finish a task that was learnt, with its training data."""

    def state_dict(self) -> dict[str, Any]:
        """Return penalty, context and manager as tensors and JSON values; None for absent ones."""
        held = {
            name: None if part is None else part.state_dict() for name, part in self._parts.items()
        }
        return {**held, "own": own_state(self)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, once the structure has been restored.

        Raises:
            GrowmasError: Something does not fit.
        """
        for name, part in self._parts.items():
            if part is not None:
                part.load_state_dict(state[name])
        load_own_state(self, state.get("own", {}))

    @property
    def _parts(self) -> dict[str, MAS | Context | StructuralManager | None]:
        return {"mas": self.mas, "context": self.context, "manager": self.manager}

    def predict(self, inputs: Tensor, task: Task | None) -> Tensor:
        """Predict labels [N] for samples of `task`; None where the task is unknown."""
        logits: Tensor = self.structure.model(inputs, task.head if task else 0)
        return logits.argmax(1)


def inputs_of(task: Task) -> list[Tensor]:
    """Return the training inputs of a task in batches."""
    return [inputs for inputs, _ in batches(task.train, IMPORTANCE_BATCH)]


def through(head: int) -> Forward:
    """Return the forward function of one head."""
    return lambda model, inputs: model(inputs, head)
