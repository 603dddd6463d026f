"""Guards of optimizers: hooks around every step, until they are ended."""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from growmas.errors import PenaltyError


class Guards:
    """Optimizers whose steps are guarded, each once. A copy guards none."""

    def __init__(self) -> None:
        """Guard no optimizer yet."""
        self._hooks: WeakKeyDictionary[Optimizer, tuple[RemovableHandle, ...]]
        self._hooks = WeakKeyDictionary()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Return how to make a copy: without guards, as its optimizer is another one."""
        return type(self), ()

    def add(
        self,
        optimizer: Optimizer,
        *,
        before: Callable[[], object] | None = None,
        after: Callable[[], object],
        remedy: str,
    ) -> Callable[[], None]:
        """Call functions around every step of an optimizer; once if it is guarded already.

        Args:
            optimizer: Any torch optimizer.
            before: Called before each step.
            after: Called after each step.
            remedy: What to do where `optimizer` is something else.

        Returns:
            A function that ends the guard.

        Raises:
            PenaltyError: `optimizer` is not a torch optimizer.
        """
        if not isinstance(optimizer, Optimizer):
            raise PenaltyError(
                f"guard expects a torch optimizer, got {type(optimizer).__name__}: {remedy}"
            )
        if optimizer not in self._hooks:
            hooks = [optimizer.register_step_post_hook(_calling(after))]
            if before is not None:
                hooks.append(optimizer.register_step_pre_hook(_calling(before)))
            self._hooks[optimizer] = tuple(hooks)

        def stop() -> None:
            for handle in self._hooks.pop(optimizer, ()):
                handle.remove()

        return stop


def _calling(function: Callable[[], object]) -> Callable[..., None]:
    """Return a hook that calls a function; its result would replace the step's arguments."""

    def hook(*_: Any) -> None:
        function()

    return hook
