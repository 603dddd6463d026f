"""Explicit layouts: units that an analysis of the graph cannot see, such as attention heads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from growmas.errors import GrowmasError
from growmas.structure.layers.axes import LayerAxes, Side, qualified_name


@dataclass(frozen=True)
class Span:
    """Where the units of a layout lie on one side of one layer.

    The side is made of blocks, one after the other; each block holds all units in order. A layer
    that gives q, k and v at once has three blocks, each with one head size for every head.

    Attributes:
        layer: The layer, by its name below the module; "" is the module itself.
        side: "out", the channels it gives, or "in", the channels it reads.
        blocks: How many positions a unit holds in each block.
        axes: Axes of the layer, where its type is not registered: those of a parameter of the
            module itself, or only its sizes.
    """

    layer: str
    side: Side
    blocks: tuple[int, ...]
    axes: LayerAxes | None = None

    def positions(self, units: int) -> Tensor:
        """[U, m] positions of each unit, for U units."""
        parts, start = [], 0
        for size in self.blocks:
            parts.append(torch.arange(start, start + units * size).view(units, size))
            start += units * size
        return torch.cat(parts, dim=1)


@dataclass(frozen=True)
class Layout:
    """A group of units inside one module, as its code lays them out.

    Attributes:
        name: What follows the module's name in the group's name, such as "heads".
        kind: What the units are called.
        units: How many there are.
        spans: Where they lie; every side that changes with them.
        no_shrink: Why units cannot be removed, or nothing.
        no_grow: Why none can be added, or nothing.
    """

    name: str
    kind: str
    units: int
    spans: Sequence[Span]
    no_shrink: str = ""
    no_grow: str = ""


Rule = Callable[[Any], Sequence[Layout]]
"""Module -> its layouts; none where the rule does not apply to this instance."""

LAYOUTS: dict[type[nn.Module] | str, Rule] = {}


def register_layout(module: type[nn.Module] | str, rule: Rule) -> None:
    """Say how modules of exactly that type lay out their units.

    The sides a layout names are its own: the analysis of the graph makes no group of them.

    Args:
        module: The class, or "module.ClassName" for a package that need not be installed.
        rule: From an instance to its layouts.
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
