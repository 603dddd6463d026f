"""Gains added to the layers of a network that produce units."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from growmas.batches import example_forward
from growmas.errors import SurgeryError
from growmas.structure.analysis.tracing import StructureForward
from growmas.structure.layers.gains import can_have_gains, give_gain
from growmas.structure.structure import Structure
from growmas.structure.units.groups import UnitGroup
from growmas.structure.views.unit_constants import constants_of

_EXPECTED = "a Linear, Conv1d, Conv2d or Conv3d of torch, or a Conv1D of transformers"


def add_gains(
    model: nn.Module,
    example_inputs: Any,
    *,
    forward: StructureForward | None = None,
    layers: Iterable[str] | None = None,
) -> tuple[str, ...]:
    """Give layers a gain for each unit they produce, in place; return the names of the layers.

    A layer then computes g · (W x + b), with g = 1 at first: the function stays. Call it before
    the optimizer and `Structure(model, ...)` are made, also of a model into which a checkpoint is
    to be loaded. `StructuralManager(per_task=("gains", "biases"))` then gives every task its own
    gains and biases; `fold_gains` makes plain layers again, as `Structure.extract` does.

    Without `layers`, all linear layers and convolutions of torch, and the Conv1D of transformers,
    that produce units of a group are given gains, unless a norm follows them, whose weights are
    gains already. Where that holds for all groups, the network stays as it is.

    Args:
        model: The network.
        example_inputs: As for `Structure`.
        forward: As for `Structure`.
        layers: Qualified names of linear layers or convolutions; none is left out.

    Raises:
        SurgeryError: A layer does not exist or cannot have gains, no layer is found, or the
            analysis of the network fails.

    Example:
        >>> import torch, growmas
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> growmas.add_gains(net, torch.rand(5, 4))
        ('0',)
        >>> [name for name, _ in net.named_parameters()]
        ['0.weight', '0.bias', '0.gain', '2.weight', '2.bias']
    """
    modules = dict(model.named_modules())
    if layers is None:
        structure = Structure(model, example_inputs, forward=forward or example_forward)
        groups = [g for g in structure.groups.values() if not _has_gains(model, g)]
        names = [name for group in groups for name in _producers(model, group)]
    else:
        names = [layers] if isinstance(layers, str) else list(layers)
    problems = [
        f"{name!r} does not exist"
        if name not in modules
        else f"{name!r} is a {type(modules[name]).__name__}, not {_EXPECTED}"
        for name in names
        if not can_have_gains(modules.get(name))
    ]
    if problems:
        raise SurgeryError(f"these layers cannot have gains: {'; '.join(problems)}")
    if layers is None and not names and (groups or not structure.groups):
        raise SurgeryError(
            f"no layer can have gains: none that produces units is {_EXPECTED}; see "
            "structure.groups and structure.fixed, or name layers="
        )
    for name in names:
        give_gain(modules[name])
    return tuple(names)


def _has_gains(model: nn.Module, group: UnitGroup) -> bool:
    return bool(constants_of(model, [group], ["gains"]))


def _producers(model: nn.Module, group: UnitGroup) -> list[str]:
    """Return the layers that produce the units of a group and can have gains."""
    return [
        member.layer
        for member in group.members
        if member.side == "out"
        and can_have_gains(model.get_submodule(member.layer))
        and any(axis.role == "out" for axis in member.axes.out)
    ]
