"""Contexts by confidence: the view with the most confident answer is taken. For comparison.

Networks are confident on many inputs that they never saw. On split MNIST these contexts name the
right view for half of the samples or less, on permuted MNIST for two thirds (entropy) or four
fifths (energy); a Gaussian of the inputs names it for 94 and 100% (experiments/contexts).
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from growmas.contexts.context import Answers, Context, TaskKey, check_kind, check_task, check_tasks
from growmas.errors import ContextError


class ConfidenceContext(Context):
    """Score every task by the logits of its own view; nothing is learnt from the inputs."""

    def __init__(self) -> None:
        self._tasks: list[TaskKey] = []

    @property
    def tasks(self) -> tuple[TaskKey, ...]:
        """The T tasks seen, in the order of their first `update`."""
        return tuple(self._tasks)

    def update(self, task: TaskKey, inputs: Any = None, labels: Tensor | None = None) -> None:
        """Record that the task exists.

        Raises:
            ContextError: `task` is neither a name nor an index.
        """
        check_task(task)
        if task not in self._tasks:
            self._tasks.append(task)

    def scores(self, inputs: Any, answers: Answers | None = None) -> Tensor:
        """Return the confidence of every view, normalised over tasks, [N, T].

        Only their order has a meaning, not their size: `combine_views` cannot use them as weights.

        Raises:
            ContextError: No task was seen yet, or `answers` is missing.
        """
        check_tasks(self)
        if answers is None:
            raise ContextError(
                f"{type(self).__name__} needs the answers of the views: give answers=, a function "
                "position of a task -> logits [N, C] such as view_answers(structure, inputs), or "
                "use answer_by_context"
            )
        each = [self.confidence(answers(position)) for position in range(len(self._tasks))]
        return torch.stack(each, 1).log_softmax(1)

    @abstractmethod
    def confidence(self, logits: Tensor) -> Tensor:
        """Return the confidence of logits [N, C], [N]; higher means more confident."""

    def state_dict(self) -> dict[str, Any]:
        """Return the tasks seen."""
        return {"kind": type(self).__name__, "tasks": list(self._tasks)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state that `state_dict` returned.

        Raises:
            ContextError: The state is of another kind of context, or incomplete.
        """
        check_kind(self, state, ["tasks"])
        self._tasks = list(state["tasks"])


class EntropyContext(ConfidenceContext):
    """Takes the view whose answer has the least entropy, relative to the most its head can have."""

    def confidence(self, logits: Tensor) -> Tensor:
        """Return −H / log C with H = −Σ p log p: 0 for a certain answer, −1 for a uniform one.

        Raises:
            ContextError: A head has a single output, whose entropy is always 0.
        """
        if logits.shape[1] < 2:
            raise ContextError(
                "EntropyContext needs heads of at least 2 outputs, got 1: use EnergyContext"
            )
        log_p = logits.log_softmax(1)
        entropy: Tensor = torch.special.entr(log_p.exp()).sum(1)
        return entropy / -math.log(logits.shape[1])


class EnergyContext(ConfidenceContext):
    """Takes the view whose answer has the least energy (Liu et al., NeurIPS 2020, eq. 4, T = 1)."""

    def confidence(self, logits: Tensor) -> Tensor:
        """Return the negative energy, log Σ exp(logits)."""
        return logits.logsumexp(1)
