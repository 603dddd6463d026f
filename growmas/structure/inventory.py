"""Where a model keeps its tensors, found in one walk over its modules."""

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.modules.module import Module

Slot = tuple[nn.Module, str]
"""A module and the name of one of its tensors."""


def walk(model: nn.Module) -> Iterator[tuple[str, Module]]:
    """What `model.named_modules()` gives, in the same order, without a generator per level."""
    seen: set[Module] = set()
    left: list[tuple[str, Module]] = [("", model)]
    while left:
        name, module = left.pop()
        if module in seen:
            continue
        seen.add(module)
        yield name, module
        prefix = f"{name}." if name else ""
        children = [(prefix + child, m) for child, m in module._modules.items() if m is not None]
        left.extend(reversed(children))


class Inventory:
    """The modules and tensors of a model, as they are now.

    Attributes:
        modules: Qualified name -> module; a module with several names under its first.
        tensors: Qualified name -> parameter or buffer, tied ones once, as in `named_parameters`.
        names: The id of a tensor -> its name.
        slots: The name of a tensor -> every place that holds it, ties included.
    """

    def __init__(self, model: nn.Module) -> None:
        """Walk over `model`."""
        self.modules = dict(walk(model))
        self.tensors: dict[str, Tensor] = {}
        self.names: dict[int, str] = {}
        self.slots: dict[str, list[Slot]] = {}
        for layer, module in self.modules.items():
            for held in (module._parameters, module._buffers):
                for attribute, tensor in held.items():
                    if tensor is not None:
                        self._note(f"{layer}.{attribute}" if layer else attribute, tensor)
                        self.slots[self.names[id(tensor)]].append((module, attribute))

    def _note(self, name: str, tensor: Tensor) -> None:
        if id(tensor) not in self.names:
            self.names[id(tensor)] = name
            self.tensors[name] = tensor
            self.slots[name] = []
