"""Capture: the operations of one forward pass that read parameters, with their inputs.

A worked example: `net = Sequential(Linear(2, 3), ReLU(), Linear(3, 1))`, called on x [4, 2].

    operation      reads                 recorded as a `Use`
    F.linear       0.weight, 0.bias      rule `linear`, input x [4, 2], edge of z [4, 3]
    F.relu         -                     -
    F.linear       2.weight, 2.bias      rule `linear`, input relu(z) [4, 3], edge of y [4, 1]

`Use.edge` is the place in the autograd graph at which the gradient δ of the objective with respect
to the output of the operation arrives, here δ [4, 3] at z. With it the rule gives the per-sample
gradients δ_n x_nᵀ of 0.weight and δ_n of 0.bias.

A rule may only be used if nothing else contributes to the gradient of its parameter. The autograd
graph tells: it contains one node that reads 0.weight for every use of it, whether it was recorded
or not. `covered` keeps the parameters for which both numbers agree. With
`F.normalize(net[0].weight)` added to the objective, the graph has two reads of 0.weight and the
capture one use, so 0.weight goes to the fallback.

Two tricks are needed. The trick of the mode: a `TorchFunctionMode` sees every call of a torch
function, wherever it is made, so a weight is followed through `F.linear`, ties and subclasses, and
hooks of the user's stay outside the recorded operation. The trick of the edge: rules need the
gradient at the operation's own output. A tensor hook on that output would see the gradient after
later in-place operations (`ReLU(inplace=True)` replaces the tensor's graph node), while the edge
taken right after the call always names the operation itself.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.overrides import TorchFunctionMode

from growmas.importance import products
from growmas.importance.alignment import FIXED, Aligned, Alignment, State
from growmas.importance.attention import unfused_attention
from growmas.importance.gradients import Gradient, is_positive
from growmas.importance.graph import Graph
from growmas.importance.measurement import Measurement
from growmas.importance.operations import RULES, Bound, Rule
from growmas.importance.recurrent import HIDDEN, RECURRENT, unrolled
from growmas.importance.uses import Owners, Use

REGISTERED = (products,)
"""Modules whose import fills `RULES`."""


class Recorder(TorchFunctionMode):
    """Records the calls of torch functions that read parameters, and follows the samples.

    Attributes:
        uses: The calls that have a rule, in order.
        alignment: The states of all tensors.
        writes: True if a call replaced the data of a tensor, as moving a module does.
        dtypes: Floating-point dtypes of all results; the coarsest sets the rounding.
    """

    def __init__(self, wanted: set[int], alignment: Alignment) -> None:
        """Record the parameters with the ids `wanted`."""
        super().__init__()
        self.wanted = wanted
        self.alignment = alignment
        self.uses: list[Use] = []
        self.writes = False
        self.dtypes: set[torch.dtype] = set()
        self._shared: dict[int, tuple[Tensor, Use]] = {}

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention:
            args, kwargs = self._with_own_masks(args, kwargs)
        output = function(*args, **kwargs)
        self.alignment.follow(function, args, kwargs, output)
        if isinstance(output, Tensor):
            if output.is_floating_point():
                self.dtypes.add(output.dtype)
        elif function == _SET_DATA:
            self.writes = True
        rule = RULES.get(function)
        if rule is not None:
            self.note(rule, self._bound(rule, function, args, kwargs), output)
        if self._shared and function in ADDITIONS:
            self._note_sum(args, output)
        return output

    def _with_own_masks(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Give every sample its own copy of a learnt mask, where its gradient can be told."""
        query = args[0] if args else kwargs["query"]
        mask = args[3] if len(args) > 3 else kwargs.get("attn_mask")
        if not isinstance(mask, Tensor) or not mask.requires_grad or query.dim() != 4:
            return args, kwargs
        shared = self.alignment.of(mask) is FIXED and (mask.dim() < 4 or len(mask) == 1)
        if not shared or self.alignment.of(query) != Aligned(0):
            return args, kwargs
        shape = (1,) * (4 - mask.dim()) + tuple(mask.shape)
        copies = self.__torch_function__(Tensor.expand, (), (mask, len(query), *shape[1:]))
        if len(args) > 3:
            return (*args[:3], copies, *args[4:]), kwargs
        return args, {**kwargs, "attn_mask": copies}

    def _bound(self, rule: Rule, function: Any, args: Any, kwargs: Any) -> dict[str, Any]:
        """Return the arguments of a call by name; of a sum or product, the derived weight last."""
        if function in EITHER and len(args) == 2 and self._is_derived(args[0]):
            args = args[::-1]
        return rule.bind(args, kwargs)

    def _is_derived(self, value: Any) -> bool:
        """Return True for an expression of parameters that is the same for all samples."""
        return (
            isinstance(value, Tensor)
            and value.grad_fn is not None
            and self.alignment.of(value) is FIXED
            and id(value) not in self._shared
        )

    def _note_sum(self, args: Any, output: Tensor) -> None:
        """Move the use of a table that was looked up once for all samples to where it is added.

        `positions(arange(7))` [7, D] is computed once, so its own output gradient is a sum over
        samples. Where it is added to tokens [N, 7, D], the gradient of each sample can be told.
        """
        for tensor in args[:2]:
            held, use = self._shared.get(id(tensor), (None, None))
            if held is not tensor or use is None or not output.requires_grad:
                continue
            own = held.dim() == output.dim() and len(held) == len(output) > 1
            if not own and self.alignment.of(output) is not FIXED:  # else it has rows of its own
                del self._shared[id(tensor)]
                self.uses.remove(use)
                self.uses.append(added_to(use, held, output, self.alignment.of(output)))

    def note(
        self, rule: Rule, bound: dict[str, Any], output: Any, hidden: frozenset[str] = frozenset()
    ) -> None:
        """Record a call, if it reads a parameter that is wanted and its output needs gradients."""
        if not isinstance(output, Tensor) or not output.requires_grad or output.is_complex():
            return
        read = rule.read(bound, self.wanted)
        derived = {n: bound[n] for n in rule.parameters if self._is_derived(bound.get(n))}
        if not read and (not derived or self.alignment.of(output) is FIXED):
            return
        if rule.applies(bound):
            data = bound.get(rule.data) if rule.data else None
            positive = data is not None and is_positive(data)
            if data is None:
                bound.pop("input", None)  # the rule needs only δ: release the memory
            for name, value in bound.items():
                if name not in read and isinstance(value, Tensor) and value.requires_grad:
                    bound[name] = value.detach()
            use = Use(
                rule,
                bound,
                read,
                version=data._version if data is not None else 0,
                edge=get_gradient_edge(output),
                shape=output.shape,
                rows=rule.rows(bound, output.shape),
                state=self.alignment.of(output),
                hidden=hidden & read.keys() if hidden else hidden,
                derived=derived,
                positive=positive,
            )
            self.uses.append(use)
            if use.state is FIXED and rule.positions:
                self._shared[id(output)] = (output, use)


