"""Endings: the norm, the residual sum and the rectifier that directly follow a layer.

A convolution of a residual network is followed by three operations that are fixed by what they
read, not by where they stand in the code:

    y = conv(x)    z = batch_norm(y)    s = z + skip    relu(s)

They are found at the level of torch's own operations, so `F.relu(out + x)`, `out += x`, modules,
and norms with an activation inside look alike. An operation belongs to the ending of a layer only
if nothing else reads its input: a sum that a later block reads before the rectifier has no bounds.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU6()).eval()
    >>> found = endings({"0": net[0]}, lambda: net(torch.rand(1, 1, 4, 4)))
    >>> found["0"].norm.weight is net[1].weight, found["0"].summed, found["0"].bounds
    (True, False, (0.0, 6.0))
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

NORMS = {
    torch.ops.aten.native_batch_norm.default,
    torch.ops.aten.cudnn_batch_norm.default,
    torch.ops.aten.miopen_batch_norm.default,
    torch.ops.aten._native_batch_norm_legit.default,
    torch.ops.aten._native_batch_norm_legit_no_training.default,
}
SUMS = {torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor}
_RECTIFIERS = {torch.ops.aten.relu.default, torch.ops.aten.relu_.default}
_CLIPS = {torch.ops.aten.hardtanh.default, torch.ops.aten.hardtanh_.default}


@dataclass(frozen=True, eq=False)
class Norm:
    """The tensors of a BatchNorm that computes with running statistics.

    Attributes:
        weight: γ [C].
        bias: β [C].
        mean: Running mean [C].
        var: Running variance [C].
        eps: The constant ε.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    var: Tensor
    eps: float

    @property
    def gain(self) -> Tensor:
        """The factor γ / √(v + ε) of every channel, float64."""
        return (self.weight / (self.var + self.eps).sqrt()).detach().double()


@dataclass(frozen=True, eq=False)
class Ending:
    """What directly follows a layer.

    Attributes:
        norm: A BatchNorm; None if there is none.
        summed: True if a skip is added then.
        bounds: The values between which the result is clipped last, None for no bound.
        skip: Names of the layers that the skip depends on.
        operation: Number of the operation that adds the skip.
        depth: Number of watched layers that the result depends on.
    """

    norm: Norm | None = None
    summed: bool = False
    bounds: tuple[float | None, float | None] = (None, None)
    skip: frozenset[str] = frozenset()
    operation: int = -1
    depth: int = 0


@dataclass
class _Operation:
    function: Any
    arguments: tuple[Any, ...]
    read: list[int]
    given: int = -1


@dataclass
class _Trace(TorchDispatchMode):
    """A list of operations, with the values that they read and give, in order."""

    operations: list[_Operation] = field(default_factory=list)
    uses: defaultdict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    origins: list[frozenset[str]] = field(default_factory=list)
    numbers: dict[int, int] = field(default_factory=dict)
    alive: list[Any] = field(default_factory=list)
    outputs: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        number = len(self.operations)
        read = [self.number(tensor) for tensor in tensors_in((args, kwargs or {}))]
        self.operations.append(_Operation(func, args, read))
        for value in {*read}:
            self.uses[value].append(number)
        result = func(*args, **(kwargs or {}))
        origin = frozenset[str]().union(*(self.origins[value] for value in read))
        for tensor in tensors_in(result):
            given = self.fresh(tensor, origin)
            if self.operations[number].given < 0:
                self.operations[number].given = given
        return result

    def number(self, tensor: Tensor) -> int:
        """Return the number of the value that a tensor holds now."""
        known = self.numbers.get(id(tensor))
        return self.fresh(tensor, frozenset()) if known is None else known

    def fresh(self, tensor: Tensor, origin: frozenset[str]) -> int:
        """Number the value that a tensor holds from now on; one changed in place has a new one."""
        self.alive.append(tensor)  # so that no other tensor gets its id
        self.origins.append(origin)
        self.numbers[id(tensor)] = len(self.origins) - 1
        return len(self.origins) - 1

    def mark(self, layer: str, output: Tensor) -> None:
        """Note the output of a layer."""
        value = self.number(output)
        self.outputs[layer].append(value)
        self.origins[value] |= {layer}

    def only_use(self, value: int) -> int | None:
        """Return the one operation that reads a value; None if there is none, or are several."""
        return self.uses[value][0] if len(self.uses[value]) == 1 else None


