"""The part of a `Structure` that the modules below it read."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from growmas.structure.units.groups import UnitGroup


class StructureLike(Protocol):
    """What surgery, initialisation, reconstruction and inspection need of a `Structure`.

    They are typed on this protocol and not on the class, so that imports only run downward: the
    class imports them.
    """

    @property
    def model(self) -> nn.Module:
        """The network."""

    @property
    def groups(self) -> Mapping[str, UnitGroup]:
        """Group name -> group."""

    @property
    def heads(self) -> Mapping[str, UnitGroup]:
        """Layer name -> its classes, for every head that has grown."""

    @property
    def task(self) -> int:
        """Index of the current task."""

    @property
    def parameters(self) -> int:
        """Number of parameters of the model."""

    def edges(self) -> tuple[tuple[str, str], ...]:
        """Data flow from layer to layer, by qualified name."""

    def saliency(self, omega: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Group name -> [U], the importance of every unit."""

    def apply(self, plan: Any, *, followers: Any = ...) -> Any:
        """Carry out a plan."""
