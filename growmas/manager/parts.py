"""The parts that a manager is made of: checks, and their state for a checkpoint."""

from collections.abc import Collection, Iterable, Mapping
from types import NoneType
from typing import Any, Literal

from growmas.batches import Forward
from growmas.errors import DataError, PlanError, SurgeryError
from growmas.history.tracker import TopologyTracker
from growmas.manager.auto_protection import AutoProtection
from growmas.manager.birth import BirthProtection
from growmas.manager.budget import Budget
from growmas.manager.checks import check_parts
from growmas.manager.policy_sequence import Decide
from growmas.manager.progress import Progress
from growmas.penalty import MAS, HardProtection
from growmas.plasticity import Plasticity
from growmas.structure import ActivationStatistics, Edit, Structure
from growmas.structure.views.unit_constants import UnitConstant, check_constants

Protection = HardProtection | BirthProtection
"""What freezes parameters of earlier tasks."""


Norms = Literal["statistics", "affine"] | None
"""The part of norms that is stored for the view of each task."""


def remember(structure: Structure, norms: Norms, per_task: tuple[UnitConstant, ...]) -> None:
    """Store the norms, gains and biases of the task for its view."""
    if norms is not None or per_task:
        structure.remember_norms(
            statistics=norms is not None, affine=norms == "affine", per_task=per_task
        )


def resume(structure: Structure, name: str, *, open: bool, protect: Protection | None) -> None:
    """Let a task that was learnt before be learnt again.

    Raises:
        PlanError: The task is open already.
    """
    learnt = structure.resumed or structure.tasks[structure.task]
    if open and name == learnt:
        raise PlanError(
            f"task {name!r} is open already: call end_task(batches) before it is resumed, or give "
            "a new task a name of its own"
        )
    structure.begin_task(name)
    if isinstance(protect, HardProtection):
        protect.hold()  # weights and biases of norms may have been put back


def needs_importance(protect: Protection | None) -> bool:
    """Return True unless units are frozen by their birth alone."""
    if isinstance(protect, AutoProtection):
        return protect.penalised
    return not isinstance(protect, BirthProtection)


def protection_of(
    protect: Protection | Literal["old"] | None, structure: Structure
) -> Protection | None:
    """Return the protection that a manager was given; "old" is that by birth.

    Raises:
        PlanError: Another word, or a number.
    """
    if isinstance(protect, str | int | float):
        if protect != "old":
            raise PlanError(
                f"protect={protect!r}: expected 'old', a HardProtection(model, fraction=...), a "
                "BirthProtection(structure), or None"
            )
        return BirthProtection(structure)
    return protect


def freeze(
    protect: Protection | None, mas: MAS, batches: Iterable[Any], forward: Forward | None
) -> None:
    """Freeze what a task has learnt, at its end."""
    if isinstance(protect, BirthProtection):
        protect.freeze(batches, forward=forward)
    elif protect is not None:
        protect.freeze(mas.omega)


def described(
    manager: object, structure: Structure, policies: Collection[object], budget: Budget
) -> str:
    """Return the repr of a manager: its policies, limits, groups and tasks."""
    names = ", ".join(type(policy).__name__ for policy in policies)
    groups, tasks = len(structure.groups), len(structure.tasks)
    limits = f", {budget}" if budget else ""
    return (
        f"{type(manager).__name__}({names or 'no policies'}{limits}; {groups} groups, "
        f"{tasks} task{'' if tasks == 1 else 's'} begun)"
    )


def check_outside_views(structure: Structure, what: str) -> None:
    """Refuse to change the network inside a view."""
    if structure.viewed:
        raise SurgeryError(f"{what} cannot be done inside a view: leave it first")


