"""What a context is: something that says which task an input is like."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from torch import Tensor

from growmas.errors import ContextError

TaskKey = str | int
"""A task's name or index, as `Structure.view` takes it."""

Answers = Callable[[int], Tensor]
"""Position of a task in `tasks` -> the logits [N, C] of its view for the inputs at hand."""

UNKNOWN = -1
"""In place of a task: the input is like none that was learnt."""


class Context(Protocol):
    """Names the task of inputs that come without one. N samples, T tasks.

    Write one's own by inheriting: `select` comes for free, the two methods for checkpoints are
    needed by `save` and `load` alone.
    """

    @property
    def tasks(self) -> tuple[TaskKey, ...]:
        """The T tasks seen, in the order of their first `update`."""
        ...

    def update(self, task: TaskKey, inputs: Any, labels: Tensor | None = None) -> None:
        """Take in a batch of a task: while it is learnt or right after, in one pass."""
        ...

    def scores(self, inputs: Any, answers: Answers | None = None) -> Tensor:
        """Log-probability of every task, [N, T].

        Args:
            inputs: N samples.
            answers: What the view of each task answers; a context that looks at the inputs alone
                does not call it, and then no view is run.
        """
        ...

    def select(
        self, inputs: Any, answers: Answers | None = None, *, together: bool = False
    ) -> Tensor:
        """The likeliest task of each sample, int64 [N]: positions in `tasks`, or `UNKNOWN`.

        Args:
            inputs: N samples.
            answers: See `scores`.
            together: All samples come from one task: their log-probabilities are added, and all
                get the same answer.
        """
        return likeliest(self.scores(inputs, answers), together=together)

    def state_dict(self) -> dict[str, Any]:
        """What was learnt, as tensors and JSON values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        ...


def likeliest(scores: Tensor, *, together: bool) -> Tensor:
    """Position of the highest score in each row of [N, T], or of the highest sum for all rows."""
    if not together:
        return scores.argmax(1)
    return scores.sum(0).argmax().repeat(len(scores))


def check_tasks(context: Context) -> None:
    """Refuse to ask a context that has seen nothing.

    Raises:
        ContextError: No task was seen yet.
    """
    if not context.tasks:
        raise ContextError(
            f"this {type(context).__name__} has seen no task yet: call update(task, inputs) first"
        )


def check_task(task: object) -> None:
    """Refuse what names no task.

    Raises:
        ContextError: It is neither a name nor an index.
    """
    if type(task) not in (str, int):
        raise ContextError(f"task {task!r:.80}: expected its name, or its index")


def check_kind(context: Context, state: Mapping[str, Any], parts: Collection[str]) -> None:
    """Refuse the state of a context of another kind, or one that is not whole.

    Raises:
        ContextError: Names both kinds, or what is missing.
    """
    if not isinstance(state, Mapping):
        raise ContextError(f"expected what state_dict() gave, got {type(state).__name__}")
    if state.get("kind") != type(context).__name__:
        raise ContextError(
            f"the state is of a {state.get('kind')}, not of a {type(context).__name__}: load it "
            "into one of its own kind"
        )
    missing = [part for part in parts if part not in state]
    if missing:
        raise ContextError(f"the state of the context lacks {', '.join(missing)}")
