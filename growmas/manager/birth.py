"""Protection by birth: the units of earlier tasks are frozen, without importance or anchors."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from growmas.batches import (
    Forward,
    check_batches,
    data_that_fits,
    default_forward,
    float_tensors,
)
from growmas.errors import DataError, PenaltyError, PlanError
from growmas.penalty.guards import Guards
from growmas.penalty.settings import check_used, matches
from growmas.preserving import preserving
from growmas.structure import Structure, UnitGroup
from growmas.structure.units.placement import placements

if TYPE_CHECKING:
    from growmas.structure import Edit

Aside = tuple[Tensor, Tensor, Tensor | None]
"""Memory of a parameter, a copy of it, and where the copy is to be put back; None: everywhere."""


@dataclass
class Block:
    """The frozen entries of one parameter: those that are old along every axis.

    Attributes:
        shape: Of the parameter.
        old: Axis -> bool for each position along it; axes that are old as a whole are left out.
    """

    shape: torch.Size
    old: dict[int, Tensor] = field(default_factory=dict)

    @property
    def mask(self) -> Tensor:
        """Bool, of the parameter's shape: True where an entry is frozen."""
        mask = torch.ones(self.shape, dtype=torch.bool)
        for dim, old in self.old.items():
            mask &= old.view([-1 if d == dim else 1 for d in range(len(self.shape))])
        return mask

    @property
    def count(self) -> int:
        """Number of frozen entries."""
        lengths = [int(self.old[d].sum()) if d in self.old else n for d, n in enumerate(self.shape)]
        return torch.Size(lengths).numel()

    def within(self, parameter: Tensor) -> Tensor | None:
        """Return the frozen entries as a part of the parameter's memory; None if they scatter."""
        for dim, old in self.old.items():
            length = int(old.sum())
            if not bool(old[:length].all()):
                return None
            parameter = parameter.narrow(dim, 0, length)
        return parameter


