"""Layer norms behind the layers of a network that produce units, against the loss of plasticity."""

from typing import Any

from torch import Tensor, nn

from growmas.errors import ConfigError
from growmas.structure import Structure


class ChannelNorm(nn.GroupNorm):
    """A norm of each sample over all channels and places of a feature map."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)


def add_layer_norms(model: nn.Module, example_inputs: Any) -> tuple[str, ...]:
    """Put a norm of each sample behind every layer that produces units, in place.

    A linear layer gets a LayerNorm, a convolution a norm over all channels and places; layers that
    a norm follows already, and those of attention heads, get none. Lyle et al., "Understanding
    plasticity in neural networks" (ICML 2023, arXiv 2303.01486), find that this keeps plasticity
    best of what they compare.

    Returns:
        The names of the layers, which are the first part of a Sequential afterwards.

    Raises:
        ConfigError: No layer is found.
    """
    structure, found = Structure(model, example_inputs), []
    for group in structure.groups.values():
        members = [(m, model.get_submodule(m.layer)) for m in group.members if m.side == "out"]
        if any(axis.role == "norm" for m, _ in members for axis in m.axes.out):
            continue
        found += [
            m.layer
            for m, layer in members
            if isinstance(layer, nn.Linear | nn.Conv2d) and m.positions.shape[1] == 1
        ]
    if not found:
        raise ConfigError(
            "method.kind layernorm puts norms behind linear layers and convolutions that produce "
            "units, and this network has none without a norm: use kind finetune"
        )
    for name in found:
        layer: Any = model.get_submodule(name)
        weight: Tensor = layer.weight
        norm = (
            nn.LayerNorm(len(weight)) if isinstance(layer, nn.Linear) else ChannelNorm(len(weight))
        )
        model.set_submodule(name, nn.Sequential(layer, norm.to(weight)))
    return tuple(found)