def check_manager_parts(
    structure: Structure,
    mas: MAS,
    budget: Budget | None,
    protect: Protection | None,
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
            "protect": (protect, (HardProtection, BirthProtection, NoneType)),
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


def left_to_tasks(
    structure: Structure,
    per_task: UnitConstant | Collection[UnitConstant],
    mas: MAS,
    protect: Protection | None,
) -> tuple[UnitConstant, ...]:
    """Let penalty and protection leave alone the gains and biases that each task has for itself.

    Returns:
        The kinds, each once.

    Raises:
        PlanError: An unknown word, or the network has none of a kind.
    """
    kinds = check_constants(per_task)
    for kind in kinds:
        if not structure.unit_constants([kind]):
            remedy = (
                "call growmas.add_gains(model, inputs) before Structure(model, inputs)"
                if kind == "gains"
                else "make its layers with bias=True"
            )
            raise PlanError(f"per_task={kind!r}: the units of the network have no {kind}; {remedy}")
    names = structure.unit_constants(kinds)
    for part in (mas, protect) if kinds else ():
        if part is not None:
            part.exclude = (*part.exclude, *(n for n in names if n not in part.exclude))
    return kinds


class Checkpointed:
    """The parts of a manager whose state a checkpoint holds; `mas` has a state of its own.

    Attributes:
        statistics: Activation statistics; None without reconstruction.
        protect: Hard protection, protection by birth, or None.
        plasticity: Replacement of units of low utility, or None.
    """

    statistics: ActivationStatistics | None
    protect: Protection | None
    plasticity: Plasticity | None
    _progress: Progress

    @property
    def reached(self) -> tuple[float, ...]:
        """The losses that the trials of tasks reached, after the growth for each."""
        return self._progress.reached

    def replace_low(self) -> tuple[Edit, ...]:
        """Take a step of `ReplaceLowUtility` alone, where the manager has it."""
        return () if self.plasticity is None else self.plasticity.step()

    def close(self) -> None:
        """Stop watching model and optimizer, as `ReplaceLowUtility` does."""
        if self.plasticity is not None:
            self.plasticity.close()

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and JSON values: progress, statistics, protection and replacement."""
        parts = (("statistics", self.statistics), ("protect", self.protect))
        held = {name: None if part is None else part.state_dict() for name, part in parts}
        # a key of its own only where it is used, as in states of earlier versions
        used = {} if self.plasticity is None else {"plasticity": self.plasticity.state_dict()}
        return {**self._progress.state_dict(), **held, **used}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state that `state_dict` returned, once the structure has been restored.

        Raises:
            DataError: Something is missing, or the statistics are of other layers or widths.
            PenaltyError: The frozen entries are of other parameters.
        """
        if (self.protect is None) != (state.get("protect") is None):
            ours, theirs = ("without", "with") if self.protect is None else ("with", "without")
            raise DataError(
                f"the manager was made {ours} protection (protect=) and its state {theirs}: make "
                "it with the protect= with which it was saved"
            )
        by_birth = isinstance(self.protect, BirthProtection)
        if self.protect is not None and by_birth != ("through" in state["protect"]):
            ours, theirs = ("by birth", "hard") if by_birth else ("hard", "by birth")
            raise DataError(
                f"the manager's protection is {ours} and that of its state {theirs}: make it with "
                "the protect= with which it was saved"
            )
        if self.plasticity is not None and state.get("plasticity") is None:
            raise DataError(
                "the manager's state has no replacement, but it has ReplaceLowUtility: make it "
                "with the policies with which it was saved"
            )
        if self.statistics is not None:
            if state.get("statistics") is None:
                raise DataError(
                    "the manager's state has no statistics, but a policy reconstructs: give its "
                    "policies reconstruct=False, or use the policies with which it was saved"
                )
            self.statistics.load_state_dict(state["statistics"])
        self._progress.load_state_dict(state)
        if self.protect is not None:
            self.protect.load_state_dict(state["protect"])
        if self.plasticity is not None:
            self.plasticity.load_state_dict(state["plasticity"])


def trackers_of(
    tracker: TopologyTracker | None, structure: Structure
) -> tuple[TopologyTracker, ...]:
    """Return the trackers of a structure, those that listen to it included."""
    heard = (getattr(listener, "__self__", None) for listener in structure.listeners)
    found = {id(each): each for each in (tracker, *heard)}
    return tuple(each for each in found.values() if isinstance(each, TopologyTracker))
