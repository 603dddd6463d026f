"""The architecture of a network: layers and operations, widths, FLOPs, and the data flow."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from growmas.structure.units.layer_info import LayerInfo


@dataclass(frozen=True)
class Operation:
    """An operation of the traced network that is not a layer.

    Attributes:
        name: Unique among layers and operations.
        kind: What it does, such as "Add" or "Relu".
        sources: Names of the layers and operations it reads, in order.
        joins: True if it puts the channels of its sources one behind the other.
        factor: How many channels it gives for one that it reads, more than one behind a flattened
            feature map; None where channels cannot be followed through it.
    """

    name: str
    kind: str
    sources: tuple[str, ...]
    joins: bool
    factor: int | None

    def width(self, widths: Mapping[str, int | None]) -> int | None:
        """Return how many channels it gives, from the widths of its sources; None if not known."""
        read = [widths.get(source) for source in self.sources]
        known = [width for width in read if width is not None]
        if self.factor is None or not known or (self.joins and len(known) < len(read)):
            return None
        return self.factor * (sum(known) if self.joins else max(known))


@dataclass(frozen=True)
class OperationInfo:
    """An operation as it is now.

    Attributes:
        name: Unique among layers and operations.
        kind: What it does, such as "Add", "Cat", "Relu" or "MaxPool2D".
        width: Channels it gives, None where they cannot be followed.
    """

    name: str
    kind: str
    width: int | None


@dataclass(frozen=True)
class Architecture:
    """A network as it is now.

    Attributes:
        layers: In the model's order.
        operations: In the order of the data flow.
        edges: Data flow between layers and operations, by name. Operations that only reorder,
            copy or cut out entries are left out.
        parameters: Number of parameters of the model.
        flops: FLOPs of one sample, see `Explanation`, with what lies outside the layers; None if
            they were not counted.
    """

    layers: tuple[LayerInfo, ...]
    operations: tuple[OperationInfo, ...]
    edges: tuple[tuple[str, str], ...]
    parameters: int
    flops: int | None


def operations_now(
    operations: Iterable[Operation], layers: Iterable[LayerInfo]
) -> tuple[OperationInfo, ...]:
    """Return the operations, sources first, with the widths that follow from the layers'."""
    widths = {layer.name: layer.out_width for layer in layers}
    found = []
    for operation in operations:
        width = widths[operation.name] = operation.width(widths)
        found.append(OperationInfo(operation.name, operation.kind, width))
    return tuple(found)