def tensors_in(nested: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dicts, in order."""
    if isinstance(nested, Tensor):
        return [nested]
    if isinstance(nested, Mapping):
        return [t for value in nested.values() for t in tensors_in(value)]
    if isinstance(nested, tuple | list):
        return [t for value in nested for t in tensors_in(value)]
    return []


def endings(layers: Mapping[str, nn.Module], run: Callable[[], Any]) -> dict[str, Ending]:
    """Return what follows each layer; nothing for one that runs never, or more than once.

    Args:
        layers: Name -> layer, in eval mode.
        run: Runs the network once; a few samples suffice.
    """
    trace = _Trace()

    def listener(name: str) -> Callable[..., None]:
        def listen(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                trace.mark(name, output)

        return listen

    handles = [module.register_forward_hook(listener(name)) for name, module in layers.items()]
    try:
        with torch.no_grad(), trace:
            run()
    finally:
        for handle in handles:
            handle.remove()
    norms = Counter(_norm_key(each) for each in trace.operations if each.function in NORMS)
    found = {
        name: _ending(trace, trace.outputs[name][0], norms)
        if len(trace.outputs[name]) == 1
        else Ending()
        for name in layers
    }
    return _one_for_each_sum(found)


def _norm_key(operation: _Operation) -> tuple[int, ...]:
    """Return the identity of the tensors of a norm; used twice, it is not a layer's own."""
    return tuple(id(argument) for argument in operation.arguments[1:5])


def _ending(trace: _Trace, value: int, norms: Counter[tuple[int, ...]]) -> Ending:
    found = Ending(depth=len(trace.origins[value]))
    number = trace.only_use(value)
    if number is not None and norms[_norm_key(trace.operations[number])] == 1:
        norm = _norm(trace.operations[number], trace, value)
        if norm is not None:
            found, value = replace(found, norm=norm), trace.operations[number].given
            number = trace.only_use(value)
    if number is not None and (skip := _skip(trace.operations[number], value, trace)) is not None:
        found = replace(found, summed=True, skip=trace.origins[skip], operation=number)
        value = trace.operations[number].given
        number = trace.only_use(value)
    if number is not None:
        found = replace(found, bounds=_bounds(trace.operations[number]))
    return found


def _norm(operation: _Operation, trace: _Trace, value: int) -> Norm | None:
    """Return the norm that an operation is, if it is one with running statistics."""
    if operation.function not in NORMS or operation.read[0] != value:
        return None
    _, weight, bias, mean, var, *rest = operation.arguments
    training = isinstance(rest[0], bool) and rest[0]
    if training or any(tensor is None for tensor in (weight, bias, mean, var)):
        return None
    return Norm(weight, bias, mean, var, rest[-2] if isinstance(rest[-1], bool) else rest[-1])


def _skip(operation: _Operation, value: int, trace: _Trace) -> int | None:
    """Return the value that an operation adds to another of the same shape."""
    if operation.function not in SUMS or len(operation.read) != 2 or len(operation.arguments) != 2:
        return None
    first, second = operation.read
    shapes = {tensor.shape for tensor in tensors_in(operation.arguments)}
    if first == second or len(shapes) != 1:
        return None
    return second if first == value else first


def _bounds(operation: _Operation) -> tuple[float | None, float | None]:
    if operation.function in _RECTIFIERS:
        return 0.0, None
    if operation.function in _CLIPS:
        low, high = (
            (*operation.arguments[1:], -1.0, 1.0)[:2] if operation.arguments[1:] else (-1, 1)
        )
        return float(low), float(high)
    return None, None


def _one_for_each_sum(found: dict[str, Ending]) -> dict[str, Ending]:
    """Let only the deepest of the layers that end in a sum know of it: it corrects for both."""
    deepest: dict[int, str] = {}
    for name, ending in found.items():
        other = deepest.get(ending.operation)
        if ending.summed and (other is None or found[other].depth < ending.depth):
            deepest[ending.operation] = name
    return {
        name: ending
        if not ending.summed or deepest[ending.operation] == name
        else Ending(norm=ending.norm, depth=ending.depth)
        for name, ending in found.items()
    }
