"""The method of this package: a penalty, and a network that grows and prunes itself."""

import itertools
import logging
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from growmas.data import Stream, Task, batches
from growmas.manager import AutoProtection, OvergrowSelect, StructuralManager
from growmas.structure.initialisation.initialisation import Init
from growmas.training.methods.method import IMPORTANCE_BATCH, inputs_of, through
from growmas.training.methods.viewed import Answering, Viewed
from growmas.training.protection_trial import ProtectionTrial
from growmas.training.trial import Trials

_log = logging.getLogger("growmas")

MEASURED_BATCHES = 4
"""Batches on which policies measure the new task."""


class Growmas(Viewed):
    """The MAS penalty on a network that grows and prunes itself; views answer old tasks."""

    manager: StructuralManager
    SAVED: ClassVar[tuple[str, ...]] = ("protection",)

    def __init__(
        self,
        manager: StructuralManager,
        *,
        stream: Stream,
        answering: Answering,
        trials: Trials | None = None,
        select: tuple[OvergrowSelect, int] | None = None,
        init: Init = "zero_out",
        protection: ProtectionTrial | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            manager: Structure, penalty and policies.
            stream: See `Viewed`, also for `answering`.
            answering: The context, and how it and the views answer together.
            trials: Short training runs on a copy, for `GrowByNeed`.
            select: The policy that chooses among overgrown units, and after how many epochs.
            init: How fresh units start, see `Structure.apply`.
            protection: Tries how to protect earlier tasks, where the manager's protection is an
                `AutoProtection`.
        """
        super().__init__(manager.structure, manager.mas, stream=stream, answering=answering)
        self.manager = manager
        self._trials = trials
        self._select = select
        self._init = init
        self.protection = protection

    def begin_task(self, task: Task) -> None:
        """Grow, unless it is the first task; choose the protection when it is the second."""
        few = list(itertools.islice(batches(task.train, IMPORTANCE_BATCH), MEASURED_BATCHES))

        def loss(model: nn.Module, batch: Any) -> Tensor:
            place = next(model.parameters()).device
            return F.cross_entropy(model(batch[0].to(place), task.head), batch[1].to(place))

        self.manager.begin_task(
            task.name,
            few,
            forward=lambda model, batch: model(batch[0], task.head),
            loss=loss,
            trial=self._trials.on_task(task, loss) if self._trials else None,
            init=self._init,
        )
        protect = self.manager.protect
        if task.index == 1 and isinstance(protect, AutoProtection) and self.protection:
            first = self.structure.tasks[0]
            found = self.protection.choose(self, task, (first, self._heads[first]), protect)
            _log.info("%s", found)

    def step_done(self, task: Task) -> None:
        """Replace units of low utility, where the manager does."""
        self.manager.replace_low()

    def epoch_done(self, task: Task, epoch: int) -> None:
        """Choose among overgrown units after the epoch for it."""
        if self._select and self._select[1] == epoch and task.index:
            policy, _ = self._select
            self.manager.step(inputs_of(task), forward=through(task.head), only=policy)

    def end_task(self, task: Task) -> None:
        """Consolidate on the task's training inputs, through its own head, then prune."""
        super().end_task(task)
        if task.index == 0 and self.protection:
            self.protection.keep(task)
        self.manager.end_task(inputs_of(task), forward=through(task.head))
