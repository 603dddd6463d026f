"""Weights used without a layer: `F.linear` and `F.conv2d` on parameters of one's own module.

In the autograd graph a linear map is a product with something made of leaves, and a convolution
has it as its second input:

    F.linear(x, self.w, self.c)                Addmm(c, x, T(w)), without a bias Mm(x, T(w))
    F.linear(x, self.w[:4], cat([c, d]))       Addmm(Cat(c, d), x, T(Slice(w)))
    F.conv2d(x, self.w)                        Convolution(x, w)

Such an operation is taken for a layer, a `FunctionalLayer`, with the name of its weight. What it
gives and what it reads are axes of parameters, its `Piece`s: of "w" axis 0, of which the rows 0 to
3 are its channels, of "c" and "d" axis 0, and so on. They are sides of the module that has the
parameter: "w" and "w, read", or "out" and "in" where that module is a layer that has them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from growmas.structure.analysis.labels import Indices
from growmas.structure.analysis.links import Node
from growmas.structure.analysis.parameter_axes import ParameterAxis, axes_followed
from growmas.structure.analysis.propagation import operation, output_shape
from growmas.structure.layers.axes import LayerAxes, Role, Side, TensorAxis, axes_of, register_layer
from growmas.structure.layers.multihead import sizes_of_weight

_PRODUCTS = {"Addmm": (1, 2, 0), "Mm": (0, 1, -1)}
"""Name of a product -> the numbers of its input, of its weight and of its bias."""


@dataclass(frozen=True, eq=False)
class Piece:
    """An axis of a parameter along which a functional layer has channels.

    Attributes:
        owner: Qualified name of the module that has the parameter.
        module: That module.
        name: Name of the parameter in it.
        tensor: The parameter.
        dim: The axis.
        side: The side of the layer.
        channels: For every entry along the axis the channel, −1 for none.
    """

    owner: str
    module: nn.Module
    name: str
    tensor: Tensor
    dim: int
    side: Side
    channels: Indices

    def member(self) -> tuple[str, Side, LayerAxes]:
        """Return the module, its side, and the axes of the side, which the piece is."""
        own = axes_of(self.module)
        if own is not None:
            for axis in own.side(self.side):
                plain = axis.blocks == axis.shared == 1
                if (axis.tensor, axis.dim) == (self.name, self.dim) and plain:
                    return self.owner, self.side, own
        name, dim = self.name, self.dim
        role: Role = "out" if self.side == "out" else "in"
        if not isinstance(self.tensor, nn.Parameter):
            role = "norm"  # a fresh entry is 0, as in the place of a bias that is not learnt

        def length(module: nn.Module, side: Side) -> int:
            return getattr(module, name).shape[dim]  # type: ignore[no-any-return]

        axes = LayerAxes(
            out=(TensorAxis(name, dim, role),),
            out_size=sizes_of_weight(self.module, name, self.side),
            length=length,
            along=-1,
        )
        return self.owner, name if self.side == "out" else f"{name}, read", axes


class FunctionalLayer(nn.Module):
    """Stands for an operation that works as a layer; it is not part of the model.

    Attributes:
        operand: The number of the operation's input.
        pieces: The axes of parameters that are its channels.
        axes: The axes of both sides.
    """

    def __init__(self, pieces: list[Piece], sizes: dict[Side, int], operand: int, along: int):
        super().__init__()
        self.operand, self.pieces = operand, pieces
        self.axes = LayerAxes(
            out=tuple(TensorAxis(p.name, p.dim, "out") for p in pieces if p.side == "out"),
            into=tuple(TensorAxis(p.name, p.dim, "in") for p in pieces if p.side == "in"),
            length=lambda module, side: sizes[side],
            unit="neurons" if along == -1 else "channels",
            along=along,
        )

    def members(
        self, side: Side, found: Indices
    ) -> Iterator[tuple[tuple[str, Side], LayerAxes, Indices]]:
        """Give the module and side, the axes and the channels of the root of every piece.

        Args:
            side: A side of the operation.
            found: For every channel of that side the channel of the root, −1 for none.
        """
        padded = np.append(found, -1)
        for piece in self.pieces:
            if piece.side == side:
                owner, its_side, axes = piece.member()
                held = np.where(piece.channels < len(found), piece.channels, -1)
                yield (owner, its_side), axes, padded[held]


register_layer(FunctionalLayer, lambda module: module.axes)


class _Owners:
    """Finds the module that has a tensor.

    Attributes:
        names: Identity of a parameter or buffer -> its qualified name.
    """

    def __init__(self, model: nn.Module) -> None:
        held = [*model.named_parameters(), *model.named_buffers()]
        self.names = {id(tensor): name for name, tensor in held}
        self._modules = dict(model.named_modules())

    def is_made(self, tensor: Tensor) -> bool:
        """Return True for a constant that the code makes, as zeros in the place of a bias."""
        return id(tensor) not in self.names and not tensor.requires_grad

    def piece(self, axis: ParameterAxis, side: Side) -> Piece | None:
        """Return the piece that an axis of a tensor is; None if the model does not have it."""
        name = self.names.get(id(axis.tensor))
        if name is None:
            return None
        owner, _, own = name.rpartition(".")
        return Piece(owner, self._modules[owner], own, axis.tensor, axis.dim, side, axis.channels)


def functional_layers(
    nodes: Iterable[Node], model: nn.Module, constants: Mapping[Any, Mapping[int, Tensor]]
) -> dict[nn.Module, str]:
    """Put a `FunctionalLayer` into every node that works as one; return them with their names.

    Args:
        nodes: All nodes of the graph.
        model: The model.
        constants: Function of a concatenation -> the buffers that it reads, by number.
    """
    owners = _Owners(model)
    found: dict[nn.Module, str] = {}
    nodes = list(nodes)
    ran = {node.module for node in nodes}
    taken = {name for name, module in model.named_modules() if module in ran}
    for node in nodes:
        layer = _layer(node.grad_fn, owners, constants) if _is_operation(node) else None
        if layer is not None:
            first = layer.pieces[0]
            is_layer = first.member()[1] == "out"
            bare = ".".join(filter(None, [first.owner, "" if is_layer else first.name]))
            numbered = (f"{bare}:{number}" for number in range(2, len(found) + 3))
            name = next(n for n in (bare, *numbered) if n not in taken)
            taken.add(name)
            node.module = layer
            found[layer] = name
    return found


def _is_operation(node: Node) -> bool:
    return node.grad_fn is not None and operation(node.grad_fn) in {"Convolution", *_PRODUCTS}


def _layer(
    function: Any, owners: _Owners, constants: Mapping[Any, Mapping[int, Tensor]]
) -> FunctionalLayer | None:
    kind = operation(function)
    operand, place, place_of_bias = _PRODUCTS.get(kind, (0, 1, 2))
    if kind == "Convolution":
        if function._saved_transposed or function._saved_groups > 1:
            return None
        dimensions = len(output_shape(function))
        sides, axis = ({"out": 0, "in": 1}, 1 - dimensions)
    else:
        dimensions, sides, axis = 2, {"out": 1, "in": 0}, -1
    weight = axes_followed(function, place, dimensions, constants)
    bias = axes_followed(function, place_of_bias, None, constants) if place_of_bias >= 0 else []
    if not weight or bias is None:
        return None
    of_side = {dim: side for side, dim in sides.items()}
    pieces = [owners.piece(each, of_side[each.axis]) for each in weight if each.axis in of_side]
    pieces += [owners.piece(each, "out") for each in bias if not owners.is_made(each.tensor)]
    known = [piece for piece in pieces if piece is not None]
    if len(known) < len(pieces) or {"out", "in"} - {piece.side for piece in known}:
        return None
    sizes = {side: weight[0].shape[dim] for side, dim in sides.items()}
    known.sort(key=lambda piece: piece.side != "out")
    return FunctionalLayer(known, sizes, operand, axis)
