"""Derived weights: expressions of parameters that are used where rules expect a parameter.

A worked example: a linear layer under `weight_norm` computes W = g v / ‖v‖ and calls
`linear(x, W)`. The rule of `linear` gives the gradient of each sample with respect to W, and W is
the same for all samples, so that the chain rule gives those of g and v: one product with the
Jacobian of W for each sample, all at once (`is_grads_batched`). The same holds for

    table[index].view(...).permute(...)     a relative position bias, added to all attention maps
    sin(w), normalize(w), w1 @ w2           any expression, multiplied, added, or used as a weight

It may only be used if nothing else reads W, and if the parameters have no other influence. The
graph tells: every edge into the node of W must come from a recorded use, and below that node the
graph is cut off, so that reads of parameters elsewhere are counted as usual.
"""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from growmas.importance.gradients import Gather, Gradient, Power, magnitude
from growmas.importance.graph import Graph, leaves_below
from growmas.importance.operations import Bound, Rule
from growmas.importance.uses import Use


@dataclass(frozen=True, eq=False)
class Derived:
    """Gradients of a parameter through expressions of it.

    Attributes:
        parts: Gradients with respect to each expression, and the expression.
        leaf: The parameter.
    """

    parts: tuple[tuple[Gradient, Tensor], ...]
    leaf: nn.Parameter

    @property
    def elements(self) -> int:
        """Number of elements of the gradients of expressions and parameter for a few samples."""
        own = self.leaf.numel()
        return sum(part.elements + 2 * (whole.numel() + own) for part, whole in self.parts)

    def join(self, other: "Derived") -> "Derived":
        """Add the gradients of another use."""
        return Derived((*self.parts, *other.parts), self.leaf)

    def gathered(self, gather: Gather) -> "Derived":
        """Sum the rows of each sample."""
        parts = tuple((part.gathered(gather), whole) for part, whole in self.parts)
        return Derived(parts, self.leaf)

    def dense(self, parameter: Tensor) -> Tensor:
        """Return the gradients, [N, *shape of the parameter]."""
        found = [_pulled_back(part.dense(whole), whole, self.leaf) for part, whole in self.parts]
        return sum(found[1:], found[0])

    def add_to(self, total: Tensor, power: Power = 1) -> None:
        """Add Σ_n |gradient|^power."""
        total += magnitude(self.dense(total).to(total.dtype), power).sum(0).view_as(total)


def _pulled_back(gradients: Tensor, whole: Tensor, leaf: Tensor) -> Tensor:
    """Return the gradients of a parameter from those of an expression of it, [N, ...]."""
    cotangents = gradients.to(whole.dtype)

    def one(given: Tensor, batched: bool) -> Tensor:
        (found,) = torch.autograd.grad(
            whole,
            leaf,
            given,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=not batched,
            is_grads_batched=batched,
        )
        return leaf.new_zeros(len(given), *leaf.shape) if found is None else found

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop")
            return one(cotangents, batched=True)
    except RuntimeError:  # an operation that cannot be mapped over
        return torch.stack([one(cotangent, batched=False) for cotangent in cotangents])


def with_derived(
    graph: Graph, values: Tensor, uses: Iterable[Use], wanted: Mapping[int, nn.Parameter]
) -> tuple[Graph, list[Use]]:
    """Make the uses of derived weights uses of the parameters below them.

    Args:
        graph: Graph of the objective.
        values: The objective.
        uses: All recorded uses.
        wanted: Id -> parameter to measure.

    Returns:
        The graph without what lies below derived weights, and the uses in it.
    """
    reached = [use for use in uses if graph.has(use)]
    reads: dict[Any, int] = {}
    for use in reached:
        for whole in use.derived.values():
            reads[whole.grad_fn] = reads.get(whole.grad_fn, 0) + 1
    complete = {node for node, count in reads.items() if graph.edges_into(node) == count}
    if not complete:
        return graph, reached
    cut = Graph(values, below=complete)
    below = {node: [wanted[i] for i in leaves_below(node) if i in wanted] for node in complete}
    return cut, [_through(use, below) for use in reached if cut.has(use)]


def _through(use: Use, below: Mapping[Any, list[nn.Parameter]]) -> Use:
    """Return the use with the parameters below its derived weights."""
    derived = {a: whole for a, whole in use.derived.items() if whole.grad_fn in below}
    if not derived:
        return use
    leaves = {
        f"{argument}.{number}": (argument, leaf)
        for argument, whole in derived.items()
        for number, leaf in enumerate(below[whole.grad_fn])
    }
    inner = use.rule

    def gradients(bound: Bound, delta: Tensor) -> dict[str, Gradient]:
        found = inner.gradients(bound, delta)
        for name, (argument, leaf) in leaves.items():
            found[name] = Derived(((found[argument], derived[argument]),), leaf)
        return found

    rule: Rule = replace(inner, gradients=gradients, direct=None)
    parameters = {**use.parameters, **{name: leaf for name, (_, leaf) in leaves.items()}}
    return replace(use, rule=rule, parameters=parameters, hidden=use.hidden | leaves.keys())
