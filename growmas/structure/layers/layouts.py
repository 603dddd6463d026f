"""Explicit layouts of units that an analysis of the graph cannot find, such as attention heads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from growmas.errors import GrowmasError
from growmas.structure.layers.axes import LayerAxes, Side
from growmas.structure.layers.class_names import qualified_name


@dataclass(frozen=True)
class Span:
    """The positions of a layout's units on one side of one layer.

    The side consists of blocks, one after the other; each block holds all units in order. A layer
    that gives q, k and v at once has three blocks, each with one head size for every head.

    Attributes:
        layer: The layer, by its name below the module; "" is the module itself.
        side: "out", the channels it gives, or "in", the channels it reads.
        blocks: Number of positions that a unit holds in each block.
        axes: Axes of the layer if its type is not registered: the axes of a parameter of the
            module itself, or only its sizes.
    """

    layer: str
    side: Side
    blocks: tuple[int, ...]
    axes: LayerAxes | None = None

    def positions(self, units: int) -> Tensor:
        """Return [U, m], the positions of each of U units.

        >>> Span("qkv", "out", (2, 2, 2)).positions(3).tolist()
        [[0, 1, 6, 7, 12, 13], [2, 3, 8, 9, 14, 15], [4, 5, 10, 11, 16, 17]]
        """
        parts, start = [], 0
        for size in self.blocks:
            parts.append(torch.arange(start, start + units * size).view(units, size))
            start += units * size
        return torch.cat(parts, dim=1)


@dataclass(frozen=True)
class Layout:
    """A group of units inside one module, as its code lays them out.

    Attributes:
        name: The part after the module's name in the group's name, such as "heads".
        kind: Name of the units, in the plural, such as "attention heads".
        units: Number of units.
        spans: Their positions, for every layer side that changes with them.
        no_shrink: Reason why units cannot be removed; empty if they can.
        no_grow: Reason why units cannot be added; empty if they can.
    """

    name: str
    kind: str
    units: int
    spans: Sequence[Span]
    no_shrink: str = ""
    no_grow: str = ""


LayoutRule = Callable[[Any], Sequence[Layout]]
"""Function from a module to its layouts; empty if the rule does not apply to this instance."""

LAYOUTS: dict[type[nn.Module] | str, LayoutRule] = {}


def register_layout(module: type[nn.Module] | str, rule: LayoutRule) -> None:
    """Register how modules of exactly that type lay out their units.

    The sides that a layout names belong to it: the analysis of the graph makes no group of them.

    Args:
        module: The class, or "module.ClassName" for a package that need not be installed.
        rule: Function from an instance to its layouts.
    """
    LAYOUTS[module] = rule


def layouts_of(module: nn.Module) -> Sequence[Layout]:
    """Return the layouts of a module; none for a type without a rule.

    A rule for a class of another package, which is registered by name, may have been written for
    another version of it: where it does not fit, the module is left to the analysis of the graph.
    """
    rule = LAYOUTS.get(type(module))
    if rule is not None:
        return rule(module)
    rule = LAYOUTS.get(qualified_name(type(module)))
    if rule is None:
        return ()
    try:
        return rule(module)
    except (AttributeError, KeyError, TypeError, GrowmasError):
        return ()
