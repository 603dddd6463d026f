"""Structural manager whose calls are collective."""

from collections.abc import Iterable
from typing import Any

from growmas.batches import Forward
from growmas.distributed.processes import check_same, share_random_state, together
from growmas.distributed.sharing import all_reduce, own_share
from growmas.importance import distributed_importance
from growmas.manager import Policy, Situation, StructuralManager
from growmas.manager.policy_sequence import Policies
from growmas.structure import ActivationStatistics, Edit, Plan
from growmas.structure.initialisation.initialisation import Init
from growmas.structure.initialisation.newborns import Initialisation


class DistributedManager(StructuralManager):
    """Structural manager for networks that every process trains on its part of the data.

    Every process makes every call, with the same batches: each measures importance and activation
    statistics on its own rows of them, and they are added up. Process 0 asks the policies; its
    plans are carried out everywhere, with the same fresh rows. Give `tracker` in process 0 alone.
    """

    def _consolidate(self, batches: Iterable[Any], forward: Forward | None) -> None:
        own = own_share(batches)
        self.mas.consolidate(distributed_importance(self.structure.model, own, forward=forward))

    def _observe(self, held: ActivationStatistics, data: Any, forward: Forward | None) -> None:
        part = held.emptied()
        own = list(own_share(data))
        if own:
            part.update(own, forward=forward)
        held.merge(all_reduce(part))

    def _decided(self, situation: Situation, only: Policies = None) -> list[tuple[Policy, Plan]]:
        """Return the plans of process 0."""
        policies = self._policies.policies

        def ask() -> list[tuple[int, Plan]]:
            plans = self._policies.plans(situation, self._decide, only)
            return [(policies.index(policy), plan) for policy, plan in plans]

        plans = [(policies[position], plan) for position, plan in together(ask)]
        share_random_state(self.structure.generator)  # policies may have drawn in process 0
        return plans

    def _carry_out(
        self, plans: list[tuple[Policy, Plan]], init: Init | Initialisation = "zero_out"
    ) -> tuple[Edit, ...]:
        edits = super()._carry_out(plans, init)
        if edits:
            check_same(self.structure.model.state_dict())
        return edits
