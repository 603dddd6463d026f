"""An edit as a transaction: all of it, or nothing."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from growmas.batches import Forward
from growmas.errors import SurgeryError
from growmas.structure.followers.followers import check_followers, follow
from growmas.structure.initialisation.initialisation import Init, initialisation
from growmas.structure.initialisation.newborns import Initialisation, Newborns
from growmas.structure.reconstruction.reconstruction import Reconstruction
from growmas.structure.reconstruction.statistics import ActivationStatistics
from growmas.structure.surgery.calibration import calibrate_fresh
from growmas.structure.surgery.tensor_swap import cut, reordering
from growmas.structure.surgery.verification import check_outputs
from growmas.structure.surgery.widening import widen
from growmas.structure.units.edit import Edit
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.inventory import Inventory
from growmas.structure.units.plan import Plan
from growmas.structure.units.structure_like import StructureLike
from growmas.structure.views.overrides import masked

Listener = Callable[[Edit], AbstractContextManager[Any] | None]


@dataclass(frozen=True, eq=False)
class Request:
    """What `Structure.apply` was asked for; see there."""

    plan: Plan
    followers: tuple[object, ...]
    init: Init | Initialisation
    calibrate: Iterable[Any] | None
    calibrate_forward: Forward | None
    reconstruct: Iterable[Any] | ActivationStatistics | None
    reconstruct_forward: Forward | None
    generator: torch.Generator | None
    verify: bool

    @property
    def all_followers(self) -> tuple[object, ...]:
        """The followers, and the statistics to reconstruct from, which follow by themselves."""
        statistics = self.reconstruct
        if isinstance(statistics, ActivationStatistics) and statistics not in self.followers:
            return (*self.followers, statistics)
        return self.followers


def carry_out(
    structure: StructureLike,
    request: Request,
    inventory: Inventory,
    outputs: Callable[[], list[Tensor]],
    settle: Callable[[dict[str, UnitGroup]], None],
    listeners: Sequence[Listener],
) -> Edit:
    """Make an edit: look, cut, fill, verify, repair, follow, tell; or leave everything as it was.

    Args:
        structure: The structure.
        request: What to do; the plan fits.
        inventory: Of the model; out of date afterwards.
        outputs: Gives the outputs on the example inputs.
        settle: Gives the structure its new groups.
        listeners: Are told last.

    Raises:
        GrowmasError: See `Structure.apply`.
    """
    model, old_groups, plan = structure.model, dict(structure.groups), request.plan
    followers, generator = request.all_followers, request.generator
    check_followers(followers, model)
    fill = initialisation(request.init).prepare(structure, plan)
    repair = Reconstruction(structure, plan, request.reconstruct, request.reconstruct_forward)
    expected = _expected(structure, plan, outputs) if request.verify else []
    new = reordering(inventory, old_groups, plan, structure.task)
    drawn = (generator or torch.default_generator).get_state()
    incision = cut(inventory, old_groups.values(), new.sources, generator)
    try:
        widening = widen(model, new.groups, new.born, incision, generator)
        lineage = fill(Newborns(model, new.groups, new.born, generator))
        widening.write_rows(model)  # of the columns just filled, too
        if request.calibrate is not None:
            alone = {n: c for n, c in incision.changes.items() if n not in lineage.transfers}
            calibrate_fresh(model, alone, request.calibrate, request.calibrate_forward)
        if request.verify:
            widened = any(old_groups[name].residual for name in plan.added)
            check_outputs(expected, outputs, plan, in_float32=widened)
        settle(new.groups)
        edit = Edit(
            plan,
            structure.task,
            incision.changes,
            new.born,
            new.died,
            lineage.parents,
            incision.swapped,
            incision.sizes,
            transfers={**lineage.transfers, **widening.transfers},
            corrections=repair.fold(incision.changes),
            means=widening.means,
        )
        tell(followers, listeners, edit, model)
    except BaseException:
        repair.undo()
        incision.undo()
        settle(old_groups)
        (generator or torch.default_generator).set_state(drawn)
        raise
    return edit


def tell(
    followers: Iterable[object], listeners: Iterable[Listener], edit: Edit, model: nn.Module
) -> None:
    """Let followers take an edit over, then listeners; if one fails, all are as they were."""
    with ExitStack() as told:
        follow([*followers, *(_Listening(each, told) for each in listeners)], edit, model)


def _expected(
    structure: StructureLike, plan: Plan, outputs: Callable[[], list[Tensor]]
) -> list[Tensor]:
    """The outputs of the network with the doomed units silenced."""
    doomed = {name: set(ids) for name, ids in plan.removed.items()}
    with masked(structure.model, structure.groups.values(), doomed):
        try:
            return outputs()
        except (RuntimeError, ValueError, TypeError) as error:
            raise SurgeryError(
                f"the network does not run on the structure's example inputs any more ({error}); "
                "nothing was changed. Give the network back the dtype and device it had, or make "
                "a new Structure"
            ) from error


class _Listening:
    """Lets a listener be the last of the followers, inside the transaction."""

    def __init__(self, listener: Listener, told: ExitStack) -> None:
        self._listener = listener
        self._told = told

    def follow(self, edit: Edit) -> None:
        pending = self._listener(edit)
        if isinstance(pending, AbstractContextManager):
            self._told.enter_context(_Heard(pending))


class _Heard:
    """A listener's context manager, which cannot hide that the edit was undone."""

    def __init__(self, pending: AbstractContextManager[Any]) -> None:
        self._pending = pending

    def __enter__(self) -> None:
        self._pending.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._pending.__exit__(*error)
