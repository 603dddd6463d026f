"""Checks of the parts that a manager is made of."""

from types import NoneType

from growmas.errors import PlanError
from growmas.history.tracker import TopologyTracker
from growmas.manager.budget import Budget
from growmas.manager.checks import check_parts
from growmas.manager.policy_sequence import Decide
from growmas.penalty import MAS, HardProtection
from growmas.structure import Structure


def check_manager_parts(
    structure: Structure,
    mas: MAS,
    budget: Budget | None,
    protect: HardProtection | None,
    tracker: TopologyTracker | None,
    decide: Decide | None,
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
    if not (decide is None or callable(decide)):
        raise PlanError(f"decide={decide!r:.80}: expected a function of a plan, or None")
    for name, part in (("mas", mas), ("protect", protect)):
        if part is not None and part.model is not structure.model:
            raise PlanError(
                f"{name} is of another network than the structure: make both with the same model"
            )
