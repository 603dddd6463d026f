"""Reports of a task-free learner, step by step."""

from dataclasses import dataclass
from typing import Literal

from growmas.shift import ShiftEvent

Action = Literal["settled", "known", "opened", "returned", "stayed", "full", "noticed"]


@dataclass(frozen=True)
class Shift:
    """An event of the loss, and what the learner did about it.

    Attributes:
        event: As the detector reported it.
        action: After a plateau, "settled": importance was consolidated and the network pruned;
            "known": nothing, the context had been settled before. After a peak, "opened": a new
            context; "returned": one seen before; "stayed": the current one still answers well, a
            false alarm; "full": there is no room for a new context, the likeliest one is learnt;
            "noticed": the learner has no contexts.
        context: Name of the context from now on; "" where there are none.
        reason: In words.
    """

    event: ShiftEvent
    action: Action
    context: str
    reason: str

    @property
    def deed(self) -> Action:
        """The action, by its former name."""
        return self.action


@dataclass(frozen=True)
class StepDone:
    """One batch was learnt.

    Attributes:
        step: From 0.
        loss: Of the first gradient step, before the update and without the penalty.
        context: Name of the context it was learnt in; "" where there are none.
        shift: What happened, if anything did.
        penalty: Mean over the gradient steps, before each update.
    """

    step: int
    loss: float
    context: str
    shift: Shift | None
    penalty: float = 0.0