class BirthProtection:
    """Freeze the units of earlier tasks exactly; what was born later learns, and reads them.

    A weight between two units is frozen once both were there at the end of a task, and so are
    their biases and the constants of their norms. What a unit born later reads is free, and so is
    what it feeds: views of earlier tasks leave it out. Weights of layers whose outputs are not
    units, such as heads, are frozen from the end of the first task whose output depends on them,
    so that the head of a new task is free. Whatever the optimizer does, the network extracted for
    an earlier task stays the same to the bit, given the statistics that norms had then.

    It needs no importance, no anchors and no copy of the network: what is frozen follows from the
    births of the units, and nothing is kept between steps. During a step of a guarded optimizer
    the frozen entries are set aside and put back, regardless of momentum, moments and weight
    decay; in other loops, take the step inside `held()`. Gradients are left as they are.

    Surgery may still change the units of earlier tasks: policies that prune or replace them say so
    in their plans.

    Example:
        >>> import torch, growmas
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> x, structure = torch.rand(32, 4), growmas.Structure(net, torch.rand(2, 4))
        >>> protect = growmas.BirthProtection(structure)
        >>> _ = structure.begin_task("first")
        >>> protect.freeze([x])  # at its end
        >>> _ = structure.begin_task("second")
        >>> _ = structure.apply(growmas.Plan(grow={"0": 4}))
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.1)
        >>> _ = protect.guard(optimizer)
        >>> before = net[0].weight.clone()
        >>> net(x).square().sum().backward()
        >>> optimizer.step()
        >>> torch.equal(net[0].weight[:8], before[:8]), torch.equal(net[0].weight, before)
        (True, False)

    Attributes:
        structure: The units of the network.
        exclude: Patterns of the parameters that are never frozen.
        through: Index of the last task that has ended; −1 before the first.
        used: Names of the parameters on which the output of a task that has ended depends.
    """

    def __init__(self, structure: Structure, *, exclude: Collection[str] = ()) -> None:
        """Prepare for the first `freeze`.

        Args:
            structure: The units of the network.
            exclude: Names, or shell patterns such as "*.bias", of parameters never frozen.

        Raises:
            PlanError: `structure` is something else.
            PenaltyError: A pattern without a match.
        """
        if not isinstance(structure, Structure):
            raise PlanError(
                f"structure: expected a Structure, such as Structure(model, inputs), got a "
                f"{type(structure).__name__}"
            )
        check_used("exclude", exclude, [name for name, _ in structure.model.named_parameters()])
        self.structure = structure
        self.exclude = tuple(exclude)
        self.through = -1
        self.used: frozenset[str] = frozenset()
        self._guards = Guards()
        self._known: tuple[object, dict[str, Block]] = (None, {})

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({type(self.model).__name__}; "
            f"{sum(block.count for block in self._blocks().values()):,} entries frozen)"
        )

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self.structure.model

    @property
    def frozen(self) -> dict[str, Tensor]:
        """Parameter name -> bool mask of the frozen entries; empty before the first `freeze`."""
        parameters = dict(self.model.named_parameters())
        return {n: b.mask.to(parameters[n].device) for n, b in self._blocks().items() if b.count}

    @property
    def share(self) -> float:
        """Share of frozen entries among all parameters of the network."""
        return sum(b.count for b in self._blocks().values()) / max(1, self.structure.parameters)

    def freeze(self, batches: Iterable[Any], *, forward: Forward | None = None) -> None:
        """Freeze the units that live now, at the end of a task.

        Args:
            batches: Unlabelled data of the task; the first batch is looked at.
            forward: (model, batch) -> output, such as through the task's own head. Layers without
                units that the output does not depend on stay free.

        Raises:
            PlanError: No task has begun, so that units born later would be of the same task.
            DataError: There is no batch, or it does not go through the network.
        """
        used = parameters_used(self.model, batches, forward)
        if not self.structure.tasks:
            raise PlanError(
                "freeze() before any task: what is frozen follows from the tasks in which units "
                "were born; call structure.begin_task(name) before the first task is learnt"
            )
        self.used |= used
        self.through = self.structure.task

    def thaw(self) -> None:
        """Release all entries, until `freeze` is called again."""
        self.through, self.used = -1, frozenset()

    def frozen_units(self) -> dict[str, tuple[int, ...]]:
        """Return the units that are frozen: group name -> ids."""
        return {
            name: tuple(
                unit
                for unit, birth in zip(group.unit_ids, group.births, strict=True)
                if birth <= self.through
            )
            for name, group in self.structure.groups.items()
        }

    def guard(self, optimizer: Optimizer) -> Callable[[], None]:
        """Let every step of `optimizer` leave the frozen entries alone.

        Returns:
            A function that ends the guard.

        Raises:
            PenaltyError: `optimizer` is not a torch optimizer.
        """
        aside: list[Aside] = []

        def before() -> None:
            aside[:] = self._aside()

        def after() -> None:
            _put_back(aside)
            aside.clear()

        return self._guards.add(
            optimizer,
            before=before,
            after=after,
            remedy="take each step of anything else inside `with protect.held():`",
        )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Put the frozen entries back after the block, to exactly the bits they had."""
        aside = self._aside()
        try:
            yield
        finally:
            _put_back(aside)

    def follow(self, edit: "Edit") -> None:
        """Do nothing: what is frozen follows from the births of the units."""

    def __getstate__(self) -> dict[str, Any]:
        """Return everything except the blocks that were found, which a copy finds anew."""
        return {**vars(self), "_known": (None, {})}

    def state_dict(self) -> dict[str, Any]:
        """Return plain values: the last task that has ended, and the parameters used so far."""
        return {
            "through": self.through,
            "used": sorted(self.used),
            "exclude": list(self.exclude),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state that `state_dict` returned, once the structure has been restored.

        Raises:
            PenaltyError: Something is missing, or names are not those of the model; nothing is
                loaded then.
        """
        missing = self.state_dict().keys() - state.keys()
        if missing:
            raise PenaltyError(
                f"the state of the protection by birth lacks {', '.join(sorted(missing))}"
            )
        unknown = set(state["used"]) - {name for name, _ in self.model.named_parameters()}
        if unknown:
            raise PenaltyError(
                f"the state of the protection by birth is of another network: it names "
                f"{', '.join(map(repr, sorted(unknown)))}"
            )
        self.through, self.used = int(state["through"]), frozenset(state["used"])
        self.exclude = tuple(state["exclude"])

    @torch.no_grad()
    def _aside(self) -> list[Aside]:
        """Return the parameters with frozen entries, and copies of these, for `_put_back`."""
        parameters = dict(self.model.named_parameters())
        found: list[Aside] = []
        for name, block in self._blocks().items():
            if not block.count or not parameters[name].requires_grad:
                continue
            part = block.within(parameters[name].detach())
            if part is None:
                mask = block.mask.to(parameters[name].device)
                found.append((parameters[name].detach(), parameters[name].detach().clone(), mask))
            else:
                found.append((part, part.clone(), None))
        return found

    def _blocks(self) -> dict[str, Block]:
        """Return the frozen entries by parameter, found anew if units or tasks have changed."""
        groups = (*self.structure.groups.values(), *self.structure.heads.values())
        parameters = dict(self.model.named_parameters())
        key = (groups, self.through, self.used, tuple(parameters.values()))
        known, blocks = self._known
        if not _same(known, key):
            names = [n for n in parameters if n in self.used and not matches(n, self.exclude)]
            blocks = frozen_blocks(self.model, groups, names, self.through)
            self._known = (key, blocks)
        return blocks


