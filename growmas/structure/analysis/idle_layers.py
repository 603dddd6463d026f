"""Idle layers: those that take no part in the output on the example inputs.

They stay as they are, with a note in `fixed`. Two kinds are refused, since surgery could leave them
behind without a sign: a layer that shares a tensor with one that runs, and one of several heads of
which others run.
"""

from collections.abc import Collection, Iterator

from torch import Tensor, nn

from growmas.errors import SurgeryError
from growmas.structure.analysis.graph import unreached_parameters

TAKES_NO_PART = (
    "it takes no part in the output on the example inputs, so it stays as it is; if other calls "
    "run it, pass forward= a function that makes them too"
)
"""Reason in `fixed`."""


def idle_layers(model: nn.Module, outputs: list[Tensor], ignore: Collection[str]) -> list[str]:
    """Return the names of layers, and of parameters outside layers, that no output depends on.

    Args:
        model: The network.
        outputs: The outputs of its traced forward pass.
        ignore: Qualified names that are left out without a question.

    Raises:
        SurgeryError: Such a layer shares a tensor with one that takes part, or is one of several
            of a list of which another takes part.
    """
    idle = {id(parameter) for parameter in unreached_parameters(model, outputs).values()}
    layers = [
        (name, module)
        for name, module in model.named_modules()
        if any(id(parameter) in idle for parameter in module._parameters.values())
    ]
    refused = [
        name
        for name, module in layers
        if name not in ignore and (_shares(model, module, idle) or _others_ran(model, name, idle))
    ]
    if refused:
        raise SurgeryError(
            f"layers {', '.join(sorted(map(repr, refused)))} take no part in the output on the "
            "example inputs, while others of the same list or with the same tensors do, so surgery "
            "could not keep them in step: pass forward= a function that runs them all (the heads "
            "of every task), or name them in ignore="
        )
    return [each for name, module in layers for each in _named(name, module, idle)]


def _named(name: str, module: nn.Module, idle: set[int]) -> Iterator[str]:
    """Yield the name of a layer that is idle as a whole, or those of its idle parameters."""
    own = {key: p for key, p in module._parameters.items() if p is not None}
    whole = all(id(p) in idle for p in own.values() if p.is_floating_point())
    if whole and name and not module._modules:
        yield name
        return
    prefix = f"{name}." if name else ""
    yield from (prefix + key for key, p in own.items() if id(p) in idle)


def _shares(model: nn.Module, module: nn.Module, idle: set[int]) -> bool:
    """Return True if a module holds a parameter of another one that takes part."""
    reached = {id(p) for p in module._parameters.values() if p is not None and id(p) not in idle}
    return any(
        id(parameter) in reached
        for other in model.modules()
        if other is not module
        for parameter in other._parameters.values()
    )


def _others_ran(model: nn.Module, name: str, idle: set[int]) -> bool:
    """Return True if a list holds the layer and, elsewhere, layers that take part.

    A list whose part with the layer takes part too, by other layers, tells nothing.
    """
    parts = name.split(".")
    for depth in range(len(parts)):
        container = model.get_submodule(".".join(parts[:depth]))
        if isinstance(container, nn.ModuleList | nn.ModuleDict):
            ran = {
                key: any(id(p) not in idle for p in child.parameters())
                for key, child in container.named_children()
            }
            if not ran.pop(parts[depth]) and any(ran.values()):
                return True
    return False
