"""Inventory of a model: its modules and tensors, found in one walk over them."""

from collections.abc import Mapping

from torch import Tensor, nn

Slot = tuple[nn.Module, str]
"""A module and the name of one of its tensors."""


def tensor_at(slot: Slot) -> Tensor:
    """Return the tensor in a slot."""
    module, attribute = slot
    held = module._buffers if attribute in module._buffers else module._parameters
    return held[attribute]  # type: ignore[return-value]


def put(slot: Slot, tensor: Tensor | None) -> None:
    """Put a tensor into a slot, without the checks of `nn.Module`."""
    module, attribute = slot
    if attribute in module._buffers:
        module._buffers[attribute] = tensor
    else:
        module._parameters[attribute] = tensor  # type: ignore[assignment]
    if isinstance(module, nn.RNNBase):  # it also keeps a list of its weights
        module._flat_weights = [getattr(module, name, None) for name in module._flat_weights_names]


class Inventory:
    """The modules and tensors of a model, as they are now.

    The walk costs as much as the rest of a small edit of a large network. So it is made once for
    each edit, and over the modules' own dictionaries instead of torch's generators. Order and
    names are those of `named_modules`, `named_parameters` and `named_buffers`.

    Attributes:
        modules: Qualified name -> module; a module with several names under its first.
        tensors: Qualified name -> parameter or buffer, tied ones once, as in `named_parameters`.
        names: The id of a tensor -> its name.
        slots: The name of a tensor -> every slot that holds it, ties included.
        compiled: True if `module.compile()` was called on any module.
    """

    def __init__(self, model: nn.Module) -> None:
        """Walk over `model`."""
        self.modules: dict[str, nn.Module] = {}
        self.tensors: dict[str, Tensor] = {}
        self.names: dict[int, str] = {}
        self.slots: dict[str, list[Slot]] = {}
        self.compiled = False
        seen: set[int] = set()
        stack = [("", model)]
        while stack:
            layer, module = stack.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            self.modules[layer] = module
            self.compiled |= module._compiled_call_impl is not None
            prefix = f"{layer}." if layer else ""
            for held in (module._parameters, module._buffers):
                if held:
                    self._note(prefix, module, held)
            below = module._modules
            for key in reversed(below) if below else ():
                child = below[key]
                if child is not None:
                    stack.append((prefix + key, child))

    def _note(self, prefix: str, module: nn.Module, held: Mapping[str, Tensor | None]) -> None:
        for attribute, tensor in held.items():
            if tensor is None:
                continue
            name = self.names.get(id(tensor))
            if name is None:
                name = self.names[id(tensor)] = prefix + attribute
                self.tensors[name] = tensor
                self.slots[name] = []
            self.slots[name].append((module, attribute))
