"""Explanations of plans: the effect on widths, parameters and FLOPs, as numbers and a table."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import pairwise
from typing import NamedTuple

import torch
from rich import box
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult, RichCast
from rich.table import Table
from torch import nn

from growmas.errors import PlanError, SurgeryError
from growmas.failures import failure
from growmas.structure.inspection.flops import FlopCount
from growmas.structure.inspection.latency import rounding_hint
from growmas.structure.surgery.tensor_swap import reordering, swap_tensors
from growmas.structure.units.duplicate import duplicate
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
        flops: Change of the network's FLOPs, after the groups before this one; None if they were
            not counted.
        predicted_error: Largest relative error of a layer that reads the group, as
            `Structure.select` predicted it; None for other plans.
    """

    name: str
    kind: str
    width: tuple[int, int]
    dropped: tuple[int, ...]
    added: int
    parameters: int
    flops: int | None
    predicted_error: float | None = None


@dataclass(frozen=True)
class Cost:
    """The cost of a network.

    Attributes:
        parameters: Number of parameters.
        flops: FLOPs of one sample, see `Explanation`; None if they were not counted.
        units: Number of living units, over all groups.
        uncounted: Why FLOPs were not counted; empty if they were.
    """

    parameters: int
    flops: int | None
    units: int
    uncounted: str = ""

    def counted_flops(self) -> int:
        """Return the FLOPs for a comparison that needs them.

        Raises:
            PlanError: They were not counted; says why.
        """
        if self.flops is None:
            raise PlanError(
                f"the FLOPs of this network cannot be counted ({self.uncounted}): set the limit or "
                "the target in parameters, or in units"
            )
        return self.flops


@dataclass(frozen=True)
class Explanation:
    """The effect that a plan would have; printing it gives a table.

    Each group's change is counted after those before it, so that the groups add up to the whole;
    the changes of groups that are tied to each other are counted with the last of them. FLOPs are
    those of one sample in a forward pass: two for a multiplication and addition, in matrix
    products, convolutions, attention and recurrent layers only. Of several heads for tasks the
    costliest is counted, see `growmas.structure.inspection.flops`.

    Attributes:
        groups: Effects on the groups, in the order of the plan.
        parameters: Parameters of the whole network, before and after.
        flops: FLOPs of the whole network, before and after; None if they were not counted.
        reason: The reason in the plan.
        uncounted: Why FLOPs were not counted, before or after; empty if they were.
        latency: Milliseconds of a forward pass of the example inputs, before and after; None if it
            was not measured.
        hint: A remark on widths for which kernels may be slow; empty if latency was not measured.
    """

    groups: tuple[GroupEffect, ...]
    parameters: tuple[int, int]
    flops: tuple[int | None, int | None]
    reason: str
    uncounted: str = ""
    latency: tuple[float, float] | None = None
    hint: str = ""

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


class _Size(NamedTuple):
    """Parameters and FLOPs of a network."""

    parameters: int
    flops: FlopCount


def explain(
    model: nn.Module,
    count: Callable[[nn.Module], FlopCount],
    groups: Mapping[str, UnitGroup],
    plan: Plan,
    timed: Callable[[Sequence[nn.Module]], Sequence[float]] | None = None,
) -> Explanation:
    """Carry out `plan` group by group on a copy of the model, and count.

    Args:
        model: The network; it is not changed.
        count: Counts the FLOPs of one sample.
        groups: Its groups.
        plan: A plan that fits.
        timed: Measures the latency of networks; None measures none.

    Raises:
        SurgeryError: The changed network does not run.
    """
    trial, touched = duplicate(model), [n for n in plan.groups if _part(plan, [n])]
    sizes, living, waiting = [_size(trial, count)], dict(groups), []
    for name in touched:
        waiting.append(name)
        try:
            living, size = _step(trial, count, living, _part(plan, waiting))
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
            after.parameters - before.parameters,
            _difference(before.flops.total, after.flops.total),
            predicted_errors(plan).get(name),
        )
        for name, (before, after) in zip(touched, pairwise(sizes), strict=True)
    )
    first, last = sizes[0], sizes[-1]
    latency, hint = None, ""
    if timed is not None:
        before_after = timed([model, trial])
        latency = before_after[0], before_after[1]
        hint = rounding_hint({name: living[name].width for name in touched}, living)
    return Explanation(
        effects,
        (first.parameters, last.parameters),
        (first.flops.total, last.flops.total),
        plan.reason,
        first.flops.uncounted or last.flops.uncounted,
        latency,
        hint,
    )


def cost_after(
    model: nn.Module,
    count: Callable[[nn.Module], FlopCount],
    groups: Mapping[str, UnitGroup],
    plan: Plan,
) -> Cost:
    """Return the cost that the network would have, counted on a copy of the model.

    Args:
        model: The network; it is not changed.
        count: Counts the FLOPs of one sample.
        groups: Its groups.
        plan: A plan that fits.

    Raises:
        SurgeryError: The changed network does not run.
    """
    living = dict(groups)
    if plan:
        simple = _part(plan, list(plan.groups))
        living, size = _step(duplicate(model), count, living, simple)
    else:
        size = _size(model, count)
    units = sum(group.width for group in living.values())
    return Cost(size.parameters, size.flops.total, units, size.flops.uncounted)


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
    count: Callable[[nn.Module], FlopCount],
    groups: Mapping[str, UnitGroup],
    plan: Plan,
) -> tuple[dict[str, UnitGroup], _Size]:
    """Carry out a part of the plan; return the groups and the size after it."""
    inventory = Inventory(trial)
    new = reordering(inventory, groups, plan, 0)
    swap = swap_tensors(inventory, groups.values(), new.sources, torch.Generator())
    try:
        return new.groups, _size(trial, count)
    except Exception as error:
        swap.undo()
        raise SurgeryError(
            f"after changing {', '.join(plan.groups)} the forward pass fails ({failure(error)}). "
            "The model expects a width that this part of the plan leaves as it is: name all groups "
            "that share it in one plan, or see which groups can change with structure.check()"
        ) from error


def _part(plan: Plan, names: list[str]) -> Plan:
    """Return the part of a plan that concerns some groups."""
    return Plan(
        prune={name: ids for name, ids in plan.removed.items() if name in names},
        grow={name: count for name, count in plan.added.items() if name in names},
    )


def _size(model: nn.Module, count: Callable[[nn.Module], FlopCount]) -> _Size:
    return _Size(sum(p.numel() for p in model.parameters()), count(model))


def _difference(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


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
    flops = "not counted" if f0 is None or f1 is None else f"{f0:,} {symbols.arrow} {f1:,}"
    table.add_column("FLOPs a sample", flops, justify="right")
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
    table.caption, table.caption_justify = "\n".join(_notes(explanation, symbols)) or None, "left"
    return table


def _notes(explanation: Explanation, symbols: _Symbols) -> Iterator[str]:
    if explanation.uncounted:
        yield f"FLOPs are not counted: {explanation.uncounted}"
    if explanation.latency is not None:
        before, after = explanation.latency
        yield (
            f"latency on the example inputs {before:.3g} {symbols.arrow} {after:.3g} ms "
            f"({after / before - 1:+.0%})".replace("-", symbols.minus)
        )
    if explanation.hint:
        yield explanation.hint


def _change(number: int | None, symbols: _Symbols) -> str:
    if number is None:
        return symbols.nothing
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
