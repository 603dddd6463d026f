"""FLOPs of one sample; this is the one place where they are counted.

A worked example. Eight samples go through a body and one of two heads, in a `forward=` that calls
the model once for each task:

    >>> class TwoHeads(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.body = nn.Linear(8, 12)
    ...         self.heads = nn.ModuleList([nn.Linear(12, 2), nn.Linear(12, 3)])
    ...     def forward(self, x, task):
    ...         return self.heads[task](self.body(x).relu())
    >>> x = torch.rand(8, 8)
    >>> found = sample_flops(TwoHeads(), x, lambda model, x: [model(x, 0), model(x, 1)])
    >>> found.layers
    {'': 264, 'body': 192, 'heads': 0, 'heads.0': 48, 'heads.1': 72}

Two for a multiplication and addition, in matrix products, convolutions, attention and recurrent
layers; nothing else is counted. 264 = 192 + 72: the costliest head is counted, not both, and the
body once.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.utils.flop_counter import FlopCounterMode

from growmas.batches import batch_size, float_tensors, leading_size
from growmas.preserving import preserving
from growmas.structure.inspection.flop_formulas import FORMULAS

Key = tuple[int, str]
"""Number of a call of the model, 0 outside of any, and the name of a module that runs in it."""


@dataclass(frozen=True)
class FlopCount:
    """FLOPs of one sample in one forward pass.

    Attributes:
        layers: Qualified module name -> FLOPs, submodules included; "" has those of the network.
            Empty if they were not counted.
        samples: Number of samples in the example inputs.
        uncounted: Why they were not counted; empty if they were.
    """

    layers: Mapping[str, int]
    samples: int = 1
    uncounted: str = ""

    @property
    def total(self) -> int | None:
        """FLOPs of the network; None if they were not counted."""
        return self.layers.get("")


def sample_flops(
    model: nn.Module, example_inputs: Any, forward: Callable[[nn.Module, Any], Any]
) -> FlopCount:
    """Count the FLOPs of one sample in the network and in each of its modules.

    A task runs its own head only. So, where `forward` calls the model several times, calls that run
    different modules are alternatives, of which the costliest is counted, and calls that run the
    same modules add up. Within a call, modules of one `ModuleList` or `ModuleDict` that read the
    same tensor and give one output of the network each are alternatives too.

    Args:
        model: The network; it is left as it was.
        example_inputs: A batch. Its number of samples is the length of the first axis, if the
            outputs have it too; else it is one sample.
        forward: (model, example inputs) -> output.

    Returns:
        The count, or why there is none: an operation may not bear the counter.

    Raises:
        Exception: Whatever the forward pass raises without being counted, too.
    """
    calls = _Calls(model)
    counter = FlopCounterMode(display=False, custom_mapping=FORMULAS)
    # torch's own names modules by class, and fails where a custom function has no gradient
    counter.mod_tracker = calls  # type: ignore[assignment]
    with preserving(model), unfused(), torch.no_grad():
        try:
            with counter:
                outputs = float_tensors(forward(model, example_inputs))
        except Exception as error:
            forward(model, example_inputs)
            return FlopCount({}, uncounted=_first_line(error))
    counted: Mapping[Any, Mapping[Any, int]] = counter.flop_counts
    counts: dict[Key, int] = {key: sum(of.values()) for key, of in counted.items()}
    samples = sample_count(example_inputs, outputs)
    total = calls.in_one_call(counts, outputs)
    return FlopCount({name: round(flops / samples) for name, flops in total.items()}, samples)


def sample_count(example_inputs: Any, outputs: list[Tensor]) -> int:
    """Return the number of samples in example inputs, at least 1."""
    size = batch_size(example_inputs) or leading_size(example_inputs) or 1
    shapes = [output.shape for output in outputs if output.dim()]
    first = next(iter(float_tensors(example_inputs)), None)
    if first is not None and first.dim() == 1:  # a single sample, unless rows come of it
        shapes = [shape for shape in shapes if len(shape) > 1]
        return size if any(shape[0] == size for shape in shapes) else 1
    tokens = size * first.shape[1] if first is not None and first.dim() > 1 else size
    agree = any(shape[0] in (size, tokens) for shape in shapes)
    return max(1, size) if agree or not shapes else 1


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


@contextmanager
def unfused() -> Iterator[None]:
    """Let transformer layers run operation by operation; their fast path is not counted."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@dataclass(eq=False)
