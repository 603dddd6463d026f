"""Layer descriptions: widths and sizes of the layers of a model, as they are now."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from growmas.structure.layers.axes import axes_of
from growmas.structure.units.groups import UnitGroup


@dataclass(frozen=True)
class LayerInfo:
    """One layer as it is now.

    Attributes:
        name: Qualified name.
        kind: Class name.
        group: The group its output channels belong to, None for a layer of fixed width.
        in_width: Input channels; None if the type of the layer is not registered.
        out_width: Output channels; None if the type of the layer is not registered.
        parameters: Number of parameters of its own, without those of submodules.
        flops: FLOPs of one sample, submodules included; None if not counted.
    """

    name: str
    kind: str
    group: str | None
    in_width: int | None
    out_width: int | None
    parameters: int
    flops: int | None = None


def layer_info(name: str, module: nn.Module, group: str | None) -> LayerInfo:
    """Return the description of a layer whose output channels belong to `group`."""
    axes = axes_of(module)
    out = axes.channels(module, "out") if axes else None
    # A layer that keeps its channels apart has no side "in": it reads as many as it gives.
    read = axes.channels(module, "in") if axes and axes.into else out
    own = sum(p.numel() for p in module.parameters(recurse=False))
    return LayerInfo(name, type(module).__name__, group, read, out, own)


def layer_infos(model: nn.Module, groups: Mapping[str, UnitGroup]) -> tuple[LayerInfo, ...]:
    """Return the description of every layer with parameters, in the model's order."""
    owner = {
        m.layer: group.name for group in groups.values() for m in group.members if m.side == "out"
    }
    return tuple(
        layer_info(name, module, owner.get(name))
        for name, module in model.named_modules()
        if module._parameters
    )
