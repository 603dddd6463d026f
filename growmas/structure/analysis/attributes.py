"""Attributes: the integers of a model that say how its code cuts a tensor.

An attention layer has its number of heads in an attribute, and the code reads it:

    q = self.q(x).view(batch, tokens, self.heads, self.size)

When heads come or go, `heads` must follow, and `size` must not. Which is which cannot be told from
names. So while the model is traced, its integer attributes are `Tracked`: integers that know where
they come from. Where one arrives in the shape of a `view`, or as the size of a piece of a `split`,
it is written down, with the operation and the axis. A group whose units change along that axis
takes the attribute with it (see `grouping`). A number that is written into the code has no
attribute; then the edit is refused by the verification. Modules that read numbers from a
configuration which they share get a copy of their own when theirs change.

einops takes such numbers by name, rearrange(x, "b n (h d) -> b h n d", h=self.heads), and its
layers keep them in pairs of a name and a number. It remembers what it worked out for equal numbers,
which would be those of another module; that is left out meanwhile.

Constants that are concatenated with something else are written down, too, since autograd shows
neither them nor how long they are: torch.cat((self.q_bias, torch.zeros(8), self.v_bias)).
"""

import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Entry = int | str | None
"""Which of several numbers of an attribute; None for an attribute that is a number."""

Counted = set[tuple[nn.Module, str, Entry]]

CONFIGURATIONS = ("config", "cfg")
"""Attributes with an object that holds numbers, which modules share."""


class Tracked(int):
    """An integer that knows which attribute of which module it is, or which entry of it.

    An entry is the number of one in a tuple, the number of a pair of a name and an integer, or the
    name of an attribute of a configuration. A product with a plain number, such as 3 · heads, is
    still the attribute; every product is written down, since the code may cut a tensor by it.
    """

    module: nn.Module
    name: str
    entry: Entry
    counted: Counted

    def __mul__(self, other: int) -> int:
        """Multiply by a number."""
        self.counted.add((self.module, self.name, self.entry))
        return self._with(int.__mul__(self, other), other)

    __rmul__ = __mul__

    def __floordiv__(self, other: int) -> int:
        """Divide by a number."""
        return self._with(int.__floordiv__(self, other), other)

    def _with(self, value: int, other: int) -> int:
        """Return the attribute with another value; what it is for a number that is not plain."""
        if type(other) is not int:
            return value
        return _named(self.module, self.name, value, self.entry, self.counted)


@dataclass(frozen=True, eq=False)
class AttributeUse:
    """An attribute in the shape of an operation.

    Attributes:
        module: The module that has the attribute.
        name: Its name.
        function: The operation's node in the autograd graph.
        axis: The axis of the output that has that length, counted from the front.
        entry: Which entry of the attribute it is, where it has several.
        start: Of a piece among others of other lengths, the place where it begins along the axis.
    """

    module: nn.Module
    name: str
    function: Any
    axis: int
    start: int | None = None
    entry: Entry = None


@dataclass(frozen=True, eq=False)
class Notes:
    """Notes of a forward pass that autograd does not take.

    Attributes:
        uses: Attributes in the shapes of operations.
        constants: Function of a concatenation -> the constants that it reads, by number.
        scaled: What gives the queries and keys of fused attention whose scale is the root of the
            number of their channels, by default.
        counted: Attributes that were multiplied: module, name, entry.
    """

    uses: list[AttributeUse] = field(default_factory=list)
    constants: dict[Any, dict[int, Tensor]] = field(default_factory=dict)
    scaled: set[Any] = field(default_factory=set)
    counted: Counted = field(default_factory=set)


@contextmanager
def tracked_attributes(model: nn.Module) -> Iterator[Notes]:
    """Write down, while the context lasts, which attributes and buffers operations use."""
    notes = Notes()
    replaced: list[tuple[dict[str, Any], str, Any, Any]] = []
    for module in model.modules():
        if type(module).__module__.startswith("torch.nn."):
            continue  # their sizes are known
        for name, value in vars(module).items():
            tracked = _tracked(module, name, value, notes.counted)
            if tracked is not None:
                replaced.append((vars(module), name, value, tracked))
                vars(module)[name] = tracked
    try:
        with _Watch(notes), _einops_without_memory():
            yield notes
    finally:
        for attributes, name, value, tracked in replaced:
            if attributes.get(name) is tracked:
                attributes[name] = value


def _tracked(module: nn.Module, name: str, value: Any, counted: Counted) -> Any:
    """Return an integer, or several in one object, that know their names; None for others."""
    if type(value) is int and value > 1:
        return _named(module, name, value, None, counted)
    if name in CONFIGURATIONS and isinstance(getattr(value, "__dict__", None), dict):
        copied = copy.copy(value)
        for key, n in vars(value).items():
            if type(n) is int and n > 1:
                vars(copied)[key] = _named(module, name, n, key, counted)
        return copied
    if type(value) not in (tuple, list) or not value:
        return None
    if all(type(n) is int and n > 0 for n in value):
        return type(value)(_named(module, name, n, at, counted) for at, n in enumerate(value))
    if is_pairs(value):
        pairs = enumerate(value)
        return tuple((key, _named(module, name, n, at, counted)) for at, (key, n) in pairs)
    return None


