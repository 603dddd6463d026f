"""Inputs and activations of each layer in one forward pass, and its local gradients."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from growmas.errors import ImportanceError
from growmas.importance.attention import separate_attention
from growmas.importance.gradients import Gradient
from growmas.importance.operations import RULES, Bound, Rule

Activation = Callable[[Tensor], Tensor]

ACTIVATION = re.compile(
    r"(leaky_|p|r)?relu|relu6|[cs]?elu|gelu|glu|silu|mish|tanh|sigmoid|log_sigmoid|soft(plus|sign)"
    r"|hard(sigmoid|swish|tanh)|(hard|soft|tanh)shrink|_?threshold|clamp(_min)?"
)
"""Names of torch functions that are activations f."""

ON_THE_WAY = re.compile(
    r"(batch|layer|group|instance|rms)_norm|(adaptive_)?(avg|max)_pool[123]d"
    r"|(alpha_|feature_alpha_)?dropout[123]?d?|contiguous|flatten|permute|reshape|squeeze"
    r"|transpose|unflatten|unsqueeze|view"
)
"""Names of torch functions that may stand between a layer and its activation."""


@dataclass(eq=False)
class LocalUse:
    """One call of an operation that reads parameters.

    Attributes:
        rule: The operation's rule.
        bound: The call's arguments by name.
        names: Argument -> qualified name of the parameter it is.
        version: Version counter of the data at the call; a later one means it was overwritten.
        start: A copy of the operation's output z, the leaf of a small separate graph.
        fired: f(z) in that graph, once an activation has read z.
    """

    rule: Rule
    bound: Bound
    names: Mapping[str, str]
    version: int
    start: Tensor
    fired: Tensor | None = None

    def delta(self, activation: Activation | None = None) -> Tensor:
        """Return ∂‖f(z)‖²/∂z, [R, ...].

        f is `activation`, else the activation that read z, else the identity. The R rows are
        usually samples; a z without a dimension for samples is one row.
        """
        with torch.enable_grad():
            fired = activation(self.start) if activation else self.fired
            if fired is None:
                delta = 2 * self.start.detach()
            else:
                firing = 2 * fired.detach()
                (delta,) = torch.autograd.grad(fired, self.start, firing, retain_graph=True)
        return delta if delta.dim() > 1 else delta.unsqueeze(0)

    def gradients(self, delta: Tensor, rows: slice) -> dict[str, Gradient]:
        """Return the gradients of some rows, by argument, in the dtype of the parameters.

        Raises:
            ImportanceError: The input of the operation has been overwritten.
        """
        bound = dict(self.bound)
        dtype = bound[next(iter(self.names))].dtype
        if self.rule.data is not None:
            data = bound[self.rule.data]
            if data._version != self.version:
                raise ImportanceError(
                    f"the input of {', '.join(self.names.values())} is overwritten after it is "
                    "read: use inplace=False in the function that follows it"
                )
            data = data.expand(self.start.shape) if self.rule.broadcasts else data
            data = (data if self.start.dim() > 1 else data.unsqueeze(0))[rows]
            bound[self.rule.data] = data.to(dtype) if data.is_floating_point() else data
        return self.rule.gradients(bound, delta[rows].to(dtype))


class LocalWatcher(TorchFunctionMode):
    """Records every torch function that runs in its context, and follows the outputs of layers.

    Attributes:
        uses: The calls that read parameters and have a rule, in order.
        unknown: Names of the parameters read by a call without one.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        """Watch for parameters, given as id -> qualified name."""
        super().__init__()
        self.uses: list[LocalUse] = []
        self.unknown: set[str] = set()
        self._names = names
        self._followed: dict[int, tuple[Tensor, list[tuple[LocalUse, Tensor]]]] = {}

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        reached = self._advanced(function, args, kwargs)
        read = self._names_in((*args, *kwargs.values()))
        rule = RULES.get(function)
        bound = rule.bind(args, kwargs) if rule is not None and read else {}
        version = bound[rule.data]._version if rule is not None and rule.data in bound else 0
        output = function(*args, **kwargs)
        if read and rule is not None and rule.applies(bound):
            parameters = rule.read(bound, self._names.keys()).items()
            names = {arg: self._names[id(p)] for arg, p in parameters if id(p) in self._names}
            read -= set(names.values())
            use = LocalUse(rule, bound, names, version, _leaf(output))
            self.uses.append(use)
            reached = [*reached, (use, use.start)]
        if isinstance(output, Tensor):
            self._followed.pop(id(output), None)  # it may have been overwritten
            if reached:
                self._followed[id(output)] = (output, reached)
        if _computed(output):
            self.unknown |= read
        return output

    def _advanced(self, function: Any, args: Any, kwargs: Any) -> list[tuple[LocalUse, Tensor]]:
        """Apply `function` to the layer outputs that it reads; return the results to follow."""
        name = getattr(function, "__name__", "").removesuffix("_")
        _, behind = self._followed.get(id(args[0]), (None, [])) if args else (None, [])
        fires, passes = ACTIVATION.fullmatch(name), ON_THE_WAY.fullmatch(name)
        if not fires and not passes:
            return []
        advanced = []
        for use, reached in behind:
            with torch.enable_grad():
                further = function(
                    reached.clone(), *args[1:], **kwargs
                )  # a copy: the function may write to it
            if fires:
                use.fired = further if use.fired is None else use.fired
            elif isinstance(further, Tensor):
                advanced.append((use, further))
        return advanced

    def _names_in(self, values: Any) -> set[str]:
        nested = [v for value in values for v in (value if isinstance(value, list) else [value])]
        return {self._names[id(value)] for value in nested if id(value) in self._names}


@contextmanager
def local_uses(model: nn.Module, names: Mapping[int, str]) -> Iterator[LocalWatcher]:
    """Watch `model` while the context lasts; attention runs as separate operations."""
    with separate_attention(model), LocalWatcher(names) as watcher:
        yield watcher


def _leaf(output: Tensor) -> Tensor:
    with torch.enable_grad():
        return output.detach().clone().requires_grad_()


def _computed(output: Any) -> bool:
    """Return True if a call computed tensors, rather than a size, a device or the parameter."""
    if isinstance(output, tuple | list):
        return any(_computed(entry) for entry in output)
    return isinstance(output, Tensor) and not isinstance(output, nn.Parameter)
