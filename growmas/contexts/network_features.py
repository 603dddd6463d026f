"""Features that a network computes, as an extractor for contexts."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from growmas.batches import default_forward, to_device
from growmas.errors import ContextError, GrowmasWarning
from growmas.preserving import preserving


class NetworkFeatures:
    """Inputs -> what a network returns, or what one of its layers reads, flattened to [N, F].

    The network is run in eval mode, without gradients, and left bit-identical. It must stay as it
    was at the first call: statistics of older features say nothing about newer ones. For the
    features of a network that learns on, freeze a copy, such as `copy.deepcopy(model)`.

    >>> net = nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3))
    >>> NetworkFeatures(net, into="2")(torch.rand(4, 8)).shape
    torch.Size([4, 5])

    Args:
        network: Any module. Inputs are a tensor, a tuple whose first entry is the input, or a dict
            of keyword arguments, see `mas_importance`.
        into: Name of the layer whose input is taken, such as the head; None takes the output.

    Raises:
        ContextError: The network has no such layer.
    """

    def __init__(self, network: nn.Module, *, into: str | None = None) -> None:
        if not isinstance(network, nn.Module):
            raise ContextError(f"network must be a module, got {type(network).__name__}")
        names = dict(network.named_modules())
        if into is not None and into not in names:
            raise ContextError(
                f"into={into!r} is not a layer of the network: choose one of "
                f"{', '.join(name for name in names if name)}"
            )
        self.network = network
        self.into = into
        self._versions: list[int] | None = None

    def __call__(self, inputs: Any) -> Tensor:
        """Return features [N, F].

        Warns:
            GrowmasWarning: The network changed since the first call.

        Raises:
            ContextError: There is not one tensor of features.
        """
        self._check_unchanged()
        parameter = next(self.network.parameters(), None)
        moved = inputs if parameter is None else to_device(inputs, parameter.device)
        with preserving(self.network), torch.no_grad():
            found = self._found(moved)
        if not isinstance(found, Tensor) or found.dim() < 2:
            got = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            where = "the network returns" if self.into is None else f"layer {self.into!r} reads"
            raise ContextError(
                f"{where} {got}, expected a tensor [N, ...]: choose a layer with into=, or give "
                "extract=, a function inputs -> features [N, F]"
            )
        return found.flatten(1)

    def __repr__(self) -> str:
        into = "" if self.into is None else f", into={self.into!r}"
        return f"NetworkFeatures({type(self.network).__name__}{into})"

    def _found(self, inputs: Any) -> Any:
        if self.into is None:
            return default_forward(self.network, inputs)
        read: list[Any] = []
        layer = self.network.get_submodule(self.into)
        handle = layer.register_forward_pre_hook(lambda _, given: read.append(given[0]))
        try:
            default_forward(self.network, inputs)
        finally:
            handle.remove()
        return read[0] if len(read) == 1 else None

    def _check_unchanged(self) -> None:
        versions = [p._version for p in self.network.parameters()]
        if self._versions is not None and versions != self._versions:
            warnings.warn(
                f"the {type(self.network).__name__} that makes the features changed since the "
                "first call, so statistics taken before no longer fit: freeze it, or give a copy",
                GrowmasWarning,
                stacklevel=3,
            )
        self._versions = versions
