"""Features that a network computes, as an extractor for contexts."""

import warnings
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from growmas.batches import default_forward, to_device
from growmas.errors import ContextError, GrowmasWarning
from growmas.preserving import preserving


class NetworkFeatures:
    """Take as features the output of a network, or the input of one of its layers, as [N, F].

    The network is run in eval mode, without gradients, and left bit-identical. It must stay as it
    was at the first call: statistics of older features say nothing about newer ones. Of a network
    that learns on, `copy=True` freezes a copy at the first call, which is before a context takes
    its first statistic; a state then has the weights of the copy.

    >>> net = nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3))
    >>> NetworkFeatures(net, into="2")(torch.rand(4, 8)).shape
    torch.Size([4, 5])

    Args:
        network: Any module. Inputs are a tensor, a tuple whose first entry is the input, or a dict
            of keyword arguments, see `mas_importance`.
        into: Name of the layer whose input is taken, such as the head; None takes the output.
        copy: Freeze a copy at the first call.

    Raises:
        ContextError: The network has no such layer.
    """

    def __init__(self, network: nn.Module, *, into: str | None = None, copy: bool = False) -> None:
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
        self.copy = copy
        self._frozen: nn.Module | None = None
        self._versions: list[int] | None = None

    def __call__(self, inputs: Any) -> Tensor:
        """Return features [N, F].

        Warns:
            GrowmasWarning: The network changed since the first call.

        Raises:
            ContextError: There is not one tensor of features.
        """
        if self.copy and self._frozen is None:
            self._frozen = _copied(self.network)
        network = self._frozen or self.network
        self._check_unchanged(network)
        parameter = next(network.parameters(), None)
        moved = inputs if parameter is None else to_device(inputs, parameter.device)
        with preserving(network), torch.no_grad():
            found = self._found(network, moved)
        if not isinstance(found, Tensor) or found.dim() < 2:
            got = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            where = "the network returns" if self.into is None else f"layer {self.into!r} reads"
            raise ContextError(
                f"{where} {got}, expected a tensor [N, ...]: choose a layer with into=, or give "
                "extract=, a function inputs -> features [N, F]"
            )
        return found.flatten(1)

    def state_dict(self) -> dict[str, Any]:
        """Return the settings, and the weights of a frozen copy, on the CPU."""
        weights = None
        if self._frozen is not None:
            weights = {name: t.detach().cpu() for name, t in self._frozen.state_dict().items()}
        return {"into": self.into, "copy": self.copy, "weights": weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the weights of a frozen copy, unless there is one; then both must be the same.

        Raises:
            ContextError: The settings differ, the weights do, or they do not fit the network.
        """
        theirs = {"into": state.get("into"), "copy": state.get("copy")}
        ours = {"into": self.into, "copy": self.copy}
        if theirs != ours:
            raise ContextError(f"features are of {theirs} instead of {ours}: make both the same")
        weights = state["weights"]
        if weights is None:
            return
        if self._frozen is None:
            self._frozen = _copied(self.network, weights)
        held = self._frozen.state_dict()
        same = held.keys() == weights.keys() and all(
            torch.equal(held[name].cpu(), weights[name]) for name in weights
        )
        if not same:
            raise ContextError(
                "copies of networks with other weights were frozen: give the same NetworkFeatures "
                "to every context before its first update"
            )

    def __repr__(self) -> str:
        into = "" if self.into is None else f", into={self.into!r}"
        copy = ", copy=True" if self.copy else ""
        return f"NetworkFeatures({type(self.network).__name__}{into}{copy})"

    def _found(self, network: nn.Module, inputs: Any) -> Any:
        if self.into is None:
            return default_forward(network, inputs)
        read: list[Any] = []
        layer = network.get_submodule(self.into)
        handle = layer.register_forward_pre_hook(lambda _, given: read.append(given[0]))
        try:
            default_forward(network, inputs)
        finally:
            handle.remove()
        return read[0] if len(read) == 1 else None

    def _check_unchanged(self, network: nn.Module) -> None:
        versions = [p._version for p in network.parameters()]
        if self._versions is not None and versions != self._versions:
            warnings.warn(
                f"the {type(network).__name__} that makes the features changed since the first "
                "call, so statistics taken before no longer fit: freeze it, or give copy=True",
                GrowmasWarning,
                stacklevel=3,
            )
        self._versions = versions


def _copied(network: nn.Module, weights: Mapping[str, Tensor] | None = None) -> nn.Module:
    """Copy a network without its hooks, as it is, or with weights of a grown or pruned one.

    Raises:
        ContextError: The network has other parameters or buffers.
    """
    hooks = [
        held
        for module in network.modules()
        for held in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    ]
    copied = deepcopy(network, {id(held): type(held)() for held in hooks}).requires_grad_(False)
    if weights is None:
        return copied
    missing = set(weights) ^ set(copied.state_dict())
    if missing:
        raise ContextError(
            f"the frozen copy and the network differ in {', '.join(sorted(missing)[:5])}: give "
            "the network that the features were of"
        )
    for name, tensor in weights.items():
        owner, _, entry = name.rpartition(".")
        module = copied.get_submodule(owner)
        device = module.get_parameter(entry).device if entry in module._parameters else None
        if device is not None:
            setattr(module, entry, nn.Parameter(tensor.to(device).clone(), requires_grad=False))
        else:
            module._buffers[entry] = tensor.to(module.get_buffer(entry).device).clone()
    return copied
