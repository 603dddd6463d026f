"""Parameters of a model by name, found again at every step at little cost."""

from typing import Any

from torch import nn


class KnownParameters:
    """The parameters of a model, with the places at which they were found.

    `named_parameters` takes milliseconds for a model with hundreds of heads. To check that the same
    objects are still in the same places takes a fraction.

    Args:
        model: The network.

    Attributes:
        by_name: Qualified name -> parameter.
    """

    def __init__(self, model: nn.Module) -> None:
        self.by_name: dict[str, nn.Parameter] = dict(model.named_parameters())
        self._places: list[tuple[dict[str, Any], str, object]] = [
            (held, name, each)
            for module in model.modules()
            for held in (module._parameters, module._modules)
            for name, each in held.items()
        ]

    def are_current(self) -> bool:
        """Return True if none of the parameters, and no module, was replaced or removed."""
        return all(held.get(name) is each for held, name, each in self._places)
