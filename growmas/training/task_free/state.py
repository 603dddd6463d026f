"""All of a task-free learner as tensors and JSON values."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from growmas.errors import ShiftError

if TYPE_CHECKING:
    from growmas.training.task_free.learner import TaskFreeLearner


def learner_state(learner: "TaskFreeLearner") -> dict[str, Any]:
    """Everything there is."""
    generator = learner.structure.generator
    return {
        "model": dict(learner.structure.model.state_dict()),
        "structure": learner.structure.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "mas": learner.mas.state_dict(),
        "before": learner._before.state_dict(),
        "manager": learner.manager.state_dict(),
        "detector": learner.detector.state_dict(),
        "context": learner.context.state_dict(),
        "recent": learner._recent.state_dict(),
        "rewind": learner._rewind.state_dict(),
        "generator": None if generator is None else generator.get_state(),
        "step": learner.step,
        "current": learner._current,
        "settled": learner._settled,
        "levels": list(learner._levels),
    }


def restore_learner(learner: "TaskFreeLearner", state: Mapping[str, Any]) -> None:
    """Take over all of it, into a learner with a network at its first widths.

    Raises:
        ShiftError: Something is missing.
        GrowmasError: Whatever a part refuses.
    """
    missing = sorted(learner_state(learner).keys() - state.keys())
    if missing:
        raise ShiftError(f"the state of the learner lacks {', '.join(missing)}")
    structure, optimizer = learner.structure, learner.optimizer
    replaced = structure.load_state_dict(state["structure"])
    structure.model.load_state_dict(state["model"])
    for group in optimizer.param_groups:
        group["params"] = [replaced.get(p, p) for p in group["params"]]
    optimizer.load_state_dict(state["optimizer"])
    learner.mas.load_state_dict(state["mas"])
    learner._before.load_state_dict(state["before"])
    learner.manager = learner._new_manager()
    learner.manager.load_state_dict(state["manager"])
    learner.detector.load_state_dict(state["detector"])
    learner.context.load_state_dict(state["context"])
    learner._recent.load_state_dict(state["recent"])
    learner._rewind.load_state_dict(state["rewind"])
    if state["generator"] is not None and structure.generator is not None:
        structure.generator.set_state(state["generator"])
    learner.step, learner._current = int(state["step"]), int(state["current"])
    learner._settled = bool(state["settled"])
    learner._levels = list(state["levels"])
