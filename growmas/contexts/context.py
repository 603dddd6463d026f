"""Contexts: objects that name the task of inputs that come without one."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from torch import Tensor

from growmas.errors import ContextError

TaskKey = str | int
"""Name or index of a task, as `Structure.view` takes it."""

Answers = Callable[[int], Tensor]
"""Position of a task in `tasks` -> logits [N, C] of its view for the same N inputs."""

UNKNOWN = -1
"""Stands in place of a task: the input is unlike all that were learnt."""


def check_other(context: object, other: object, kind: type) -> None:
    """Refuse to merge a context with one that is not of a kind, or with itself.

    Raises:
        ContextError: It is one of these.
    """
    if not isinstance(other, kind):
        raise ContextError(f"expected a {kind.__name__}, got {type(other).__name__}")
    if other is context:
        raise ContextError(
            "the other context is this one itself, whose samples would count twice: merge the "
            "context of another shard, or copy.deepcopy(context) if they are meant to"
        )


class Context(Protocol):
    """Name the task of inputs that come without one. N samples, T tasks.

    To write your own, inherit from this class: it provides `select`. Only `save` and `load` need
    the two methods for checkpoints.
    """

    @property
    def tasks(self) -> tuple[TaskKey, ...]:
        """The T tasks seen, in the order of their first `update`."""
        ...

    def update(self, task: TaskKey, inputs: Any, labels: Tensor | None = None) -> None:
        """Learn from a batch of a task, while the task is learnt or right after, in one pass."""
        ...

    def scores(self, inputs: Any, answers: Answers | None = None) -> Tensor:
        """Return the log-probability of every task, [N, T].

        Args:
            inputs: N samples.
            answers: The answers of the view of each task. A context that uses only the inputs
                does not call it, and then no view is run.
        """
        ...

    def select(
        self, inputs: Any, answers: Answers | None = None, *, together: bool = False
    ) -> Tensor:
        """Return the likeliest task of each sample, int64 [N]: positions in `tasks`, or `UNKNOWN`.

        Of tasks with equal scores, the one that was seen first is taken.

        Args:
            inputs: N samples.
            answers: The answers of the view of each task, see `scores`.
            together: All samples come from one task: their log-probabilities are added, and all
                get the same answer.
        """
        return likeliest(self.scores(inputs, answers), together=together)

    def state_dict(self) -> dict[str, Any]:
        """Return everything learnt, as tensors and JSON values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state that `state_dict` returned."""
        ...

    def __repr__(self) -> str:
        return f"{type(self).__name__}({_counted(len(self.tasks))})"


def likeliest(scores: Tensor, *, together: bool) -> Tensor:
    """Return the position of the highest score in each row of [N, T], or of the highest sum.

    Of equal scores the first position is taken.
    """
    if not together:
        return scores.argmax(1)
    return scores.sum(0).argmax().repeat(len(scores))


def check_is_context(context: object) -> None:
    """Refuse an object that is not a context.

    Raises:
        ContextError: Names the type given.
    """
    needed = ("tasks", "scores", "select")
    if isinstance(context, type) or not all(hasattr(context, name) for name in needed):
        given = repr(context) if isinstance(context, type) else type(context).__name__
        raise ContextError(
            f"context: expected a context such as GaussianContext(), with {', '.join(needed)}; "
            f"got {given:.80}"
        )


def check_tasks(context: Context) -> None:
    """Refuse to ask a context that has not seen any task.

    Raises:
        ContextError: No task was seen yet.
    """
    if not context.tasks:
        raise ContextError(
            f"this {type(context).__name__} has seen no task yet: call update(task, inputs) first"
        )


def check_task(task: object) -> None:
    """Refuse a value that does not name a task.

    Raises:
        ContextError: It is neither a name nor an index.
    """
    if type(task) not in (str, int):
        raise ContextError(
            f"task {task!r:.80}: expected the name of a task (str) or its index (int)"
        )


def check_kind(context: Context, state: Mapping[str, Any], parts: Collection[str]) -> None:
    """Refuse the state of another kind of context, or an incomplete one.

    Raises:
        ContextError: Names both kinds, or the parts that are missing.
    """
    if not isinstance(state, Mapping):
        raise ContextError(
            f"expected a dict that state_dict() returned, got {type(state).__name__}"
        )
    if state.get("kind") != type(context).__name__:
        raise ContextError(
            f"the state is of kind {state.get('kind')}, not {type(context).__name__}: load it "
            "into a context of the same class"
        )
    missing = [part for part in parts if part not in state]
    if missing:
        raise ContextError(f"the state of the context lacks {', '.join(missing)}")


def _counted(tasks: int) -> str:
    return f"{tasks} task{'' if tasks == 1 else 's'}"
