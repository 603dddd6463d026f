"""Options: which units may be chosen, and what counts beside the readers."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from growmas.batches import Forward, check_forward
from growmas.errors import PlanError
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.plan import unknown_group
from growmas.structure.units.rounding import check_round_to


@dataclass(frozen=True, eq=False, kw_only=True)
class Options:
    """Options of `Structure.select`, which documents them.

    Attributes:
        groups: Names of the groups to choose from; None for all.
        protected: Names of groups that lose none.
        keep: Group name -> ids of units that stay.
        saliency: Group name -> [U], how much each unit matters; empty without Ω.
        weight: How much saliency counts beside the relative error.
        guard: Share of a group's saliency whose units stay.
        round_to: Multiples of the channels that stay.
        forward: (model, batch) -> output.
        reason: The reason in the plan.
    """

    groups: Collection[str] | None = None
    protected: Collection[str] = ()
    keep: Mapping[str, Sequence[int]] = field(default_factory=dict)
    saliency: Mapping[str, Tensor] = field(default_factory=dict)
    weight: float = 0.0
    guard: float | None = None
    round_to: int | Mapping[str, int] = 1
    forward: Forward | None = None
    reason: str = ""

    def check(self, groups: Mapping[str, UnitGroup], fixed: Mapping[str, str]) -> None:
        """Refuse options that do not fit.

        Args:
            groups: All groups.
            fixed: Groups that cannot change, with the reason.

        Raises:
            PlanError: An option is out of range, or names a group or a unit that does not exist.
            DataError: `forward` is not a function.
        """
        check_forward(self.forward)
        check_round_to(self.round_to)
        if not _is_number(self.weight) or not 0 <= self.weight < float("inf"):
            raise PlanError(f"weight={self.weight!r:.80}: expected a number >= 0")
        if self.guard is not None and not (_is_number(self.guard) and 0 <= self.guard < 1):
            raise PlanError(
                f"guard={self.guard!r:.80}: expected a share of the saliency, 0 <= guard < 1"
            )
        if (self.weight or self.guard is not None) and not self.saliency:
            raise PlanError("weight= and guard= need omega=, such as mas.omega")
        if not isinstance(self.keep, Mapping):
            raise PlanError(f"keep={self.keep!r:.80}: expected ids of units by group name")
        multiples = self.round_to if isinstance(self.round_to, Mapping) else {}
        for name in (*(self.groups or ()), *self.protected, *self.keep, *multiples):
            if name not in groups:
                raise PlanError(unknown_group(name, groups, fixed))
        for name, units in self.keep.items():
            last = groups[name].next_id - 1
            wrong = [u for u in units if type(u) is not int or not 0 <= u <= last]
            if wrong:
                raise PlanError(
                    f"keep {name!r}: unit {wrong[0]!r} does not exist (ids so far: 0 to {last})"
                )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
