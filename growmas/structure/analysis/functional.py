"""Weights used without a layer: `F.linear` and `F.conv2d` on a parameter of one's own module.

In the autograd graph a linear map is a product with a transposed leaf, and a convolution has the
leaf as its second input:

    F.linear(x, self.w, self.c)      Addmm(c, x, T(w)), without a bias Mm(x, T(w))
    F.conv2d(x, self.w)              Convolution(x, w)

Such an operation is taken for a layer, a `FunctionalLayer`, with the name of its weight. What it
gives and what it reads are axes of the weight; they are sides of the module that has it: "w" and
"w, read".
"""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from growmas.structure.analysis.links import Node
from growmas.structure.analysis.propagation import operation
from growmas.structure.layers.axes import LayerAxes, Side, TensorAxis, register_layer

_PRODUCTS = {"Addmm": (1, 2), "Mm": (0, 1)}
"""Name of a product -> the numbers of its input and of its weight."""


class FunctionalLayer(nn.Module):
    """Stands for an operation that works as a layer; it is not part of the model.

    Attributes:
        owner: Qualified name of the module that has the weight.
        axes: The axes, for a module with the weight, of both sides.
        operand: The number of the operation's input.
        weight: Name of the weight in its module.
        tensors: Name of a parameter in its module -> the parameter.
    """

    def __init__(
        self, owner: str, weight: str, bias: str, tensor: Tensor, out: int, along: int, operand: int
    ) -> None:
        super().__init__()
        self.owner, self.weight, self.operand = owner, weight, operand
        self.tensors = {weight: tensor}
        into = 1 - out
        lengths = tensor.shape
        rows = [TensorAxis(weight, out, "out"), *([TensorAxis(bias, 0, "out")] if bias else [])]
        self.axes = LayerAxes(
            out=tuple(rows),
            into=(TensorAxis(weight, into, "in"),),
            length=lambda module, side: lengths[into if side == "in" else out],
            unit="neurons" if along == -1 else "channels",
            along=along,
        )
        self._dims = {"out": out, "in": into}

    def member(self, side: Side) -> tuple[str, Side, LayerAxes]:
        """Return the module, its side and its axes that a side of the operation is."""
        weight, dim = self.weight, self._dims[side]

        def length(module: nn.Module, side: Side) -> int:
            return module.get_parameter(weight).shape[dim]

        name = weight if side == "out" else f"{weight}, read"
        return self.owner, name, LayerAxes(out=self.axes.side(side), length=length, along=-1)


register_layer(FunctionalLayer, lambda module: module.axes)


def functional_layers(
    nodes: Iterable[Node], names: Mapping[int, str], owners: Mapping[str, nn.Module]
) -> dict[nn.Module, str]:
    """Put a `FunctionalLayer` into every node that works as one; return them with their names.

    Args:
        nodes: All nodes of the graph.
        names: Identity of a parameter -> its qualified name.
        owners: Qualified name of a parameter -> the module that has it.
    """
    found: dict[nn.Module, str] = {}
    for node in nodes:
        layer = _layer(node.grad_fn, names, owners) if _is_operation(node) else None
        if layer is not None:
            name = ".".join(filter(None, [layer.owner, layer.weight]))
            if name not in found.values():
                node.module = layer
                found[layer] = name
    return found


def _is_operation(node: Node) -> bool:
    return node.grad_fn is not None and operation(node.grad_fn) in {"Convolution", *_PRODUCTS}


def _layer(
    function: Any, names: Mapping[int, str], owners: Mapping[str, nn.Module]
) -> FunctionalLayer | None:
    kind, out = operation(function), 0
    operand, place = _PRODUCTS.get(kind, (0, 1))
    weight = _leaf(function, place)
    if kind == "Convolution":
        if weight is None or function._saved_transposed or function._saved_groups > 1:
            return None
        bias, along = _leaf(function, 2), 1 - weight.dim()
    else:
        bias, along = _leaf(function, 0) if kind == "Addmm" else None, -1
        if weight is not None:
            out = 1
        else:
            turned = function.next_functions[place][0]
            is_turned = turned is not None and operation(turned) == "T"
            weight = _leaf(turned, 0) if is_turned else None
    name = names.get(id(weight), "") if weight is not None else ""
    if weight is None or not name:
        return None
    owner, _, own = name.rpartition(".")
    of_bias = names.get(id(bias), "") if bias is not None else ""
    if bias is not None and of_bias.rpartition(".")[0] != owner:
        return None
    return FunctionalLayer(owner, own, of_bias.rpartition(".")[2], weight, out, along, operand)


def _leaf(function: Any, index: int) -> Tensor | None:
    given = function.next_functions[index][0] if index < len(function.next_functions) else None
    leaf: Tensor | None = getattr(given, "variable", None)
    return leaf
