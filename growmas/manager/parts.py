"""The parts that a manager is made of: checks, and their state for a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any

from growmas.errors import DataError, PlanError
from growmas.history.tracker import TopologyTracker
from growmas.manager.budget import Budget
from growmas.manager.checks import check_parts
from growmas.manager.policy_sequence import Decide
from growmas.manager.progress import Progress
from growmas.penalty import MAS, HardProtection
from growmas.plasticity import Plasticity
from growmas.structure import ActivationStatistics, Structure


def check_manager_parts(
    structure: Structure,
    mas: MAS,
    budget: Budget | None,
    protect: HardProtection | None,
    tracker: TopologyTracker | None,
    decide: Decide | None,
    norms: object,
) -> None:
    """Refuse parts of the wrong type, and parts of different networks.

    Raises:
        PlanError: Names the part.
    """
    check_parts(
        {
            "structure": (structure, Structure),
            "mas": (mas, MAS),
            "budget": (budget, (Budget, NoneType)),
            "protect": (protect, (HardProtection, NoneType)),
            "tracker": (tracker, (TopologyTracker, NoneType)),
        }
    )
    if norms not in ("statistics", "affine", None):
        raise PlanError(f"norms={norms!r}: expected 'statistics', 'affine' or None")
    if not (decide is None or callable(decide)):
        raise PlanError(f"decide={decide!r:.80}: expected a function of a plan, or None")
    for name, part in (("mas", mas), ("protect", protect)):
        if part is not None and part.model is not structure.model:
            raise PlanError(
                f"{name} is of another network than the structure: make both with the same model"
            )


@dataclass(frozen=True, eq=False)
class ManagedParts:
    """The parts of a manager whose state a checkpoint holds.

    Attributes:
        progress: Tasks and steps.
        statistics: Activation statistics; None without reconstruction.
        protect: Hard protection, or None.
        plasticity: Replacement of units of low utility, or None.
    """

    progress: Progress
    statistics: ActivationStatistics | None
    protect: HardProtection | None
    plasticity: Plasticity | None


def managed_state(parts: ManagedParts) -> dict[str, Any]:
    """Return the state of the parts as tensors and JSON values; None for absent ones."""
    held = {
        name: None if part is None else part.state_dict()
        for name, part in (("statistics", parts.statistics), ("protect", parts.protect))
    }
    # a key of its own only where it is used, as in states of earlier versions
    used = {} if parts.plasticity is None else {"plasticity": parts.plasticity.state_dict()}
    return {**parts.progress.state_dict(), **held, **used}


def load_managed(parts: ManagedParts, state: Mapping[str, Any]) -> None:
    """Load a state that `managed_state` returned.

    Raises:
        DataError: Something is missing, or the statistics are of other layers or widths.
        PenaltyError: The frozen entries are of other parameters.
    """
    if (parts.protect is None) != (state.get("protect") is None):
        ours, theirs = ("without", "with") if parts.protect is None else ("with", "without")
        raise DataError(
            f"the manager was made {ours} hard protection and its state {theirs}: make it "
            "with the protect= with which it was saved"
        )
    if parts.plasticity is not None and state.get("plasticity") is None:
        raise DataError(
            "the manager's state has no replacement, but it has ReplaceLowUtility: make it with "
            "the policies with which it was saved"
        )
    if parts.statistics is not None:
        if state.get("statistics") is None:
            raise DataError(
                "the manager's state has no statistics, but a policy reconstructs: give its "
                "policies reconstruct=False, or use the policies with which it was saved"
            )
        parts.statistics.load_state_dict(state["statistics"])
    parts.progress.load_state_dict(state)
    if parts.protect is not None:
        parts.protect.load_state_dict(state["protect"])
    if parts.plasticity is not None:
        parts.plasticity.load_state_dict(state["plasticity"])
