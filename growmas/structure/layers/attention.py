"""Attention heads as units: a head's rows of q, k and v, and its columns of the output layer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from growmas.errors import SurgeryError
from growmas.structure.layers.axes import LayerAxes, Side, Size, TensorAxis, axes_of, why_fixed
from growmas.structure.layers.layouts import Layout, Span, register_layout


def register_attention(
    module: type[nn.Module] | str,
    *,
    project: Sequence[str] | Mapping[str, int],
    output: str,
    heads: str | Callable[[Any], int],
    sizes: Sequence[Size] = (),
    core: str = "",
) -> None:
    """Make units of the heads of attention modules of exactly that type.

    A new head leaves the function as it was, because the columns that read it are zero. The
    module must take the number of heads, and everything that depends on it, from its attributes
    or from the shapes of its layers.

    Args:
        module: The class, or "module.ClassName" for a package that need not be installed.
        project: The layers that give q, k and v, by their names below the module. For a layer
            that gives several of them, one after the other, give their number too: {"qkv": 3}.
        output: The layer that reads all heads, one after the other.
        heads: The attribute with the number of heads, or a function from the module to it. With
            grouped queries a unit is one key and value head with all its queries, so give the
            number of key and value heads.
        sizes: Further attributes that change with the number.
        core: Name of the module below that holds those attributes; "" is the module itself.

    Example:
        >>> import torch, growmas
        >>> from growmas.structure import register_attention
        >>> class Attention(torch.nn.Module):
        ...     def __init__(self, width, heads):
        ...         super().__init__()
        ...         self.heads, self.size = heads, width // heads
        ...         self.qkv = torch.nn.Linear(width, 3 * width)
        ...         self.out = torch.nn.Linear(width, width)
        ...     def forward(self, x):
        ...         q, k, v = self.qkv(x).view(*x.shape[:2], 3, self.heads, self.size).unbind(2)
        ...         scores = torch.einsum("nqhd,nkhd->nhqk", q, k).softmax(-1)
        ...         return self.out(torch.einsum("nhqk,nkhd->nqhd", scores, v).flatten(2))
        >>> register_attention(Attention, project={"qkv": 3}, output="out", heads="heads")
        >>> model = torch.nn.Sequential(Attention(8, heads=4), torch.nn.Linear(8, 2))
        >>> structure = growmas.Structure(model, torch.rand(2, 5, 8))
        >>> edit = structure.apply(growmas.Plan(grow={"0.heads": 2}))
        >>> model[0].heads, model[0].qkv.out_features
        (6, 36)
    """

    def rule(attention: nn.Module) -> Sequence[Layout]:
        return (
            attention_layout(
                attention, project=project, output=output, heads=heads, sizes=sizes, core=core
            ),
        )

    register_layout(module, rule)


def attention_layout(
    attention: nn.Module,
    *,
    project: Sequence[str] | Mapping[str, int],
    output: str,
    heads: str | Callable[[Any], int],
    sizes: Sequence[Size] = (),
    core: str = "",
    own: Sequence[TensorAxis] = (),
) -> Layout:
    """Return the layout of the heads of one attention module.

    Args:
        attention: The module.
        project: The layers that give q, k and v, as for `register_attention`.
        output: The layer that reads all heads, one after the other.
        heads: The attribute with the number of heads, or a function from the module to it.
        sizes: Further attributes that change with the number.
        core: Name of the module below that holds those attributes; "" is the module itself.
        own: Axes of parameters of the core with one entry for each head.

    Raises:
        SurgeryError: A layer's width is not a multiple of the number of heads.
    """
    parts = project if isinstance(project, Mapping) else dict.fromkeys(project, 1)
    if isinstance(heads, str):
        count = int(getattr(attention.get_submodule(core), heads))
        sizes = (Size(heads), *sizes)
    else:
        count = heads(attention)
    spans = [Span(core, "out", (1,), LayerAxes(out=tuple(own), out_size=tuple(sizes)))]
    spans = spans if sizes or own else []
    for layer, blocks in parts.items():
        size = _share(attention, layer, "out", count * blocks)
        spans.append(Span(layer, "out", (size,) * blocks))
    spans.append(Span(output, "in", (_share(attention, output, "in", count),)))
    return Layout("heads", "attention heads", count, spans)


def _share(attention: nn.Module, name: str, side: Side, parts: int) -> int:
    """Return the number of channels of one of `parts` equal parts of a layer's side."""
    layer = attention.get_submodule(name)
    axes = axes_of(layer)
    if axes is None:
        raise SurgeryError(f"cannot divide {name!r} into heads: {why_fixed(layer)}")
    size, rest = divmod(axes.channels(layer, side), parts)
    if rest:
        raise SurgeryError(
            f"cannot divide {name!r} into heads: expected a multiple of {parts} channels on "
            f"side {side!r}, got {axes.channels(layer, side)}"
        )
    return size
