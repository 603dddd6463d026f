"""Extractors that settle on something before the first statistic: their state, and its checks."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from growmas.errors import ContextError


@runtime_checkable
class Freezing(Protocol):
    """An extractor with a state that statistics depend on, such as `RandomFilters`."""

    def state_dict(self) -> dict[str, Any]:
        """Return settings and what was frozen, as tensors and JSON values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, unless something else is frozen already.

        Raises:
            ContextError: Settings differ, or what is frozen does.
        """
        ...


def extract_state(extract: object) -> dict[str, Any] | None:
    """Return the state of an extractor that has one."""
    return extract.state_dict() if isinstance(extract, Freezing) else None


def adopt_extract(extract: object, state: Mapping[str, Any] | None, what: str) -> None:
    """Let an extractor take over the state of another one, or check that both are the same.

    Args:
        extract: Ours.
        state: `extract_state` of theirs.
        what: Whose it is, for the message.

    Raises:
        ContextError: The two make different features.
    """
    ours = isinstance(extract, Freezing)
    if ours != (state is not None):
        with_, without = ("this context", what) if ours else (what, "this context")
        raise ContextError(
            f"{with_} takes its features from filters of its own, and {without} does not: make "
            "both with the same extract="
        )
    if isinstance(extract, Freezing) and state is not None:
        try:
            extract.load_state_dict(state)
        except ContextError as error:
            raise ContextError(f"features of {what} differ: {error}") from error
