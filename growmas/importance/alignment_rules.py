"""Alignment rules: where the samples are in the result of each torch function.

A rule gets a `Call` and returns the state of the result, or None if samples could mix. Rules are
registered by function object, not by name: a function of the same name may do something else.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Aligned:
    """Samples lie in one dimension, one after the other.

    Attributes:
        axis: The dimension, counted from 0.
        each: Number of neighbouring entries that belong to one sample.
    """

    axis: int
    each: int = 1


@dataclass(frozen=True)
class Independent:
    """The tensor does not depend on the batch.

    Attributes:
        uniform: True if all entries are equal.
    """

    uniform: bool


@dataclass(frozen=True)
class Mixed:
    """The tensor may depend on several samples at once, such as the mean over the batch."""


FIXED, UNIFORM = Independent(uniform=False), Independent(uniform=True)
MIXED = Mixed()
State = Aligned | Independent | Mixed


@dataclass(slots=True)
class Call:
    """A call of a torch function whose arguments all have a state.

    Attributes:
        args: Positional arguments.
        kwargs: Keyword arguments.
        output: The result.
        samples: N.
        state_of: Tensor -> its state.
        judged: Set by a rule if values without a gradient, such as those of a mask, may still come
            from other samples.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any
    samples: int
    state_of: Callable[[Tensor], State | None]
    judged: bool = False

    def get(self, position: int, name: str, default: Any = None) -> Any:
        """Return an argument by position or name."""
        return self.args[position] if position < len(self.args) else self.kwargs.get(name, default)

    @property
    def first(self) -> Tensor:
        """First argument, the data."""
        data: Tensor = self.args[0] if self.args else next(iter(self.kwargs.values()))
        return data

    @property
    def source(self) -> Aligned:
        """State of the first argument, which must be aligned."""
        state = self.state_of(self.first)
        if not isinstance(state, Aligned):
            raise TypeError("the data is not aligned")
        return state

    def admit(self, values: Tensor) -> bool:
        """Return True if a factor or mask cannot lead gradients from one sample to another."""
        self.judged = self.judged or not values.requires_grad
        return not values.requires_grad

    def independent(self, *values: Any) -> bool:
        """Return True if none of the tensors depends on the batch."""
        return all(isinstance(self.state_of(tensor), Independent) for tensor in tensors_in(values))


Rule = Callable[[Call], State | None]
RULES: dict[Any, Rule] = {}
"""Torch function -> its rule."""


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dicts."""
    found: list[Tensor] = []
    _collect(value, found)
    return found


def _collect(value: Any, found: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        found.append(value)
    elif isinstance(value, tuple | list):
        for entry in value:
            _collect(entry, found)
    elif isinstance(value, dict) or (type(value) not in _PLAIN and isinstance(value, Mapping)):
        for entry in value.values():
            _collect(entry, found)


_PLAIN = frozenset({int, float, bool, str, slice, type(None), torch.dtype, torch.device})
"""Types that need no search: asking for an abstract class such as `Mapping` is slow."""


def functions(names: str) -> Iterator[Any]:
    """Yield the functions of torch with these names, methods and operators included."""
    for name in names.split():
        for place in (torch, Tensor, F, torch._C._nn, torch.linalg, torch.special):
            if hasattr(place, name):
                yield getattr(place, name)


@cache
def in_place(function: Any) -> bool:
    """Return True if the function changes its first argument."""
    name = getattr(function, "__name__", "")
    if name == "__setitem__":
        return True
    if name.startswith("__i") and name != "__invert__":
        return True
    return name.endswith("_") and not name.endswith("__")


def rule_for(names: str) -> Callable[[Rule], Rule]:
    """Register a rule for the functions with these names."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(functions(names), rule))
        return rule

    return register


PROPERTIES = (
    "shape ndim device dtype layout is_cuda is_cpu is_mps is_meta is_sparse is_quantized is_nested "
    "is_leaf requires_grad itemsize nbytes names grad_fn is_mkldnn is_xpu _version output_nr"
)
"""Properties of a tensor that do not depend on its values."""

QUERIES = frozenset(
    functions(
        "dim size __len__ numel nelement ndimension is_floating_point is_complex is_contiguous "
        "stride element_size get_device storage_offset is_tensor requires_grad_ "
        "is_grad_enabled is_inference is_autocast_enabled get_autocast_dtype is_conj is_neg "
        "is_signed result_type retain_grad register_hook"
    )
) | {getattr(Tensor, name).__get__ for name in PROPERTIES.split() if hasattr(Tensor, name)}
"""Functions and properties whose results do not depend on values."""

UNIFORM_MAKERS = frozenset(
    functions("zeros ones full zeros_like ones_like full_like new_zeros new_ones new_full")
)
"""Functions whose results have equal entries, so that they fit any samples."""

DECISIONS = frozenset(
    functions("__bool__ item __int__ __float__ __index__ tolist equal is_nonzero allclose")
)
"""Functions that turn values of tensors into values of Python, which code may decide by."""

ESCAPES = frozenset(
    functions("numpy __array__ data_ptr untyped_storage storage __dlpack__ copy_ set_")
)
"""Functions by which memory is written to, or can be written to without torch."""

RANDOM = frozenset(
    functions(
        "rand randn randint randperm rand_like randn_like randint_like bernoulli normal "
        "multinomial poisson bernoulli_ normal_ uniform_ exponential_ random_ geometric_ "
        "log_normal_ cauchy_ rrelu"
    )
)
"""Functions whose results change from call to call."""


def axis_of(dim: int, rank: int) -> int:
    """Return a dimension counted from 0."""
    return dim % rank


def dims_of(dim: Any, rank: int) -> set[int]:
    """Return dimensions counted from 0.

    Raises:
        ValueError: No dimension is given, which means all of them.
    """
    if isinstance(dim, bool):  # `unbiased`, as in x.var(False)
        raise ValueError("all dimensions")
    if isinstance(dim, int):
        return {dim % rank}
    if isinstance(dim, Tensor) or not dim:
        raise ValueError("all dimensions")
    return {d % rank for d in dim}
