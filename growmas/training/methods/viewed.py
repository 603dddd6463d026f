"""Methods that answer each task by the network as of that task."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from growmas.contexts import (
    Answers,
    Context,
    GaussianContext,
    LinearContext,
    answer_by_view,
    combine_views,
    view_answers,
)
from growmas.data import Stream, Task, batches
from growmas.distributed import update_context
from growmas.errors import RunError
from growmas.penalty import MAS
from growmas.structure import Structure
from growmas.training.methods.method import IMPORTANCE_BATCH, Method


@dataclass(frozen=True)
class Answering:
    """Rule by which a context and the views answer together.

    Attributes:
        context: Infers the task of a sample.
        combine: "none" takes the view of the likeliest task; "tasks" weighs all views by how
            likely their tasks are; "classes" also multiplies them with the class
            probabilities of a context per class.
        temperature: Of these class probabilities, see `GaussianContext.class_answers`.
        weight: Of what the views say of the classes, beside these, see `combine_views`.
    """

    context: Context | None = None
    combine: Literal["none", "tasks", "classes"] = "none"
    temperature: float = 1.0
    weight: float = 1.0


class Viewed(Method):
    """Answers each task by the network as of the task, through a head of its own.

    Where the task is unknown, the context infers it: the view of the likeliest task answers, or
    all views do, each weighted by the probability of its task.
    """

    def __init__(
        self,
        structure: Structure,
        mas: MAS | None = None,
        *,
        stream: Stream,
        answering: Answering,
    ) -> None:
        """Put the parts together.

        Args:
            structure: The units of the network.
            mas: Importance over tasks.
            stream: Its tasks have a head each; `labels` gives the label of each output.
            answering: The context, and how it and the views answer together.
        """
        super().__init__(structure, mas, answering.context)
        self._heads = {task.name: task.head for task in stream.tasks}
        self._labels = stream.labels
        self._answering = answering

    def end_task(self, task: Task) -> None:
        """Update the context with the task's training data."""
        if self.context is not None:
            update_context(self.context, task.name, batches(task.train, IMPORTANCE_BATCH))

    def predict(self, inputs: Tensor, task: Task | None) -> Tensor:
        """Predict labels by the network as of the task: units born later are left out.

        Raises:
            RunError: The task is unknown, and there is no context.
        """
        if task is not None:
            with self.structure.view(task.name):
                logits: Tensor = self.structure.model(inputs, task.head)
            return self._with_expert(logits, inputs, task).argmax(1)
        if self.context is None:
            raise RunError(
                "the task is unknown, so a context must infer it: set method.context, such as "
                "{kind: gaussian, per: task}"
            )
        return self._unnamed(inputs, self.context).to(inputs.device)

    def _with_expert(self, logits: Tensor, inputs: Tensor, task: Task) -> Tensor:
        """Multiply a view's answer by the context's class probabilities, if it has any."""
        experts = self._experts(inputs)
        if experts is None or self.context is None:
            return logits
        of_classes = experts(self.context.tasks.index(task.name)).to(logits)
        return self._answering.weight * logits.log_softmax(1) + of_classes

    def _experts(self, inputs: Tensor) -> Answers | None:
        """Return the context's class probabilities for each task, if it is to give them."""
        how = self._answering
        if how.combine != "classes" or not isinstance(how.context, GaussianContext | LinearContext):
            return None
        if _lone(how.context):
            return None
        return how.context.class_answers(inputs, temperature=how.temperature)

    def _unnamed(self, inputs: Tensor, context: Context) -> Tensor:
        """Predict labels for samples whose task is unknown."""
        heads = [self._heads[str(task)] for task in context.tasks]
        labels = [self._labels[head] for head in heads]

        def forward(model: torch.nn.Module, rows: Tensor, position: int) -> Tensor:
            logits: Tensor = model(rows, heads[position])
            return logits

        tasks = context.tasks
        answers = view_answers(self.structure, inputs, tasks=tasks, forward=forward)
        if self._answering.combine != "none" and not _lone(context):
            scores, experts = context.scores(inputs, answers), self._experts(inputs)
            weight = 1.0 if experts is None else self._answering.weight
            return combine_views(
                scores, answers, classes=labels, experts=experts, weight=weight
            ).argmax(1)
        if _lone(context):
            chosen = torch.zeros(len(inputs), dtype=torch.long)
        else:
            chosen = context.select(inputs, answers)
        logits = answer_by_view(self.structure, chosen, inputs, tasks=tasks, forward=forward)
        return _looked_up(labels, chosen.to(logits.device), logits.argmax(1))


def _lone(context: Context) -> bool:
    """Return True if a context saw a single class or task, from which it tells nothing apart."""
    return isinstance(context, LinearContext) and len(context.components) == 1


def _looked_up(labels: list[tuple[int, ...]], tasks: Tensor, outputs: Tensor) -> Tensor:
    """Return the label of each sample's output of its task's head."""
    widest = max(map(len, labels))
    table = torch.tensor([[*numbers, *[0] * (widest - len(numbers))] for numbers in labels])
    return table.to(outputs.device)[tasks, outputs]
