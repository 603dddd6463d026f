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
`UNIFORM` is FIXED with equal entries (zeros), so that it fits any samples; None is unknown.
"""

import weakref
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from growmas.importance import alignment_layers, alignment_shapes, alignment_values
from growmas.importance.alignment_rules import (
    FIXED,
    QUERIES,
    RANDOM,
    RULES,
    UNIFORM,
    UNIFORM_MAKERS,
    Aligned,
    Call,
    State,
    in_place,
    tensors_in,
)
from growmas.importance.alignment_values import pointwise

__all__ = ["FIXED", "UNIFORM", "Aligned", "Alignment", "State"]

REGISTERED = (alignment_layers, alignment_shapes, alignment_values)
"""Modules whose import fills `RULES`."""


CHANGES_ITS_ARGUMENT = frozenset(function for function in RULES if in_place(function))
"""Functions with a rule that write to their first argument."""


class Alignment:
    """The states of the tensors in one forward pass.

    Attributes:
        samples: N.
        proven: True as long as every function that read data of the batch kept samples apart.
    """

    def __init__(self, fixed: Mapping[int, Tensor], batch: Any, samples: int) -> None:
        """Begin with the tensors of the batch, and those of the model by id, which are fixed."""
        self.samples = samples
        self.proven = samples > 0 and not _has_packed(batch)
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
            return entry[1]
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
        states = [self.of(tensor) for tensor in given]
        if function in RANDOM:
            self.proven = False
        if function in UNIFORM_MAKERS:  # of a tensor, such as zeros_like, they read the shape alone
            self._keep(output, UNIFORM)
            return
        for state in states:
            if state is not FIXED and state is not UNIFORM:
                break
        else:
            self._keep(output, self._fixed(output, states))
            return
        state = None
        if self.proven and None not in states:
            state = self._ruled(function, args, kwargs, output, given, states)
        self.proven = self.proven and state is not None
        self._keep(output, state)

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
        if rule is pointwise and len(given) == 1 and _same_shape(output, given[0]):
            return states[0]
        try:
            state = rule(Call(args, kwargs, output, self.samples, self.of))
        except (IndexError, KeyError, TypeError, ValueError, AttributeError):
            return None  # called in a way that the rule does not know
        if function in CHANGES_ITS_ARGUMENT and self.of(args[0]) != state:
            return None  # a tensor that others may share would change its state
        return state

    def _fixed(self, output: Any, states: list[State | None]) -> State:
        """Return the state of a result that does not depend on the batch."""
        if not isinstance(output, Tensor) or not states:
            return FIXED
        if all(state is UNIFORM for state in states):
            return UNIFORM
        expanded = output.dim() > 0 and len(output) == self.samples and output.stride(0) == 0
        return Aligned(0) if expanded else FIXED  # the same row for every sample

    def _keep(self, output: Any, state: State | None) -> None:
        if isinstance(output, Tensor):
            self._states[id(output)] = (weakref.ref(output), state)
            return
        for tensor in tensors_in(output):
            self._set(tensor, state)

    def _set(self, tensor: Tensor, state: State | None) -> None:
        self._states[id(tensor)] = (weakref.ref(tensor), state)


def _has_packed(batch: Any) -> bool:
    """Return True if a batch has packed sequences, whose rows are sorted by step."""
    if isinstance(batch, PackedSequence):
        return True
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    return isinstance(batch, tuple | list) and any(map(_has_packed, batch))


def _same_shape(output: Any, given: Tensor) -> bool:
    return isinstance(output, Tensor) and output.shape == given.shape
