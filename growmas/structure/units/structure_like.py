"""Protocol for the part of a `Structure` that the modules below it use."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from growmas.structure.units.groups import UnitGroup


class StructureLike(Protocol):
    """A `Structure`, as surgery, initialisation, reconstruction and inspection see it.

    They are typed on this protocol and not on the class, because the class imports them and
    imports only run downward.
    """

    @property
    def model(self) -> nn.Module:
        """The network."""

    @property
    def groups(self) -> Mapping[str, UnitGroup]:
        """Group name -> group."""

    @property
    def heads(self) -> Mapping[str, UnitGroup]:
        """Layer name -> the classes of the head, for every head that has grown."""

    @property
    def norms(self) -> Mapping[str, tuple[str, ...]]:
        """Name of a task -> names of the norms' tensors that are stored for its view."""

    @property
    def task(self) -> int:
        """Index of the current task."""

    @property
    def parameters(self) -> int:
        """Number of parameters of the model."""

    def edges(self) -> tuple[tuple[str, str], ...]:
        """Return the data flow from layer to layer, by qualified name."""

    def saliency(self, omega: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the importance of every unit: group name -> [U]."""

    def apply(self, plan: Any, *, followers: Any = ...) -> Any:
        """Carry out `plan`."""
