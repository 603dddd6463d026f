"""Contexts that ask the views: the surest one is taken to be right. For comparison.

Networks are sure of much that they never saw: on split MNIST these name the right view for half of
the samples or less, on permuted MNIST for two thirds (entropy) or four fifths (energy), where a
Gaussian of the inputs names it for 94 and 100% (experiments/contexts).
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
    """Scores every task by the logits of its own view; nothing is learnt from the inputs."""

    def __init__(self) -> None:
        self._tasks: list[TaskKey] = []

    @property
    def tasks(self) -> tuple[TaskKey, ...]:
        """The T tasks seen, in the order of their first `update`."""
        return tuple(self._tasks)

    def update(self, task: TaskKey, inputs: Any = None, labels: Tensor | None = None) -> None:
        """Note that the task exists.

        Raises:
            ContextError: It is no name and no index.
        """
        check_task(task)
        if task not in self._tasks:
            self._tasks.append(task)

    def scores(self, inputs: Any, answers: Answers | None = None) -> Tensor:
        """Confidence of every view, normalised over tasks, [N, T].

        Their order means something, their size does not: nothing for `combine_views`.

        Raises:
            ContextError: No task was seen yet, or there are no answers to look at.
        """
        check_tasks(self)
        if answers is None:
            raise ContextError(
                f"{type(self).__name__} looks at what the views answer: give answers=, position "
                "of a task -> logits [N, C], or ask through answer_by_context"
            )
        each = [self.confidence(answers(position)) for position in range(len(self._tasks))]
        return torch.stack(each, 1).log_softmax(1)

    @abstractmethod
    def confidence(self, logits: Tensor) -> Tensor:
        """[N, C] -> [N], higher for the surer."""

    def state_dict(self) -> dict[str, Any]:
        """The tasks."""
        return {"kind": type(self).__name__, "tasks": list(self._tasks)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave.

        Raises:
            ContextError: It is the state of a context of another kind.
        """
        check_kind(self, state, ["tasks"])
        self._tasks = list(state["tasks"])


class EntropyContext(ConfidenceContext):
    """The view whose answer has the least entropy, as a share of the most its head could have."""

    def confidence(self, logits: Tensor) -> Tensor:
        """−H / log C with H = −Σ p log p: 0 for a sure answer, −1 for all classes alike.

        Raises:
            ContextError: A head has a single output, of which there is no entropy.
        """
        if logits.shape[1] < 2:
            raise ContextError(
                "EntropyContext needs heads of at least 2 outputs, got 1: use EnergyContext"
            )
        log_p = logits.log_softmax(1)
        entropy: Tensor = torch.special.entr(log_p.exp()).sum(1)
        return entropy / -math.log(logits.shape[1])


class EnergyContext(ConfidenceContext):
    """The view whose answer has the least energy (Liu et al., NeurIPS 2020, eq. 4, T = 1)."""

    def confidence(self, logits: Tensor) -> Tensor:
        """The negative energy, log Σ exp(logits)."""
        return logits.logsumexp(1)
