"""Replacement of units of low utility while a network learns."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch.optim import Optimizer

from growmas.errors import PlanError
from growmas.manager.policy import Policy
from growmas.manager.situation import Moment, Situation
from growmas.penalty import MAS
from growmas.plasticity import Plasticity, ReplacementSettings
from growmas.plasticity.guard import Frozen
from growmas.structure import Plan, Structure


@dataclass(frozen=True, kw_only=True)
class ReplaceLowUtility(ReplacementSettings, Policy):
    """Replace units of low utility by fresh ones, step by step, at constant width.

    Networks that are trained on and on lose the ability to learn; replacing units that do little
    keeps it (Dohare et al., Nature 2024). With a rate instead of the threshold, and utility
    "contribution", it is continual backprop. The settings are those of `ReplacementSettings`.

    A manager that has it replaces units in `step(batch)`, which is to be called after every step of
    the optimizer; `Plasticity` does the same without a manager:

        >>> import torch, growmas
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> structure = growmas.Structure(net, torch.rand(5, 4))
        >>> optimizer = torch.optim.Adam(net.parameters())
        >>> manager = growmas.StructuralManager(
        ...     structure, mas=growmas.MAS(net), optimizer=optimizer,
        ...     grow=growmas.ReplaceLowUtility())
        >>> for _ in range(3):
        ...     x = torch.rand(16, 4)
        ...     optimizer.zero_grad()
        ...     net(x).square().mean().backward()
        ...     optimizer.step()
        ...     edits = manager.step(x)
    """

    moments: ClassVar[tuple[Moment, ...]] = ("step",)
    reads_importance: ClassVar[bool] = False  # protection by birth takes the place of its guard

    def propose(self, situation: Situation) -> Plan:
        """Return an empty plan: a manager replaces the units in place, see `Plasticity`."""
        return Plan()


def plasticity_of(
    policies: Sequence[Policy],
    structure: Structure,
    optimizer: object,
    mas: MAS,
    followers: Iterable[object],
    *,
    frozen: Frozen | None = None,
) -> Plasticity | None:
    """Return what carries out the `ReplaceLowUtility` of a manager; None without one.

    Args:
        policies: The policies of the manager.
        structure: The units of the network.
        optimizer: The optimizer of its parameters.
        mas: Guards the units of old tasks.
        followers: Everything that follows an edit.
        frozen: Returns the units that stay.

    Raises:
        PlanError: There are several, or no torch optimizer.
    """
    found = [policy for policy in policies if isinstance(policy, ReplaceLowUtility)]
    if not found:
        return None
    if len(found) > 1:
        raise PlanError(f"a manager takes one ReplaceLowUtility, got {len(found)}")
    if not isinstance(optimizer, Optimizer):
        given = "None" if optimizer is None else type(optimizer).__name__
        raise PlanError(
            f"ReplaceLowUtility renews the state of a torch optimizer, got optimizer={given}: "
            "give StructuralManager(..., optimizer=...)"
        )
    return Plasticity(structure, optimizer, found[0], mas=mas, followers=followers, frozen=frozen)
