"""PackNet: several tasks in one network, each in weights that earlier ones left free."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from growmas.data import Task
from growmas.errors import ConfigError, RunError
from growmas.structure import Structure
from growmas.training.methods.method import Method
from growmas.training.methods.settings import between, check_settings, whole
from growmas.training.methods.update_mask import (
    HEADS,
    UpdateMask,
    keep_statistics,
    other_heads,
)

MOST = 255
"""Tasks that the owner of a weight can name."""


class PackNet(Method):
    """Learn with free weights, prune the smallest of them, and freeze the rest for the task.

    Mallya and Lazebnik, "PackNet: Adding Multiple Tasks to a Single Network by Iterative Pruning",
    CVPR 2018, §3. While a task is learnt, weights of earlier tasks take part and do not change.
    Then in each layer the share `prune` of the weights that were free, those nearest to zero, is
    set to zero and is free for later tasks; the others are trained for the rest of the epochs and
    belong to the task. A task is answered with its own and earlier weights alone, to the bit as
    when it was learnt.

    Weights of Linear and convolutional layers below the heads are packed. Biases, norms and all
    other parameters are trained in the first task and frozen then, and so are running statistics
    of BatchNorm, as in the paper.

    Differs from the paper: the network starts as it is, not from a pretrained dense one; the
    network of the first task is pruned like those of later ones; a task has a head of its own,
    which is not pruned.

    Args:
        structure: The network, with a head for each task.
        prune: Share of the free weights of a layer that each task leaves free, between 0 and 1.
        epochs: Passes over a task.
        after: Passes before pruning; None for two thirds of `epochs`.

    Attributes:
        owners: Parameter name -> uint8, 0 for free weights, else the number of the task, from 1.

    Raises:
        ConfigError: No layer below the heads has weights to pack.
    """

    SAVED = ("owners", "_pruned", "_numbers")

    def __init__(
        self,
        structure: Structure,
        *,
        prune: float = 0.5,
        epochs: int = 1,
        after: int | None = None,
    ) -> None:
        check_settings(
            prune=between(prune, 0, 1),
            epochs=whole(epochs, least=1),
            after=whole(after, least=1, none=True),
        )
        super().__init__(structure)
        self._share = prune
        self._after = after or max(1, round(epochs * 2 / 3))
        self.owners = {
            name: torch.zeros_like(weight, dtype=torch.uint8)
            for name, weight in packed_weights(structure.model)
        }
        if not self.owners:
            raise ConfigError(
                "packnet packs weights of Linear and convolutional layers below the heads, and "
                "this network has none that are trained: give it a hidden layer"
            )
        self._updates = UpdateMask(structure.model)
        self._pruned = 0  # number of the last task whose weights were pruned
        self._numbers = torch.zeros(0, dtype=torch.long)  # head -> number of its last task

    def begin_task(self, task: Task) -> None:
        """Let the free weights move."""
        if task.index >= MOST:
            raise RunError(f"packnet numbers at most {MOST} tasks: this is task {task.index + 1}")
        super().begin_task(task)
        numbers = torch.zeros(max(len(self._numbers), task.head + 1), dtype=torch.long)
        numbers[: len(self._numbers)] = self._numbers
        numbers[task.head] = task.index + 1
        self._numbers = numbers

    def loss(self, inputs: Tensor, labels: Tensor, task: Task) -> Tensor:
        """Return the cross entropy of the batch, by the weights of all tasks so far."""
        if task.index:
            keep_statistics(self.structure.model)
        if not self._updates.factors:
            self._updates.factors = self._movable(task)
        return super().loss(inputs, labels, task)

    def penalty_grad_(self) -> Tensor:
        """Note the parameters before the step, and return 0."""
        self._updates.before_step()
        return super().penalty_grad_()

    def step_done(self, task: Task) -> None:
        """Set back what may not move."""
        self._updates.after_step()

    def epoch_done(self, task: Task, epoch: int) -> None:
        """Prune after the pass for it."""
        if epoch == self._after:
            self._prune(task)

    def end_task(self, task: Task) -> None:
        """Prune, unless that was done."""
        if self._pruned <= task.index:
            self._prune(task)
        self._updates.factors = {}

    def predict(self, inputs: Tensor, task: Task | None) -> Tensor:
        """Predict labels by the weights of the task and of earlier ones.

        Raises:
            RunError: The task is unknown.
        """
        if task is None:
            raise RunError(
                "packnet answers by the weights of a task, and the task is unknown: learn a stream "
                "of scenario task, or use another method"
            )
        head = task.head
        number = int(self._numbers[head]) if head < len(self._numbers) else 0
        weights = {}
        if 0 < number <= self._pruned:
            for name, weight in packed_weights(self.structure.model):
                owner = self.owners[name].to(weight.device)
                weights[name] = torch.where((owner > 0) & (owner <= number), weight, 0.0)
        logits: Tensor = functional_call(self.structure.model, weights, (inputs, head))
        return logits.argmax(1)

    @torch.no_grad()
    def _prune(self, task: Task) -> None:
        """Free the smallest weights of each layer, and give the others to the task."""
        for name, weight in packed_weights(self.structure.model):
            owner = self.owners[name].to(weight.device)
            sizes = weight.abs().masked_fill(owner > 0, torch.inf).flatten()
            free = int((owner == 0).sum())
            left = sizes.argsort(stable=True)[: int(self._share * free)]
            mine = owner == 0
            mine.view(-1)[left] = False
            self.owners[name] = owner.masked_fill(mine, task.index + 1)
            weight.masked_fill_(self.owners[name] == 0, 0.0)
        self._pruned = task.index + 1
        self._updates.factors = {}

    def _movable(self, task: Task) -> dict[str, Tensor]:
        """Return which entries of each parameter may move now."""
        number = task.index + 1
        movable = number if self._pruned >= number else 0
        found = other_heads(self.structure.model, task.head)
        for name, parameter in self.structure.model.named_parameters():
            if name in self.owners:
                found[name] = self.owners[name].to(parameter.device) == movable
            elif task.index and not name.startswith(HEADS):
                found[name] = torch.zeros_like(parameter, dtype=torch.bool)
        return found


def packed_weights(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Return the trained weights of Linear and convolutional layers below the heads, by name."""
    return [
        (f"{name}.weight", module.weight)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)
        and not name.startswith(HEADS)
        and module.weight.requires_grad
    ]
