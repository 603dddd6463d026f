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
    module must take the number of heads, and whatever follows from it, from its attributes or
    from the shapes of its layers.

    Args:
        module: The class, or "module.ClassName" for a package that need not be installed.
        project: The layers that give q, k and v, by their names below the module. A layer that
            gives several of them, one behind the other, comes with their number: {"qkv": 3}.
        output: The layer that reads all heads, one behind the other.
        heads: The attribute with the number of heads, or a function that tells it from the
            module. With grouped queries a unit is one key and value head with all its queries,
            so it is the number of key and value heads.
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
    """The heads of one attention module; see `register_attention`.

    Args:
        attention: The module.
        project: See there.
        output: See there.
        heads: See there.
        sizes: See there.
        core: See there.
        own: Axes of parameters of the core with one entry for each head.

    Raises:
        SurgeryError: A layer's width is no multiple of the number of heads.
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
    layer = attention.get_submodule(name)
    axes = axes_of(layer)
    if axes is None:
        raise SurgeryError(f"heads cannot be laid out over {name!r}: {why_fixed(layer)}")
    size, rest = divmod(axes.channels(layer, side), parts)
    if rest:
        raise SurgeryError(
            f"heads cannot be laid out over {name!r}: expected a multiple of {parts} channels on "
            f"side {side!r}, got {axes.channels(layer, side)}"
        )
    return size
