"""The autograd graph of one forward pass: reads of parameters, and the order of nodes."""

from collections import Counter
from collections.abc import Collection
from typing import Any

from torch import Tensor

BETWEEN = 4
"""Most nodes between a parameter and the node of an operation that reads it: a cast, a transpose,
the product, and a view of it."""


class Graph:
    """The autograd nodes that a tensor was computed by.

    Attributes:
        reads: Id of each leaf, such as a parameter -> number of nodes that read it.
    """

    def __init__(self, values: Tensor, below: Collection[Any] = ()) -> None:
        """Walk the graph of `values` once, without what lies below some nodes."""
        self.reads: Counter[int] = Counter()
        self._leaves: dict[int, Any] = {}
        self._above: dict[Any, list[Any]] = {}
        stack: list[Any] = []
        if values.grad_fn is not None:
            self._above[values.grad_fn] = []
            stack.append(values.grad_fn)
        while stack:
            node = stack.pop()
            if node in below:
                continue
            for following, _ in node.next_functions:
                if following is None:
                    continue
                if hasattr(following, "variable"):
                    self.reads[id(following.variable)] += 1
                    self._leaves[id(following.variable)] = following
                if following not in self._above:
                    self._above[following] = []
                    stack.append(following)
                self._above[following].append(node)

    def has(self, use: Any) -> bool:
        """Return True if gradients reach a use, and all of those of its parameters pass there."""
        alone = use.through is None or len(self._above.get(use.through, ())) == 1
        return use.edge.node in self._above and alone

    def has_node(self, name: str) -> bool:
        """Return True if a node has this name."""
        return any(node.name() == name for node in self._above)

    def paths(self, leaf: int, ends: Collection[Any]) -> int:
        """Count the paths from a leaf up to `ends`, or to some nodes further than they can be.

        Args:
            leaf: Id of the leaf.
            ends: Nodes of operations that read it; casts and transposes may lie between.
        """

        def count(node: Any, steps: int) -> int:
            above = self._above.get(node, ())
            if node in ends or steps == 0 or not above:
                return 1
            return sum(count(following, steps - 1) for following in above)

        node = self._leaves.get(leaf)
        return 0 if node is None else sum(count(n, BETWEEN) for n in self._above[node])

    def edges_into(self, node: Any) -> int:
        """Return the number of edges that end at a node."""
        return len(self._above.get(node, ()))

    def lowest(self, nodes: Collection[Any]) -> set[Any]:
        """Return the nodes that gradients reach last: none of the others lies behind them."""
        passed: set[Any] = set()
        stack = [node for node in nodes if node in self._above]
        while stack:
            for node in self._above[stack.pop()]:
                if node not in passed:
                    passed.add(node)
                    stack.append(node)
        return set(nodes) - passed


def leaves_below(node: Any) -> set[int]:
    """Return the ids of the leaves that a node was computed from."""
    found, seen, stack = set(), {node}, [node]
    while stack:
        for following, _ in stack.pop().next_functions:
            if following is None or following in seen:
                continue
            seen.add(following)
            stack.append(following)
            if hasattr(following, "variable"):
                found.add(id(following.variable))
    return found
