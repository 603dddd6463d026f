"""Explanations of plans: the effect on widths, parameters and FLOPs, as numbers and a table."""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from itertools import pairwise
from typing import Any

import torch
from rich import box
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult, RichCast
from rich.table import Table
from torch import nn

from growmas.errors import SurgeryError
from growmas.structure.analysis.architecture import layer_flops
from growmas.structure.surgery.tensor_swap import reordering, swap_tensors
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.inventory import Inventory
from growmas.structure.units.plan import Plan


@dataclass(frozen=True)
class GroupEffect:
    """The effect of a plan on one group.

    Attributes:
        name: Name of the group.
        kind: Name of its units, in the plural.
        width: Number of units before and after.
        dropped: Ids of the units that are removed.
        added: Number of fresh units.
        parameters: Change of the network's parameters, after the groups before this one.
        flops: Change of the network's FLOPs, after the groups before this one.
        predicted_error: Largest relative error of a layer that reads the group, as
            `Structure.select` predicted it; None for other plans.
    """

    name: str
    kind: str
    width: tuple[int, int]
    dropped: tuple[int, ...]
    added: int
    parameters: int
    flops: int
    predicted_error: float | None = None


@dataclass(frozen=True)
class Cost:
    """The cost of a network.

    Attributes:
        parameters: Number of parameters.
        flops: FLOPs of one forward pass of the structure's example inputs, see `Explanation`.
        units: Number of living units, over all groups.
    """

    parameters: int
    flops: int
    units: int


