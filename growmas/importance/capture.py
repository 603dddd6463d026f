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

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode

from growmas.importance.attention import unfused_attention
from growmas.importance.gradients import Gradient
from growmas.importance.graph import Graph
from growmas.importance.measurement import Measurement
from growmas.importance.operations import RULES, Rule

ARRANGEMENTS = ("first", "second", "major", "minor")
"""Where the N samples are: in dimension 0; in dimension 1; or in dimension 0, flattened together
with positions, samples outside or positions outside."""


@dataclass(frozen=True, eq=False)
class Use:
    """One call of an operation that has a rule.

    Attributes:
        rule: The rule.
        bound: The call's arguments by name.
        parameters: Argument -> parameter that it reads.
        version: Version counter of the data at the call; a later one means it was overwritten.
        edge: Edge of the autograd graph at which the gradient of the operation's own output
            arrives; later hooks and in-place operations do not affect it.
        shape: Shape of the output.
    """

    rule: Rule
    bound: dict[str, Any]
    parameters: dict[str, nn.Parameter]
    version: int
    edge: GradientEdge
    shape: torch.Size

    @property
    def data(self) -> Tensor | None:
        """Argument that holds the samples; None if the rule needs only δ."""
        return None if self.rule.data is None else self.bound[self.rule.data]

    def forget(self) -> None:
        """Release the arguments of the call, so that they need not stay in memory."""
        self.bound.clear()

    @property
    def intact(self) -> bool:
        """True if the data has not been overwritten since the call."""
        return self.data is None or self.data._version == self.version

    def arrangements(self, samples: int) -> list[str]:
        """Return the possible arrangements of the samples, the likeliest first."""
        shape = self.shape
        fits = {
            "first": len(shape) > 0 and shape[0] == samples,
            "second": len(shape) > 1 and shape[1] == samples,
            "major": len(shape) == 2 and shape[0] > samples and shape[0] % samples == 0,
            "minor": len(shape) == 2 and shape[0] > samples and shape[0] % samples == 0,
        }
        return [name for name in ARRANGEMENTS if fits[name]]

    def gradients(
        self, delta: Tensor, arrangement: str, samples: int, cut: slice
    ) -> dict[str, Gradient]:
        """Return the per-sample gradients of some samples, by argument.

        They have the dtype of the parameters; under autocast operations compute in another.
        """
        dtype = next(iter(self.parameters.values())).dtype
        bound = dict(self.bound)
        if self.data is not None and self.rule.data is not None:
            data = self.data.expand(self.shape) if self.rule.broadcasts else self.data
            data = _samples_first(data, arrangement, samples)[cut]
            bound[self.rule.data] = data.to(dtype) if data.is_floating_point() else data
        found = _samples_first(delta, arrangement, samples)[cut].to(dtype)
        return self.rule.gradients(bound, found)


def _samples_first(values: Tensor, arrangement: str, samples: int) -> Tensor:
    if arrangement == "second":
        return values.transpose(0, 1)
    if arrangement == "major":
        return values.reshape(samples, -1, *values.shape[1:])
    if arrangement == "minor":
        return values.reshape(-1, samples, *values.shape[1:]).transpose(0, 1)
    return values


class _Recorder(TorchFunctionMode):
    """Records the calls of torch functions that read parameters of the model."""

    def __init__(self, wanted: set[int]) -> None:
        super().__init__()
        self.wanted = wanted
        self.uses: list[Use] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        output = function(*args, **(kwargs or {}))
        rule = RULES.get(function)
        if rule is not None:
            self.note(rule, rule.bind(args, kwargs or {}), output)
        return output

    def note(self, rule: Rule, bound: dict[str, Any], output: Any) -> None:
        """Note a call, unless no gradient goes through it or the rule does not cover it."""
        read = {n: p for n, p in rule.read(bound).items() if id(p) in self.wanted}
        if not read or not isinstance(output, Tensor) or not output.requires_grad:
            return
        if rule.applies(bound):
            data = bound.get(rule.data) if rule.data else None
            held = {n: v if n in read else _detached(v) for n, v in bound.items()}
            if data is None:
                held.pop("input", None)  # the rule needs only δ: release the memory
            version = data._version if data is not None else 0
            edge = get_gradient_edge(output)
            self.uses.append(Use(rule, held, read, version, edge, output.shape))


def _detached(value: Any) -> Any:
    needs = isinstance(value, Tensor) and value.requires_grad
    return value.detach() if needs else value


@contextmanager
def captured_uses(measurement: Measurement) -> Iterator[list[Use]]:
    """Record the operations that read parameters of a model while the context lasts.

    Operations are recorded, not modules, so that hooks of the user's, which may change inputs and
    outputs, stay outside of what is recorded. A layer with a rule from `register_rule` is recorded
    as one operation.
    """
    recorder = _Recorder({id(parameter) for parameter in measurement.parameters.values()})
    watched = [m for m in measurement.model.modules() if "forward" not in vars(m)]
    replaced = [m for m in watched if type(m) in RULES or type(m) is nn.MultiheadAttention]
    for module in replaced:
        module.__dict__["forward"] = (
            _as_one(module, recorder) if type(module) in RULES else unfused_attention(module)
        )
    try:
        with recorder:
            yield recorder.uses
    finally:
        for module in replaced:
            del module.__dict__["forward"]


def _as_one(module: nn.Module, recorder: _Recorder) -> Callable[..., Any]:
    original, rule = module.forward, RULES[type(module)]

    def forward(*args: Any, **kwargs: Any) -> Any:
        inside = len(recorder.uses)
        output = original(*args, **kwargs)
        del recorder.uses[inside:]
        recorder.note(rule, {"layer": module, **rule.bind(args, kwargs)}, output)
        return output

    return forward


def covered(
    measurement: Measurement, uses: list[Use], graph: Graph, samples: int
) -> dict[str, tuple[tuple[Use, str], ...]]:
    """Return the parameters of which every use in `graph` is among `uses`.

    A parameter that is also used elsewhere (by an operation without a rule, through a tie) has
    more reads in the autograd graph than recorded uses, and is left out. So is a parameter read by
    an operation whose output has no dimension for the samples, or whose data was overwritten.

    Args:
        measurement: The parameters.
        uses: The recorded uses.
        graph: Graph of the objective.
        samples: N.

    Returns:
        Qualified parameter name -> its uses, each with the name of the argument.
    """
    names = {id(parameter): name for name, parameter in measurement.parameters.items()}
    found: dict[int, list[tuple[Use, str]]] = {}
    doubtful: set[int] = set()
    for use in uses:
        for argument, parameter in use.parameters.items():
            found.setdefault(id(parameter), []).append((use, argument))
            if not use.intact or not use.arrangements(samples):
                doubtful.add(id(parameter))
    return {
        names[key]: tuple(source)
        for key, source in found.items()
        if key not in doubtful and graph.reads[key] == len(source)
    }
