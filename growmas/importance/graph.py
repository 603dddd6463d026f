"""The autograd graph of one forward pass, as far as it says where gradients come by."""

from collections import Counter
from collections.abc import Collection
from typing import Any

from torch import Tensor


class Graph:
    """The operations that a tensor was computed by.

    Attributes:
        reads: How often they read each parameter (each leaf), by its id.
    """

    def __init__(self, values: Tensor) -> None:
        """Walk the graph of `values` once."""
        self.reads: Counter[int] = Counter()
        self._above: dict[Any, list[Any]] = {}
        stack: list[Any] = []
        if values.grad_fn is not None:
            self._above[values.grad_fn] = []
            stack.append(values.grad_fn)
        while stack:
            node = stack.pop()
            for following, _ in node.next_functions:
                if following is None:
                    continue
                if hasattr(following, "variable"):
                    self.reads[id(following.variable)] += 1
                if following not in self._above:
                    self._above[following] = []
                    stack.append(following)
                self._above[following].append(node)

    def lowest(self, nodes: Collection[Any]) -> set[Any]:
        """Those of `nodes` that no gradient passes on its way to another of them."""
        passed: set[Any] = set()
        stack = [node for node in nodes if node in self._above]
        while stack:
            for node in self._above[stack.pop()]:
                if node not in passed:
                    passed.add(node)
                    stack.append(node)
        return set(nodes) - passed
