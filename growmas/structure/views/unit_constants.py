"""Constants of units: the gains and biases that a task can have for itself."""

from collections.abc import Collection, Iterable
from typing import Literal, get_args

from torch import nn

from growmas.errors import PlanError
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.inventory import Inventory
from growmas.structure.units.placement import placements

UnitConstant = Literal["gains", "biases"]
"""What multiplies the output of each unit, or what is added to it."""


def check_constants(kinds: object) -> tuple[UnitConstant, ...]:
    """Return the kinds of constants as a tuple, each once; a single word becomes a tuple of one.

    Raises:
        PlanError: Something is not one of the two words.
    """
    given = (kinds,) if isinstance(kinds, str) else kinds
    known = get_args(UnitConstant)
    if not isinstance(given, Collection) or not all(kind in known for kind in given):
        raise PlanError(
            f"per_task={kinds!r:.80}: expected 'gains', 'biases' or both, such as "
            "('gains', 'biases')"
        )
    return tuple(kind for kind in known if kind in given)


def constants_of(
    model: nn.Module, groups: Iterable[UnitGroup], kinds: Collection[UnitConstant]
) -> tuple[str, ...]:
    """Return the names of the parameters that hold one gain, or one bias, for each unit.

    Gains are those of layers that have them (`add_gains`) and the weights of norms; biases are
    those of layers and of norms. Layers whose outputs are not units, such as heads, have none.

    Args:
        model: The network.
        groups: Its groups.
        kinds: "gains", "biases", or both.
    """
    names = Inventory(model).names
    found: dict[str, None] = {}
    for group in groups:
        for place in placements(model, group, ["out", "norm"]):
            tensor, axis = place.tensor, place.axis
            if not isinstance(tensor, nn.Parameter) or tensor.dim() != 1:
                continue
            kind = "gains" if axis.role == "norm" and axis.fresh == 1.0 else "biases"
            if kind in kinds:
                found[names[id(tensor)]] = None
    return tuple(found)