EITHER = frozenset({torch.add, torch.mul, Tensor.add, Tensor.mul})
"""Functions of which either argument may be the weight."""

ADDITIONS = frozenset({torch.add, Tensor.add, Tensor.add_, Tensor.__iadd__})
"""Functions that add two tensors."""


def added_to(use: Use, shared: Tensor, output: Tensor, state: State | None) -> Use:
    """Return the use of a parameter through `shared`, the same for all samples, in a sum `output`.

    The sum is [N, ...] with `shared` broadcast over N and perhaps more. Its gradient, summed over
    what was broadcast within a sample, is the gradient at `shared` for each sample, and the data
    of the original call are those of every sample.
    """
    shape = shared.shape
    inner = use.rule
    bound = {name: v for name, v in use.bound.items() if name != inner.data}
    data = use.data

    def gradients(given: Bound, delta: Tensor) -> dict[str, Gradient]:
        broadcast = (1,) * (delta.dim() - len(shape)) + tuple(shape)
        summed = [d for d in range(1, delta.dim()) if broadcast[d] == 1 != delta.shape[d]]
        delta = delta.sum(summed, keepdim=True) if summed else delta
        arguments = dict(bound)
        if data is not None and inner.data is not None:
            arguments[inner.data] = data.unsqueeze(0).expand(len(delta), *data.shape)
        return inner.gradients(arguments, delta.reshape(len(delta), *shape))

    rule = replace(inner, data=None, gradients=gradients, rows=lambda b, s: 1, positions=False)
    return Use(
        rule,
        dict(bound),
        use.parameters,
        version=0,
        edge=get_gradient_edge(output),
        shape=output.shape,
        rows=1,
        state=state,
        hidden=use.hidden,
        through=shared.grad_fn,
    )


