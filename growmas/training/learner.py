"""Task-aware learner: learns one task after another, with known boundaries."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from growmas.config import TrainingConfig
from growmas.data import Split, Task, batches
from growmas.data.transforms import Transform, thinned
from growmas.distributed import add_gradients, all_sum, average_norms, own_rows, own_share, size
from growmas.errors import RunError
from growmas.runs.observer import EpochDone
from growmas.training.execution import Execution
from growmas.training.methods import Method
from growmas.training.methods.contract import checked_labels, checked_loss

EVALUATION_BATCH = 1024


@dataclass
class LessonProgress:
    """Position in the lesson of a task.

    Attributes:
        task: Index of the task.
        epoch: Number of the pass, from 1.
        step: Steps done in this pass.
        sums: [2] float64, of loss × samples and of the penalty, over these steps.
        shuffled: State of the generator before it shuffled this pass; None before it did.
    """

    task: int
    epoch: int = 1
    step: int = 0
    sums: torch.Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.float64))
    shuffled: torch.Tensor | None = None

    def next_epoch(self) -> None:
        """Go to the beginning of the next pass."""
        self.epoch, self.step, self.shuffled = self.epoch + 1, 0, None
        self.sums = torch.zeros(2, dtype=torch.float64)


class TaskAwareLearner:
    """Learns tasks one after another; its method predicts.

    Attributes:
        method: Of learning; it holds the network.
        optimizer: One optimizer for all tasks.
        steps: Training steps done so far.
        seconds: Wall time spent learning so far: training, importance and surgery.
        cpu_seconds: CPU time of the process during `seconds`, over all threads.
        after_step: Called after every step, when the state can be saved; not counted in `seconds`.
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
        transforms: Sequence[Transform] = (),
    ) -> None:
        """Put the parts together.

        Args:
            method: Of learning.
            optimizer: Over the parameters of the method's network.
            training: Epochs, batch size, precision and the like.
            generator: CPU generator that shuffles the training data and drops inputs.
            device: Of the network.
            task_known: The method is given the task of each test sample.
            transforms: Random changes of training images.
        """
        self.method = method
        self.optimizer = optimizer
        self.steps = 0
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.after_step: Callable[[], None] = _nothing
        self._training = training
        self._generator = generator
        self._device = device
        self._task_known = task_known
        self._transforms = tuple(transforms)
        compiled = method.structure if training.compile else None
        self._execution = Execution(training.precision, device, compiled=compiled)
        self._progress: LessonProgress | None = None
        self._schedule: LRScheduler | None = None
        self._saved_schedule: Mapping[str, Any] | None = None
        self._mark = (0.0, 0.0)

    def learn(self, task: Task) -> Iterator[EpochDone]:
        """Learn `task`, or the rest of it after `load_state_dict`; yields after every epoch.

        Raises:
            RunError: The loss became NaN or infinite, or the task was learnt before.
        """
        with self._timed():
            if self._progress is None:
                if task.name in self.method.structure.tasks:
                    raise RunError(
                        f"task {task.name!r} was learnt before, and a method learns every task "
                        "once: give it a name of its own, or resume it in a loop of your own, with "
                        "StructuralManager.begin_task"
                    )
                self.method.begin_task(task)
            progress = self._progress = self._progress or LessonProgress(task.index)
            lesson = self.method.lesson(task)
            if lesson is not None:
                self._begin_schedule(lesson)
        while lesson is not None and progress.epoch <= self._training.epochs:
            with self._timed():
                done = self._epoch(task, lesson, progress)
                self.method.epoch_done(task, progress.epoch)
                progress.next_epoch()
            yield done
        with self._timed():
            self.method.end_task(task)
        self._progress = self._schedule = None

    @property
    def epoch(self) -> int | None:
        """Number of the pass over the data of the task, from 1; None between tasks."""
        return None if self._progress is None else self._progress.epoch

    def accuracy(self, task: Task) -> float:
        """Return the share of the task's test samples answered right."""
        model, right = self.method.structure.model, 0
        known = task if self._task_known else None
        mode = model.training
        model.eval()
        with torch.no_grad():
            for inputs, labels in own_share(batches(task.test, EVALUATION_BATCH)):
                inputs, labels = inputs.to(self._device), labels.to(self._device)
                found = checked_labels(self.method.predict(inputs, known), len(labels), self.method)
                right += int((found == labels).sum())
        model.train(mode)
        return all_sum(right) / len(task.test)

    def head_accuracy(self, task: Task, split: Split) -> float:
        """Return the share of samples that the head of a task answers right, the task known.

        Args:
            task: As the method learns it.
            split: Samples labelled as the task's training data.
        """
        model, right = self.method.structure.model, 0
        mode = model.training
        model.eval()
        with torch.no_grad():
            for inputs, labels in own_share(batches(split, EVALUATION_BATCH)):
                logits = model(inputs.to(self._device), task.head)
                right += int((logits.argmax(1).cpu() == labels).sum())
        model.train(mode)
        return all_sum(right) / len(split)

    @property
    def between_tasks(self) -> bool:
        """True before the first step of a task, and after its last."""
        return self._progress is None

    def state_dict(self) -> dict[str, Any]:
        """Return position, schedule, generator and times; the method has its own state."""
        progress = self._progress
        return {
            "progress": None if progress is None else dict(vars(progress)),
            "schedule": None if self._schedule is None else self._schedule.state_dict(),
            "generator": self._generator.get_state(),
            "steps": self.steps,
            "precision": self._execution.state_dict(),
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned; `learn` then continues the task."""
        progress = state["progress"]
        self._progress = None if progress is None else LessonProgress(**progress)
        self._saved_schedule = state["schedule"]
        self._generator.set_state(state["generator"])
        self.steps = int(state.get("steps", 0))
        self._execution.load_state_dict(state.get("precision", {}))
        self.seconds, self.cpu_seconds = float(state["seconds"]), float(state["cpu_seconds"])

    def _epoch(self, task: Task, lesson: Split, progress: LessonProgress) -> EpochDone:
        self.method.structure.model.train()
        for inputs, labels in self._rest(lesson, progress):
            inputs, labels = inputs.to(self._device), labels.to(self._device)
            mean, penalty, stepped = self._step(task, self._thinned(inputs), labels)
            if stepped:
                self.method.step_done(task)
            if self._schedule is not None and stepped:
                self._schedule.step()
            found = torch.stack([mean * len(labels), penalty.to(mean.device)])
            progress.sums = progress.sums.to(mean.device) + found  # read once an epoch
            progress.step += 1
            self.steps += 1
            self._count()
            self.after_step()
            self._start()
        losses, penalties = progress.sums.tolist()
        epoch = progress.epoch
        if not math.isfinite(losses + penalties):
            raise RunError(
                f"the loss became {losses + penalties} in epoch {epoch} of task {task.name!r}: "
                "lower training.learning_rate or method.strength"
            )
        mean_loss, mean_penalty = losses / len(lesson), penalties / progress.step
        return EpochDone(task.index, task.name, epoch, mean_loss, mean_penalty)

    def _step(
        self, task: Task, inputs: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, bool]:
        """Make a step on a batch, of which each process of a data-parallel run takes its rows.

        Returns:
            The mean loss of the whole batch, the penalty, and True if the optimizer stepped.
        """
        if size() == 1:
            with self._execution.forward():
                loss = checked_loss(self.method.loss(inputs, labels, task), self.method)
            step = self._execution.step(loss, self.optimizer, self.method.penalty_grad_)
            return loss.detach(), *step
        seen, known = own_rows((inputs, labels))
        weight = len(known) / len(labels)
        if not weight:  # fewer rows than processes: take part, and add nothing
            seen, known = inputs[:1], labels[:1]
        with self._execution.forward():
            loss = self.method.loss(seen, known, task) * weight
        totals: list[torch.Tensor] = []
        model = self.method.structure.model
        average_norms(model, weight)
        parameters = list(model.parameters())
        step = self._execution.step(
            loss,
            self.optimizer,
            self.method.penalty_grad_,
            combine=lambda: totals.append(add_gradients(parameters, loss.detach())),
        )
        return totals[0], *step

    def _rest(
        self, lesson: Split, progress: LessonProgress
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Return the batches of a pass that are left, in the order it was shuffled to."""
        now = self._generator.get_state()
        resumed = progress.shuffled is not None
        if progress.shuffled is not None:
            self._generator.set_state(progress.shuffled)
        progress.shuffled = now if progress.shuffled is None else progress.shuffled
        found = batches(
            lesson,
            self._training.batch_size,
            generator=self._generator,
            transforms=self._transforms,
            workers=self._training.workers,
        )
        if resumed:
            self._generator.set_state(now)
        return islice(found, progress.step, None)

    def _begin_schedule(self, lesson: Split) -> None:
        """Begin the schedule of the learning rate over the steps of a lesson, or continue it."""
        groups = self.optimizer.param_groups
        rates = [(group["lr"], group.get("initial_lr")) for group in groups]
        for group in groups:
            group["lr"] = group["initial_lr"] = self._training.learning_rate
        if self._training.schedule == "cosine":
            steps = self._training.epochs * math.ceil(len(lesson) / self._training.batch_size)
            self._schedule = CosineAnnealingLR(self.optimizer, steps)
            if self._saved_schedule is not None:
                self._schedule.load_state_dict(dict(self._saved_schedule))
                for group, (rate, first) in zip(groups, rates, strict=True):
                    group["lr"], group["initial_lr"] = rate, first
        self._saved_schedule = None

    def _thinned(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return inputs with a share of them set to zero, if the config asks for it."""
        share = self._training.input_dropout
        return thinned(inputs, share, self._generator) if share else inputs

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Add the time of the block to the time spent learning."""
        self._start()
        yield
        self._count()

    def _start(self) -> None:
        self._mark = time.perf_counter(), time.process_time()

    def _count(self) -> None:
        wall, cpu = self._mark
        self.seconds += time.perf_counter() - wall
        self.cpu_seconds += time.process_time() - cpu


def _nothing() -> None:
    """Do nothing."""
