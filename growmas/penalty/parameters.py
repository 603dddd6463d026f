"""Parameters and buffers of a model by name, found again at every step at little cost."""

from operator import is_
from typing import Any

from torch import Tensor, nn


class KnownParameters:
    """The parameters and buffers of a model, with the places at which they were found.

    `named_parameters` takes milliseconds for a model with hundreds of heads. To check that the same
    objects are still in the same places takes a fraction.

    Args:
        model: The network.
        buffers: Its buffers are looked for as well.

    Attributes:
        by_name: Qualified name -> parameter.
        buffers: Qualified name -> buffer.
    """

    def __init__(self, model: nn.Module, *, buffers: bool = False) -> None:
        self.by_name: dict[str, nn.Parameter] = dict(model.named_parameters())
        self.buffers: dict[str, Tensor] = dict(model.named_buffers() if buffers else ())
        self._holders: list[dict[str, Any]] = []
        self._names: list[str] = []
        self._held: list[object] = []
        for module in model.modules():
            kinds: list[dict[str, Any]] = [module._parameters, module._modules]
            for holder in kinds + [module._buffers] * buffers:
                self._holders += [holder] * len(holder)
                self._names += holder
                self._held += holder.values()

    def are_current(self) -> bool:
        """Return True if no parameter, buffer or module was replaced or removed."""
        return all(map(is_, map(dict.get, self._holders, self._names), self._held))
