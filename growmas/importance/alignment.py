"""Alignment: a proof, from one forward pass, that rows of every tensor belong to known samples.

A worked example: tokens x [4, 7, 16] of N = 4 samples go through

    q = linear(x)                  x has samples in dimension 0    ->  q [4, 7, 16] too
    h = q.view(4, 7, 2, 8)         dimension 0 is kept             ->  h too
    h = h.transpose(1, 2)          dimension 0 is not moved        ->  h [4, 2, 7, 8] too
    w = h.flatten(0, 1)            [8, 7, 8], 8 = 4 samples × 2    ->  `Aligned(0, each=2)`
    y = w.mean(0)                  mixes the samples               ->  unknown, and the proof fails

A `TorchFunctionMode` sees every torch function that a forward pass calls, so the state of its
results can be computed from the states of its arguments, one small rule per function. If every
function that reads data of the batch has a rule, and no rule fails, then no sample has influenced
another, and each row of each recorded operation belongs to the sample that its state names. The
rules of importance may then be used as they are. This costs some microseconds per function.

If the proof fails, nothing is known to be wrong: `y[mask]` has no rule, since its rows depend on
the values of the mask. Then `ownership` measures which row belongs to which sample, at the price of
further passes.

States: `Aligned` rows belong to samples; `FIXED` does not depend on the batch (parameters, a mask);
`UNIFORM` is FIXED with equal entries (zeros), so that it fits any samples; `MIXED` may depend on
several samples; None is unknown.

What is MIXED does not end the proof yet. `if mask.all(): ...` only decides by it; and multiplied
with the data of samples, a MIXED mask that has no gradient cannot lead a gradient from one sample
to another. But its values may, so the batch must then be compared with parts of itself (`judged`).
The same is true of tensors of unknown origin without a gradient, such as masks made by `vmap`.
"""

import weakref
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from growmas.importance import alignment_layers, alignment_shapes, alignment_values
from growmas.importance.alignment_rules import (
    DECISIONS,
    ESCAPES,
    FIXED,
    MIXED,
    QUERIES,
    RANDOM,
    RULES,
    UNIFORM,
    UNIFORM_MAKERS,
    Aligned,
    Call,
    Independent,
    State,
    in_place,
    tensors_in,
)
from growmas.importance.alignment_values import pointwise, reduction

__all__ = ["FIXED", "UNIFORM", "Aligned", "Alignment", "State"]

REGISTERED = (alignment_layers, alignment_shapes, alignment_values)
"""Modules whose import fills `RULES`."""


CHANGES_ITS_ARGUMENT = frozenset(function for function in RULES if in_place(function))
"""Functions with a rule that write to their first argument."""

KEEPS_EQUAL = frozenset(
    {
        pointwise, reduction, alignment_shapes.reshape, alignment_shapes.transpose,
        alignment_shapes.permute, alignment_shapes.unsqueeze, alignment_shapes.squeeze,
        alignment_shapes.expand, alignment_shapes.repeat, alignment_shapes.getitem,
        alignment_shapes.select, alignment_shapes.pieces, alignment_shapes.narrow,
    }
)  # fmt: skip
"""Rules of functions that give equal entries from equal entries; `cat` and `cumsum` do not."""