def is_pairs(value: Any) -> bool:
    """Return True for a tuple of pairs of a name and a number, as layers of einops have."""
    return type(value) is tuple and all(
        type(pair) is tuple and len(pair) == 2 and type(pair[0]) is str and isinstance(pair[1], int)
        for pair in value
    )


def number_of(module: nn.Module, name: str, entry: Entry) -> int:
    """Return the number that an attribute, or an entry of one, holds."""
    held = getattr(module, name)
    if entry is None:
        return int(held)
    if isinstance(entry, str):
        return int(vars(held)[entry])
    return int(held[entry][1] if is_pairs(held) else held[entry])


@contextmanager
def _einops_without_memory() -> Iterator[None]:
    """Let einops work its shapes out anew at every call, if it has been imported."""
    einops: Any = sys.modules.get("einops.einops")
    kept = getattr(einops, "_reconstruct_from_shape", None)
    plain = getattr(einops, "_reconstruct_from_shape_uncached", None)
    if kept is None or plain is None:
        yield
        late: Any = sys.modules.get("einops.einops")  # imported by the model's code just now
        if einops is None and hasattr(late, "_reconstruct_from_shape"):
            late._reconstruct_from_shape.cache_clear()
        return
    try:
        einops._reconstruct_from_shape = plain
        yield
    finally:
        einops._reconstruct_from_shape = kept


def _named(module: nn.Module, name: str, value: int, entry: Entry, counted: Counted) -> Tracked:
    tracked = Tracked(value)
    tracked.module, tracked.name, tracked.entry, tracked.counted = module, name, entry, counted
    return tracked


class _Watch(TorchFunctionMode):
    """Looks at the arguments of operations that give a tensor another shape, or join tensors."""

    def __init__(self, notes: Notes) -> None:
        super().__init__()
        self._notes = notes

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        place = _PLACES.get(func)
        if place is not None:
            for number, axis, start in place(args, kwargs):
                self._note(number, axis, start, result)
        elif func is F.scaled_dot_product_attention and kwargs.get("scale") is None:
            given = (*args[:2], kwargs.get("query"), kwargs.get("key"))
            self._notes.scaled.update({t.grad_fn for t in given if t is not None} - {None})
        elif func in _JOINS:
            self._note_constants(kwargs.get("tensors", args[0] if args else ()), result)
        return result

    def _note_constants(self, tensors: Sequence[Any], result: Any) -> None:
        held = {i: each for i, each in enumerate(tensors) if not each.requires_grad}
        if held and result.grad_fn is not None:
            self._notes.constants[result.grad_fn] = held

    def _note(self, number: Tracked, axis: int, start: int | None, result: Any) -> None:
        first = result if isinstance(result, Tensor) else result[0]
        if isinstance(first, Tensor) and first.grad_fn is not None:
            axis = axis % first.dim()
            use = AttributeUse(number.module, number.name, first.grad_fn, axis, start, number.entry)
            self._notes.uses.append(use)


Found = list[tuple[Tracked, int, int | None]]
"""Attribute, axis, and where a piece begins."""

Places = Callable[[Sequence[Any], dict[str, Any]], Found]


def _of_shape(args: Sequence[Any], kwargs: dict[str, Any]) -> Found:
    """Find attributes among the lengths given to `view`, `reshape` or `expand`."""
    shape = kwargs.get("shape", args[1] if len(args) == 2 else args[1:])
    lengths = shape if isinstance(shape, tuple | list) else (shape,)
    return [(n, axis, None) for axis, n in enumerate(lengths) if isinstance(n, Tracked)]


def _of_unflatten(args: Sequence[Any], kwargs: dict[str, Any]) -> Found:
    axis = kwargs.get("dim", args[1] if len(args) > 1 else 0)
    sizes = kwargs.get("sizes", args[2] if len(args) > 2 else ())
    if axis < 0:
        axis += args[0].dim()
    return [(n, axis + i, None) for i, n in enumerate(sizes) if isinstance(n, Tracked)]


def _of_split(args: Sequence[Any], kwargs: dict[str, Any]) -> Found:
    """Find attributes among the sizes given to `split`; all pieces lie along one axis."""
    sizes = kwargs.get("split_size_or_sections", kwargs.get("split_size", (*args[1:2],)))
    axis = kwargs.get("dim", args[2] if len(args) > 2 else 0)
    flat = sizes if isinstance(sizes, tuple | list) else (sizes,)
    flat = flat[0] if len(flat) == 1 and isinstance(flat[0], tuple | list) else flat
    starts = [sum(flat[:i]) if len(flat) > 1 else None for i in range(len(flat))]
    found = zip(flat, starts, strict=True)
    return [(n, axis, start) for n, start in found if isinstance(n, Tracked)]


_JOINS = frozenset({torch.cat, torch.concat, torch.concatenate})

_PLACES: dict[Any, Places] = {
    Tensor.view: _of_shape,
    Tensor.reshape: _of_shape,
    Tensor.expand: _of_shape,
    torch.reshape: _of_shape,
    Tensor.unflatten: _of_unflatten,
    torch.unflatten: _of_unflatten,
    Tensor.split: _of_split,
    torch.split: _of_split,
}