class _Head:
    """A module of a list that ran: its name, and the identities of what it read and gave."""

    name: str
    read: Tensor | None
    gave: Any


@dataclass(eq=False)
class _Calls:
    """The modules that run, by call of the model; stands in for torch's `ModuleTracker`.

    Attributes:
        model: The network.
        parents: Keys under which an operation that runs now is counted.
        ran: Call -> names of the modules that ran in it.
    """

    model: nn.Module
    parents: set[Key] = field(default_factory=lambda: {(0, "")})
    ran: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    _stack: list[nn.Module] = field(default_factory=list)
    _heads: dict[tuple[int, str], list[_Head]] = field(default_factory=lambda: defaultdict(list))
    _call: int = 0

    def __post_init__(self) -> None:
        self._names = {module: name for name, module in self.model.named_modules()}
        self._lists = {
            child: name
            for name, module in self.model.named_modules()
            if isinstance(module, nn.ModuleList | nn.ModuleDict)
            for child in module.children()
        }

    def __enter__(self) -> "_Calls":
        self._handles = (
            hooks.register_module_forward_pre_hook(self._begin),
            hooks.register_module_forward_hook(self._end, always_call=True),
        )
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _begin(self, module: nn.Module, given: Any) -> None:
        if module not in self._names:
            return
        if module is self.model and not self._stack:
            self._call += 1
        self._stack.append(module)
        self._set_parents()

    def _end(self, module: nn.Module, given: Any, output: Any) -> None:
        if module not in self._names:
            return
        if self._stack and self._stack[-1] is module:
            self._stack.pop()
        if module in self._lists:
            first = next((part for part in given if isinstance(part, Tensor)), None)
            head = _Head(self._names[module], first, output)
            self._heads[self._now, self._lists[module]].append(head)
        self._set_parents()

    @property
    def _now(self) -> int:
        return self._call if self._stack and self._stack[0] is self.model else 0

    def _set_parents(self) -> None:
        names = {self._names[module] for module in self._stack}
        self.ran[self._now] |= names
        self.parents = {(self._now, name) for name in names | {""}}

    def in_one_call(self, counts: Mapping[Key, int], outputs: list[Tensor]) -> dict[str, int]:
        """Return module name -> FLOPs of the alternative that costs most, in the model's order."""
        by_call: dict[int, dict[str, int]] = {call: {"": 0} for call in (0, *self.ran)}
        for (call, name), flops in counts.items():
            by_call[call][name] = flops
        for call, container, excess in self._other_heads(counts, outputs):
            for name in _above(container):
                if name in by_call[call]:
                    by_call[call][name] -= excess
        shared = by_call.pop(0)
        alternatives: dict[frozenset[str], dict[str, int]] = {}
        for call, flops_of in by_call.items():
            whole = alternatives.setdefault(frozenset(self.ran[call]), defaultdict(int))
            for name, flops in flops_of.items():
                whole[name] += flops
        every = alternatives.values()
        return {
            name: shared.get(name, 0) + max((each.get(name, 0) for each in every), default=0)
            for name in self._names.values()
        }

    def _other_heads(
        self, counts: Mapping[Key, int], outputs: list[Tensor]
    ) -> Iterator[tuple[int, str, int]]:
        """Yield call, list of heads, and the FLOPs of all of them but the costliest."""
        given = {id(output) for output in outputs}
        for (call, container), heads in self._heads.items():
            by_input: dict[int, list[int]] = defaultdict(list)
            for head in heads:
                if id(head.gave) in given and head.read is not None:
                    by_input[id(head.read)].append(counts.get((call, head.name), 0))
            for flops in by_input.values():
                yield call, container, sum(flops) - max(flops)


def _above(name: str) -> Iterator[str]:
    """Yield a qualified name and those of all modules above it, up to ""."""
    while name:
        yield name
        name = name.rpartition(".")[0]
    yield ""
