"""Checks of what a replacement is given, and the groups that it leaves alone."""

from collections.abc import Sequence

from torch.optim import Optimizer

from growmas.errors import PlanError
from growmas.plasticity.settings import ReplacementSettings
from growmas.structure import Structure
from growmas.structure.units.plan import unknown_group


def groups_skipped(structure: Structure, settings: ReplacementSettings) -> dict[str, str]:
    """Return the groups whose units are never replaced, with the reasons.

    Raises:
        PlanError: A group does not exist, or none is left.
    """
    problems = [
        f"protected: {unknown_group(name, structure.groups, structure.fixed)}"
        for name in settings.protected
        if name not in structure.groups
    ]
    if problems:
        raise PlanError("; ".join(problems))
    skipped = dict.fromkeys(settings.protected, "it is protected")
    for name in structure.groups:
        problem = structure.why_not_renewed(name, paired=settings.init == "paired")
        if problem and name not in skipped:
            skipped[name] = problem
    if not structure.groups.keys() - skipped.keys():
        reasons = "; ".join(f"{name!r}: {why}" for name, why in skipped.items())
        raise PlanError(
            f"there is no group whose units can be replaced ({reasons or 'the network has none'})"
        )
    return skipped


def check_optimizers(optimizers: Sequence[object], structure: Structure) -> None:
    """Refuse optimizers that do not hold the model's parameters.

    Raises:
        PlanError: Says what was given.
    """
    for each in optimizers:
        if not isinstance(each, Optimizer):
            raise PlanError(f"optimizer={each!r:.80}: expected a torch optimizer, or several")
    held = {id(p) for each in optimizers for group in each.param_groups for p in group["params"]}  # type: ignore[attr-defined]
    ours = {name: p for name, p in structure.model.named_parameters() if p.requires_grad}
    lacking = [name for name, p in ours.items() if id(p) not in held]
    if ours and len(lacking) == len(ours):
        raise PlanError(
            f"the optimizer does not hold the model's parameters ({len(lacking)} missing, such as "
            f"{lacking[0]!r}): make it from model.parameters(), after the model has its widths"
        )