_SET_DATA = Tensor.data.__set__  # type: ignore[attr-defined]


@contextmanager
def captured_uses(measurement: Measurement, batch: Any, samples: int) -> Iterator[Recorder]:
    """Record the operations that read parameters of a model while the context lasts.

    Operations are recorded, not modules, so that hooks of the user's, which may change inputs and
    outputs, stay outside of what is recorded. A layer with a rule from `register_rule` is recorded
    as one operation.

    Args:
        measurement: The model and the parameters.
        batch: The batch that goes through the model.
        samples: Number of samples in it, as far as it is known.
    """
    alignment = Alignment(measurement.fixed, batch, samples)
    recorder = Recorder({id(p) for p in measurement.parameters.values()}, alignment)
    replaced = [
        module
        for start in measurement.start
        for module in start.modules
        if (type(module) in RULES or type(module) in UNFUSED) and "forward" not in vars(module)
    ]
    for module in replaced:
        module.__dict__["forward"] = _followed(module, recorder)
    try:
        with recorder:
            yield recorder
    finally:
        for module in replaced:
            del module.__dict__["forward"]


UNFUSED = frozenset({nn.MultiheadAttention, *RECURRENT})
"""Layers that run as separate operations while they are recorded."""


def _followed(module: nn.Module, recorder: Recorder) -> Callable[..., Any]:
    """Return a forward of a layer that shows its operations, or is recorded as one."""
    if type(module) in RULES:
        return _as_one(module, recorder)
    if type(module) is nn.MultiheadAttention:
        return unfused_attention(module, whole_softmax=False)

    def note(parts: Tensor, data: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        bound = {"input": data, "weight": weight, "bias": bias}
        recorder.note(HIDDEN, bound, parts, frozenset({"weight", "bias"}))

    def follow(x: Tensor, state: Any, output: Any) -> None:
        recorder.alignment.steps(x, state, output)

    found: Callable[..., Any] = unrolled(module, note, follow)
    return found


def _as_one(module: nn.Module, recorder: Recorder) -> Callable[..., Any]:
    original, rule = module.forward, RULES[type(module)]

    def forward(*args: Any, **kwargs: Any) -> Any:
        inside = len(recorder.uses)
        output = original(*args, **kwargs)
        del recorder.uses[inside:]
        recorder.note(rule, {"layer": module, **rule.bind(args, kwargs)}, output)
        return output

    return forward


def covered(
    measurement: Measurement, uses: Mapping[Use, Owners], graph: Graph
) -> dict[str, tuple[tuple[Use, str], ...]]:
    """Return the parameters of which every use in `graph` is among `uses`.

    A parameter that is also used elsewhere (by an operation without a rule, through a tie, in a
    gradient that is itself differentiated) has more paths in the autograd graph than recorded uses,
    and is left out. So is a parameter whose data was overwritten after it was read.

    Args:
        measurement: The parameters.
        uses: The recorded uses whose rows have known owners.
        graph: Graph of the objective.

    Returns:
        Qualified parameter name -> its uses, each with the name of the argument.
    """
    names = {id(parameter): name for name, parameter in measurement.parameters.items()}
    found: dict[int, list[tuple[Use, str]]] = {}
    reads: dict[int, int] = {}
    for use in uses:
        for argument, parameter in use.parameters.items():
            found.setdefault(id(parameter), []).append((use, argument))
            reads[id(parameter)] = reads.get(id(parameter), 0) + (argument not in use.hidden)
    return {
        names[key]: tuple(source)
        for key, source in found.items()
        if graph.paths(key, {use.edge.node for use, _ in source}) == reads[key]
        and all(use.intact for use, _ in source)
    }
