"""Where a model keeps its tensors, found in one walk over its modules."""

from torch import Tensor, nn

Slot = tuple[nn.Module, str]
"""A module and the name of one of its tensors."""


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
        self.modules = dict(model.named_modules())
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
