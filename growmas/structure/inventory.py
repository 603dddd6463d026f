"""Where a model keeps its tensors, found in one walk over its modules."""

from collections.abc import Iterator

from torch import Tensor, nn

Slot = tuple[nn.Module, str]
"""A module and the name of one of its tensors."""


class Inventory:
    """The modules and tensors of a model, as they are now.

    One walk costs a millisecond on a large network, as much as the rest of a small edit, so it is
    made once an edit and over the dictionaries themselves.

    Attributes:
        modules: Qualified name -> module; a module with several names under its first.
        tensors: Qualified name -> parameter or buffer, tied ones once, as in `named_parameters`.
        names: The id of a tensor -> its name.
        slots: The name of a tensor -> every place that holds it, ties included.
    """

    def __init__(self, model: nn.Module) -> None:
        """Walk over `model`."""
        self.modules: dict[str, nn.Module] = {}
        self.tensors: dict[str, Tensor] = {}
        self.names: dict[int, str] = {}
        self.slots: dict[str, list[Slot]] = {}
        for layer, module in _named_modules(model):
            self.modules[layer] = module
            for held in (module._parameters, module._buffers):
                for attribute, tensor in held.items():
                    if tensor is not None:
                        self._note(f"{layer}.{attribute}" if layer else attribute, tensor)
                        self.slots[self.names[id(tensor)]].append((module, attribute))

    @property
    def compiled(self) -> bool:
        """Whether `module.compile()` was called on any module."""
        return any(module._compiled_call_impl for module in self.modules.values())

    def _note(self, name: str, tensor: Tensor) -> None:
        if id(tensor) not in self.names:
            self.names[id(tensor)] = name
            self.tensors[name] = tensor
            self.slots[name] = []


def _named_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """As `nn.Module.named_modules`, in the same order, without a generator for every module."""
    seen: set[int] = set()
    stack = [("", model)]
    while stack:
        name, module = stack.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        yield name, module
        below = [(key, child) for key, child in module._modules.items() if child is not None]
        stack += [(f"{name}.{key}" if name else key, child) for key, child in reversed(below)]
