"""Networks of the user, with a head for each task in place of their last layer."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from growmas.data.names import did_you_mean
from growmas.errors import ConfigError
from growmas.models.multihead import MultiHead

_TOLERANCE = 1e-4


class HeadedNetwork(MultiHead):
    """A network without its last layer, optional dense layers, and a linear head for each task.

    Args:
        network: Any network that gives [N, classes]; it is changed: its last layer is replaced by
            an identity.
        head: Name of that layer; None for the last Linear.
        head_sizes: The number of outputs of each head.
        adapter: Widths of dense ReLU layers before the heads.
        freeze: Patterns of names of parameters of `network` that are not trained. Layers that are
            frozen as a whole stay in eval mode, so that their norms do not change either.

    Raises:
        ConfigError: The network has no such layer, or a pattern fits nothing.
    """

    def __init__(
        self,
        network: nn.Module,
        head_sizes: Sequence[int],
        *,
        head: str | None = None,
        adapter: Sequence[int] = (),
        freeze: Sequence[str] = (),
    ) -> None:
        super().__init__()
        name, last = find_head(network, head)
        parent = network.get_submodule(name.rpartition(".")[0])
        setattr(parent, name.rpartition(".")[2], nn.Identity())
        self.network = network
        self.frozen = freeze_parameters(network, freeze)
        self._add_dense(last.in_features, adapter, head_sizes)
        self.train(self.training)

    def features(self, inputs: Tensor) -> Tensor:
        """Return what the network gives to its last layer, [N, features]."""
        return output_of(self.network(inputs))

    def train(self, mode: bool = True) -> HeadedNetwork:
        """Set the mode of all layers but those that are frozen."""
        super().train(mode)
        for name in getattr(self, "frozen", ()):
            self.network.get_submodule(name).train(False)
        return self


def output_of(output: Any) -> Tensor:
    """Return the tensor in what a network gives: itself, or its `logits`."""
    found = getattr(output, "logits", output)
    if not isinstance(found, Tensor):
        raise ConfigError(
            f"the network returned a {type(output).__name__}: expected a tensor [N, classes]",
            key=("target",),
        )
    return found


def find_head(network: nn.Module, name: str | None) -> tuple[str, nn.Linear]:
    """Return the name and the module of the last layer.

    Raises:
        ConfigError: There is none of that name, or it is not a Linear.
    """
    linears = [each for each, module in network.named_modules() if isinstance(module, nn.Linear)]
    if name is None:
        if not linears or not linears[-1]:
            raise ConfigError(
                "the network has no Linear layer to become the heads: expected one as its last "
                "layer",
                key=("head",),
            )
        name = linears[-1]
    modules = dict(network.named_modules())
    if name not in modules or not name:
        hint = did_you_mean(name, linears).replace("known:", "its Linear layers:")
        raise ConfigError(f"the network has no layer {name!r}; {hint}", key=("head",))
    found = modules[name]
    if not isinstance(found, nn.Linear):
        raise ConfigError(
            f"layer {name!r} is a {type(found).__name__}: expected a Linear, such as "
            f"{', '.join(linears[-3:])}",
            key=("head",),
        )
    return name, found


def check_head(network: nn.Module, examples: Tensor, name: str, target: str) -> None:
    """Check that a network gives what its last layer gives.

    Args:
        network: Unchanged, in any mode.
        examples: Some inputs.
        name: Of the last layer.
        target: What the config calls the network, for messages.

    Raises:
        ConfigError: The network cannot take the inputs, or something follows the layer.
    """
    seen: list[Tensor] = []
    last = network.get_submodule(name)
    hook = last.register_forward_hook(lambda module, given, output: seen.append(output))
    modes = [(module, module.training) for module in network.modules()]
    try:
        with torch.no_grad():
            output = output_of(network.eval()(examples))
    except ConfigError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"{target} cannot take inputs of shape {tuple(examples.shape)} and type "
            f"{examples.dtype}: {type(error).__name__}: {text}",
            key=("target",),
        ) from error
    finally:
        hook.remove()
        for module, mode in modes:
            module.training = mode
    if output.ndim != 2 or len(output) != len(examples):
        raise ConfigError(
            f"{target} returned shape {tuple(output.shape)} for {len(examples)} inputs: expected "
            f"({len(examples)}, classes)",
            key=("target",),
        )
    if len(seen) != 1 or seen[0].shape != output.shape or not _close(seen[0], output):
        raise ConfigError(
            f"the output of {target} is not that of its layer {name!r}: name its last layer, and "
            "leave a softmax to the loss",
            key=("head",),
        )
    if not bool(output.isfinite().all()):
        raise ConfigError(f"{target} returned NaN or infinity: check its weights", key=("target",))


def freeze_parameters(network: nn.Module, patterns: Sequence[str]) -> tuple[str, ...]:
    """Freeze the parameters whose names fit a pattern.

    Returns:
        Names of the modules all of whose parameters are frozen, and which have some.

    Raises:
        ConfigError: A pattern fits nothing.
    """
    names = [name for name, _ in network.named_parameters()]
    for position, pattern in enumerate(patterns):
        if not any(fnmatchcase(name, pattern) for name in names):
            hint = did_you_mean(pattern, names) if len(names) < 20 else ""
            shown = hint or f"names: {', '.join(names[:3])}, …"
            raise ConfigError(f"{pattern!r} fits no parameter; {shown}", key=("freeze", position))
    for name, parameter in network.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
    return tuple(
        name
        for name, module in network.named_modules()
        if (held := list(module.parameters())) and not any(each.requires_grad for each in held)
    )


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one.float(), other.float(), rtol=_TOLERANCE, atol=_TOLERANCE)