@dataclass(frozen=True)
class Explanation:
    """The effect that a plan would have; printing it gives a table.

    Each group's change is counted after those before it, so that the groups add up to the whole;
    the changes of groups that are tied to each other are counted with the last of them. FLOPs are
    those of one forward pass of the structure's example inputs, as `torch.utils.flop_counter`
    counts them: two for a multiplication and addition, in matrix products, convolutions and
    attention only.

    Attributes:
        groups: Effects on the groups, in the order of the plan.
        parameters: Parameters of the whole network, before and after.
        flops: FLOPs of the whole network, before and after.
        reason: The reason in the plan.
    """

    groups: tuple[GroupEffect, ...]
    parameters: tuple[int, int]
    flops: tuple[int, int]
    reason: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table, in ASCII if the console has nothing else."""
        yield _table(self, _ASCII if options.ascii_only else _UNICODE)

    def __str__(self) -> str:
        """Return the table as text."""
        return printed(self)


def printed(view: RichCast | ConsoleRenderable) -> str:
    """Return what rich would print, as text 100 columns wide without colours."""
    console = Console(width=100, color_system=None, file=StringIO())
    with console.capture() as capture:
        console.print(view)
    return capture.get().rstrip()


def explain(
    model: nn.Module,
    run: Callable[[nn.Module], Any],
    groups: Mapping[str, UnitGroup],
    plan: Plan,
) -> Explanation:
    """Carry out `plan` group by group on a copy of the model, and count.

    Args:
        model: The network; it is not changed.
        run: Runs one forward pass.
        groups: Its groups.
        plan: A plan that fits.

    Raises:
        SurgeryError: The changed network does not run.
    """
    trial, touched = copy.deepcopy(model), [n for n in plan.groups if _part(plan, [n])]
    sizes, living, waiting = [_size(trial, run)], dict(groups), []
    for name in touched:
        waiting.append(name)
        try:
            living, size = _step(trial, run, living, _part(plan, waiting))
        except SurgeryError:
            if name == touched[-1]:
                raise
            size = sizes[-1]  # tied to a later group: try again together with it
        else:
            waiting = []
        sizes.append(size)
    effects = tuple(
        GroupEffect(
            name,
            groups[name].kind,
            (groups[name].width, living[name].width),
            tuple(sorted(plan.removed.get(name, ()))),
            plan.added.get(name, 0),
            after[0] - before[0],
            after[1] - before[1],
            predicted_errors(plan).get(name),
        )
        for name, (before, after) in zip(touched, pairwise(sizes), strict=True)
    )
    parameters, flops = zip(sizes[0], sizes[-1], strict=True)
    return Explanation(effects, parameters, flops, plan.reason)


def cost_after(
    model: nn.Module,
    run: Callable[[nn.Module], Any],
    groups: Mapping[str, UnitGroup],
    plan: Plan,
) -> Cost:
    """Return the cost that the network would have, counted on a copy of the model.

    Args:
        model: The network; it is not changed.
        run: Runs one forward pass.
        groups: Its groups.
        plan: A plan that fits.

    Raises:
        SurgeryError: The changed network does not run.
    """
    living = dict(groups)
    if plan:
        simple = _part(plan, list(plan.groups))
        living, size = _step(copy.deepcopy(model), run, living, simple)
    else:
        size = _size(model, run)
    return Cost(*size, sum(group.width for group in living.values()))


def predicted_errors(plan: Plan) -> dict[str, float]:
    """Return the largest error of a reader that `Structure.select` predicted, by group name."""
    errors = plan.cause.get("predicted_error", {})
    if not isinstance(errors, Mapping):
        return {}
    return {
        name: max(map(float, by.values()))
        for name, by in errors.items()
        if isinstance(by, Mapping) and by
    }


def _step(
    trial: nn.Module,
    run: Callable[[nn.Module], Any],
    groups: Mapping[str, UnitGroup],
    plan: Plan,
) -> tuple[dict[str, UnitGroup], tuple[int, int]]:
    """Carry out a part of the plan; return the groups after it, and `_size`."""
    inventory = Inventory(trial)
    new = reordering(inventory, groups, plan, 0)
    swap = swap_tensors(inventory, groups.values(), new.sources, torch.Generator())
    try:
        return new.groups, _size(trial, run)
    except Exception as error:
        swap.undo()
        raise SurgeryError(
            f"after changing {', '.join(plan.groups)} the forward pass fails ({error}); layers "
            "that are tied must change together"
        ) from error


def _part(plan: Plan, names: list[str]) -> Plan:
    """Return the part of a plan that concerns some groups."""
    return Plan(
        prune={name: ids for name, ids in plan.removed.items() if name in names},
        grow={name: count for name, count in plan.added.items() if name in names},
    )


def _size(model: nn.Module, run: Callable[[nn.Module], Any]) -> tuple[int, int]:
    """Return the number of parameters, and the FLOPs of one forward pass."""
    return sum(p.numel() for p in model.parameters()), layer_flops(model, run)[""]


@dataclass(frozen=True)
class _Symbols:
    arrow: str
    minus: str
    nothing: str
    ellipsis: str
    rule: box.Box


_UNICODE = _Symbols("→", "−", "·", "…", box.SIMPLE_HEAD)
_ASCII = _Symbols("->", "-", ".", "...", box.ASCII)
_LISTED = 6


def _table(explanation: Explanation, symbols: _Symbols) -> Table:
    table = Table(
        box=symbols.rule,
        title=explanation.reason or None,
        title_justify="left",
        show_footer=True,
    )
    (p0, p1), (f0, f1) = explanation.parameters, explanation.flops
    table.add_column("group", "network", overflow="fold")
    table.add_column("width", justify="right")
    before_after = f"{p0:,} {symbols.arrow} {p1:,}"
    table.add_column("parameters", before_after, justify="right")
    table.add_column("FLOPs", f"{f0:,} {symbols.arrow} {f1:,}", justify="right")
    table.add_column("dropped", overflow="fold")
    table.add_column("fresh", justify="right")
    predicted = any(effect.predicted_error is not None for effect in explanation.groups)
    if predicted:
        table.add_column("predicted error", justify="right")
    for effect in explanation.groups:
        before, after = effect.width
        table.add_row(
            effect.name,
            f"{before:,} {symbols.arrow} {after:,}",
            _change(effect.parameters, symbols),
            _change(effect.flops, symbols),
            _listed(effect.dropped, symbols),
            f"{effect.added:,}" if effect.added else symbols.nothing,
            *([_share(effect.predicted_error, symbols)] * predicted),
        )
    return table


def _change(number: int, symbols: _Symbols) -> str:
    return f"{number:+,}".replace("-", symbols.minus) if number else "0"


def _share(error: float | None, symbols: _Symbols) -> str:
    return symbols.nothing if error is None else f"{error:.1%}"


def _listed(units: tuple[int, ...], symbols: _Symbols) -> str:
    """Return ids in words: their number, and the first few as runs, "6: 3-7, 12"."""
    if not units:
        return symbols.nothing
    runs = [f"{a}-{b}" if b > a else f"{a}" for a, b in _runs(units)]
    more = f", {symbols.ellipsis}" if len(runs) > _LISTED else ""
    return f"{len(units):,}: {', '.join(runs[:_LISTED])}{more}"


def _runs(units: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Yield the first and last id of every run of consecutive ids."""
    first = last = units[0]
    for unit in units[1:]:
        if unit != last + 1:
            yield first, last
            first = unit
        last = unit
    yield first, last