class Alignment:
    """The states of the tensors in one forward pass.

    Attributes:
        samples: N.
        proven: True as long as every function that read data of the batch kept samples apart.
        judged: True if samples may influence each other by values that have no gradient, as in
            `if x.max() > 0` or by a mask.
    """

    def __init__(self, fixed: Mapping[int, Tensor], batch: Any, samples: int) -> None:
        """Begin with the tensors of the batch, and those of the model by id, which are fixed."""
        self.samples = samples
        self.proven = samples > 0 and not _has_packed(batch)
        self.judged = False
        self._written: dict[int, Tensor] = {}  # by address, and held so that it is not used again
        self._fixed_tensors = fixed
        self._states: dict[int, tuple[weakref.ref[Tensor], State | None]] = {}
        for tensor in tensors_in(batch):
            aligned = tensor.dim() > 0 and len(tensor) == samples
            known = Aligned(0) if aligned else FIXED
            self._set(tensor, known if self.proven else None)

    def of(self, tensor: Tensor) -> State | None:
        """Return the state of a tensor; None if it is unknown."""
        key = id(tensor)
        entry = self._states.get(key)
        if entry is not None and entry[0]() is tensor:
            state = entry[1]
            written = state is UNIFORM and self._written and _memory(tensor) in self._written
            return FIXED if written else state
        return FIXED if self._fixed_tensors.get(key) is tensor else None

    def keeps(self, values: Tensor) -> bool:
        """Return True if row n of `values` provably depends on sample n alone."""
        return self.proven and self.of(values) == Aligned(0)

    def follow(self, function: Any, args: Any, kwargs: Any, output: Any) -> None:
        """Compute the states of `output` from those of the arguments of a call."""
        if function in QUERIES:
            return
        given = tensors_in(args)
        if kwargs:
            given += tensors_in(kwargs)
        states = [self._known(tensor) for tensor in given]
        if function in RANDOM:
            self._draw(function, output)
            return
        if function in UNIFORM_MAKERS:  # of a tensor, such as zeros_like, they read the shape alone
            self._keep(output, UNIFORM)
            return
        if function in ESCAPES or in_place(function):
            self._note_write(function, args[0] if args else None, states)
        for state in states:
            if state is not FIXED and state is not UNIFORM:
                break
        else:
            self._keep(output, self._fixed(function, given, output, states))
            return
        state = None
        if self.proven and None not in states:
            if function in DECISIONS:
                self.judged = True
                return
            state = self._ruled(function, args, kwargs, output, given, states)
            if state is None and _may_mix(function, kwargs, given, output, states):
                state = MIXED
        self.proven = self.proven and state is not None
        self._keep(output, state)

    def _draw(self, function: Any, output: Any) -> None:
        """Note random numbers, which may be drawn in vain, as for layers dropped in training."""
        self.judged = True
        self.proven = self.proven and not in_place(function)
        self._keep(output, MIXED)

    def _known(self, tensor: Tensor) -> State | None:
        """Return the state of an argument; MIXED if it is unknown and has no gradient."""
        state = self.of(tensor)
        return MIXED if state is None and not tensor.requires_grad else state

    def steps(self, data: Tensor, initial: Any, output: Any) -> None:
        """Compute the states after a recurrent layer on `data`, which keeps samples apart."""
        starts = {self.of(tensor) for tensor in tensors_in(initial)}
        aligned = self.of(data) == Aligned(0) and starts <= {UNIFORM, Aligned(1)}
        self.proven = self.proven and aligned
        self._keep(output, Aligned(0) if aligned else None)

    def _ruled(
        self,
        function: Any,
        args: Any,
        kwargs: Any,
        output: Any,
        given: list[Tensor],
        states: list[State | None],
    ) -> State | None:
        rule = RULES.get(function)
        if rule is None or kwargs.get("out") is not None:
            return None
        if MIXED in states and rule not in (pointwise, alignment_layers.attention):
            return None
        if rule is pointwise and len(given) == 1 and _same_shape(output, given[0]):
            return states[0]
        try:
            call = Call(args, kwargs, output, self.samples, self._known)
            state = rule(call)
        except (IndexError, KeyError, TypeError, ValueError, AttributeError, RuntimeError):
            return None  # called in a way that the rule does not know
        if function in CHANGES_ITS_ARGUMENT and self.of(args[0]) != state:
            return None  # a tensor that others may share would change its state
        self.judged = self.judged or (call.judged and state is not None)
        return state

    def _fixed(
        self, function: Any, given: list[Tensor], output: Any, states: list[State | None]
    ) -> State:
        """Return the state of a result that does not depend on the batch."""
        if not isinstance(output, Tensor) or not states:
            return FIXED
        rule = RULES.get(function)
        if rule in KEEPS_EQUAL and all(state is UNIFORM for state in states):
            return UNIFORM
        if output.dim() == 0 or len(output) != self.samples:
            return FIXED
        looked_up = rule is alignment_layers.embedding and states[0] is UNIFORM
        copied = rule is alignment_shapes.repeat and _first_alike(given[0], output)
        same = looked_up or copied or output.stride(0) == 0
        return Aligned(0) if same else FIXED  # the same row for every sample

    def _note_write(self, function: Any, target: Any, states: list[State | None]) -> None:
        """Note that a tensor of equal entries, or a part of one, may now have others."""
        if not isinstance(target, Tensor) or not isinstance(self.of(target), Independent):
            return
        alike = RULES.get(function) is pointwise and all(state is UNIFORM for state in states)
        if target._base is not None or not alike:
            self._written[_memory(target)] = target

    def _keep(self, output: Any, state: State | None) -> None:
        if isinstance(output, Tensor):
            self._states[id(output)] = (weakref.ref(output), state)
            return
        for tensor in tensors_in(output):
            self._set(tensor, state)

    def _set(self, tensor: Tensor, state: State | None) -> None:
        self._states[id(tensor)] = (weakref.ref(tensor), state)


def _may_mix(
    function: Any,
    kwargs: Mapping[str, Any],
    given: list[Tensor],
    output: Any,
    states: list[State | None],
) -> bool:
    """Return True if a result may be MIXED, and the proof goes on: nothing else can be affected.

    Functions that write, and those that join data of samples with what is MIXED, end it.
    """
    if in_place(function) or function in ESCAPES or kwargs.get("out") is not None:
        return False
    if function not in RULES and any(t.requires_grad for t in (*given, *tensors_in(output))):
        return False
    apart = MIXED not in states or all(s is MIXED or isinstance(s, Independent) for s in states)
    return apart or not any(tensor.requires_grad for tensor in tensors_in(output))


def _memory(tensor: Tensor) -> int:
    """Return the address of the memory that a tensor shares with its views; 0 inside `vmap`."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):
        return 0


def _first_alike(given: Tensor, output: Tensor) -> bool:
    """Return True if `repeat` has copied the whole of a tensor along a first dimension."""
    return output.dim() > given.dim() or (output.dim() == given.dim() and len(given) == 1)


def _has_packed(batch: Any) -> bool:
    """Return True if a batch has packed sequences, whose rows are sorted by step."""
    if isinstance(batch, PackedSequence):
        return True
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    return isinstance(batch, tuple | list) and any(map(_has_packed, batch))


def _same_shape(output: Any, given: Tensor) -> bool:
    return isinstance(output, Tensor) and output.shape == given.shape
