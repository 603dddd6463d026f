"""The memory of a task-free learner: recent batches, earlier states, and each context's loss."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from growmas.penalty import MAS
from growmas.training.task_free.recent import Recent, Rewind


@dataclass
class StreamMemory:
    """State of a task-free learner between batches, apart from network and penalty.

    Attributes:
        before: The penalty as it was before the current context was consolidated.
        recent: The last batches.
        rewind: Earlier states of the network.
        step: Number of batches learnt.
        current: Position of the context that is being learnt; -1 before the first batch.
        settled: True once the importance of the current context was consolidated.
        levels: The usual loss of each context.
    """

    before: MAS
    recent: Recent
    rewind: Rewind
    step: int = 0
    current: int = -1
    settled: bool = False
    levels: list[float] = field(default_factory=list)

    def enter(self, context: int, *, settled: bool) -> None:
        """Make a context the current one."""
        self.current, self.settled = context, settled

    def state_dict(self) -> dict[str, Any]:
        """Return everything as tensors and JSON values."""
        return {
            "before": self.before.state_dict(),
            "recent": self.recent.state_dict(),
            "rewind": self.rewind.state_dict(),
            "step": self.step,
            "current": self.current,
            "settled": self.settled,
            "levels": list(self.levels),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned; other keys are ignored."""
        self.before.load_state_dict(state["before"])
        self.recent.load_state_dict(state["recent"])
        self.rewind.load_state_dict(state["rewind"])
        self.step, self.current = int(state["step"]), int(state["current"])
        self.settled = bool(state["settled"])
        self.levels = list(state["levels"])