def frozen_blocks(
    model: nn.Module, groups: Iterable[UnitGroup], names: Collection[str], through: int
) -> dict[str, Block]:
    """Return the entries of parameters all of whose units were born by the end of a task.

    Args:
        model: The network.
        groups: Its groups, and the heads that have grown.
        names: Of the parameters to look at.
        through: Index of the task.
    """
    parameters = dict(model.named_parameters())
    blocks = {name: Block(parameters[name].shape) for name in names}
    known = {id(parameters[name]): name for name in names}
    modules = dict(model.named_modules(remove_duplicate=False))
    for group in groups:
        young = [i for i, birth in enumerate(group.births) if birth > through]
        for place in placements(model, group, modules=modules) if young else ():
            name = known.get(id(place.tensor))
            if name is None:
                continue
            dim = place.axis.dim % place.tensor.dim()
            length = place.tensor.shape[dim]
            old = blocks[name].old.setdefault(dim, torch.ones(length, dtype=torch.bool))
            old[place.positions[young].flatten()] = False
    return blocks


def parameters_used(
    model: nn.Module, batches: Iterable[Any], forward: Forward | None
) -> frozenset[str]:
    """Return the names of the parameters on which the output of the first batch depends.

    Parameters that require no gradient count, too; the model is left bit-identical.

    Raises:
        DataError: There is no batch, or it does not go through the network.
    """
    check_batches(batches)
    batch = next(iter(batches), None)
    if batch is None:
        raise DataError("there is no batch: give at least one batch of the task's data")
    parameters = {n: p for n, p in model.named_parameters() if p.is_floating_point()}
    with preserving(model), torch.inference_mode(False), torch.enable_grad(), data_that_fits():
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        outputs = float_tensors((forward or default_forward)(model, batch))
        outputs = [each for each in outputs if each.requires_grad]
        if not outputs:
            return frozenset()
        total = torch.stack([each.sum() for each in outputs]).sum()
        found = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    return frozenset(n for n, g in zip(parameters, found, strict=True) if g is not None)


@torch.no_grad()
def _put_back(aside: Iterable[Aside]) -> None:
    """Set entries back to the values that were set aside."""
    for now, then, mask in aside:
        now.copy_(then if mask is None else torch.where(mask, then, now))


def _same(known: Any, key: tuple[Any, ...]) -> bool:
    """Return True if groups and parameters are the same objects, and the rest is equal."""
    if known is None or known[1:3] != key[1:3]:
        return False
    return all(
        len(known[i]) == len(key[i]) and all(a is b for a, b in zip(known[i], key[i], strict=True))
        for i in (0, 3)
    )
