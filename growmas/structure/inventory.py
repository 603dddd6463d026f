"""Where a model keeps its tensors, found in one walk over its modules."""

from torch import Tensor, nn

Slot = tuple[nn.Module, str]
"""A module and the name of one of its tensors."""


def tensor_at(slot: Slot) -> Tensor:
    """The tensor in a place."""
    module, attribute = slot
    held = module._buffers if attribute in module._buffers else module._parameters
    return held[attribute]  # type: ignore[return-value]


def put(slot: Slot, tensor: Tensor | None) -> None:
    """Put a tensor in a place, past the checks of `nn.Module`."""
    module, attribute = slot
    if attribute in module._buffers:
        module._buffers[attribute] = tensor
    else:
        module._parameters[attribute] = tensor  # type: ignore[assignment]
    if isinstance(module, nn.RNNBase):  # which keeps a list of its weights besides
        module._flat_weights = [getattr(module, name, None) for name in module._flat_weights_names]


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
