"""Task-aware learner: learns one task after another, with known boundaries."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler

from growmas.config import TrainingConfig
from growmas.data import Split, Task, batches
from growmas.errors import RunError
from growmas.training.methods import Method

EVALUATION_BATCH = 1024


@dataclass(frozen=True)
class EpochDone:
    """Report of one pass over a task's training data.

    Attributes:
        index: Of the task.
        task: Its name.
        epoch: Number of the pass, from 1.
        loss: Mean task loss per sample over the epoch, penalty left out.
        penalty: Mean penalty per step over the epoch.
    """

    index: int
    task: str
    epoch: int
    loss: float
    penalty: float


class TaskAwareLearner:
    """Learns tasks one after another; its method predicts.

    Attributes:
        method: Of learning; it holds the network.
        optimizer: One optimizer for all tasks.
        seconds: Wall time spent learning so far: training, importance and surgery.
        cpu_seconds: CPU time of the process during `seconds`, over all threads.
    """

    def __init__(
        self,
        method: Method,
        optimizer: torch.optim.Optimizer,
        training: TrainingConfig,
        *,
        generator: torch.Generator,
        device: str = "cpu",
        task_known: bool = True,
    ) -> None:
        """Put the parts together.

        Args:
            method: Of learning.
            optimizer: Over the parameters of the method's network.
            training: Epochs and batch size.
            generator: CPU generator that shuffles the training data and drops inputs.
            device: Of the network.
            task_known: The method is given the task of each test sample.
        """
        self.method = method
        self.optimizer = optimizer
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self._training = training
        self._generator = generator
        self._device = device
        self._task_known = task_known

    def learn(self, task: Task) -> Iterator[EpochDone]:
        """Learn `task`; the iterator yields after every epoch.

        Raises:
            RunError: The loss became NaN or infinite.
        """
        with self._timed():
            self.method.begin_task(task)
            lesson = self.method.lesson(task)
            schedule = self._schedule(lesson) if lesson else None
        for epoch in range(1, self._training.epochs + 1):
            if lesson is None or schedule is None:
                break
            with self._timed():
                done = self._epoch(task, lesson, epoch, schedule)
                self.method.epoch_done(task, epoch)
            yield done
        with self._timed():
            self.method.end_task(task)

    def accuracy(self, task: Task) -> float:
        """Return the share of the task's test samples answered right."""
        model, right = self.method.structure.model, 0
        known = task if self._task_known else None
        mode = model.training
        model.eval()
        with torch.no_grad():
            for inputs, labels in self._batches(task.test, EVALUATION_BATCH):
                right += int((self.method.predict(inputs, known) == labels).sum())
        model.train(mode)
        return right / len(task.test)

    def _epoch(self, task: Task, lesson: Split, epoch: int, schedule: LRScheduler) -> EpochDone:
        self.method.structure.model.train()
        sums = torch.zeros(2, dtype=torch.float64)  # of loss and penalty, read once an epoch
        steps = 0
        for inputs, labels in self._batches(lesson, self._training.batch_size, shuffle=True):
            loss = self.method.loss(self._thinned(inputs), labels, task)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            penalty = self.method.penalty_grad_()
            self.optimizer.step()
            schedule.step()
            sums = sums.to(loss.device)
            sums += torch.stack([loss.detach() * len(labels), penalty.to(loss.device)])
            steps += 1
        losses, penalties = sums.tolist()
        if not math.isfinite(losses + penalties):
            raise RunError(
                f"the loss became {losses + penalties} in epoch {epoch} of task {task.name!r}: "
                "lower training.learning_rate or method.strength"
            )
        return EpochDone(task.index, task.name, epoch, losses / len(lesson), penalties / steps)

    def _schedule(self, lesson: Split) -> LRScheduler:
        """Begin the schedule of the learning rate over the steps of one lesson."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] = self._training.learning_rate
        if self._training.schedule == "constant":
            return ConstantLR(self.optimizer, factor=1.0)
        steps = self._training.epochs * math.ceil(len(lesson) / self._training.batch_size)
        return CosineAnnealingLR(self.optimizer, steps)

    def _thinned(self, inputs: torch.Tensor) -> torch.Tensor:
        """Drop inputs by the learner's own generator, which `F.dropout` cannot take."""
        share = self._training.input_dropout
        if not share:
            return inputs
        kept = torch.rand(inputs.shape, generator=self._generator) >= share
        return inputs * kept.to(inputs.device) / (1 - share)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Add the time of the block to the time spent learning."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - wall
        self.cpu_seconds += time.process_time() - cpu

    def _batches(
        self, split: Split, size: int, *, shuffle: bool = False
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for inputs, labels in batches(split, size, generator=self._generator if shuffle else None):
            yield inputs.to(self._device), labels.to(self._device)
