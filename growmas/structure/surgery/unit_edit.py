"""The edit of `Structure.apply`: units are removed, added and replaced."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from growmas.batches import Forward
from growmas.errors import SurgeryError
from growmas.failures import failure
from growmas.structure.initialisation.initialisation import Init, initialisation
from growmas.structure.initialisation.newborns import Initialisation, Newborns
from growmas.structure.reconstruction.reconstruction import Reconstruction
from growmas.structure.reconstruction.statistics import ActivationStatistics
from growmas.structure.surgery.calibration import calibrate_fresh
from growmas.structure.surgery.row_lengths import keep_weights
from growmas.structure.surgery.tensor_swap import TensorSwap
from growmas.structure.surgery.transaction import Site, carry_out
from growmas.structure.surgery.verification import check_outputs
from growmas.structure.surgery.widening import Widening, widen
from growmas.structure.units.edit import AxisTransfer, Edit
from growmas.structure.units.plan import Plan
from growmas.structure.units.reindexing import Reindexing
from growmas.structure.units.structure_like import StructureLike
from growmas.structure.views.overrides import masked


@dataclass(frozen=True, eq=False)
class Options:
    """Options of `Structure.apply`, which documents them.

    Attributes:
        init: How fresh units start.
        calibrate: Batches for the running statistics of fresh BatchNorm channels.
        calibrate_forward: (model, batch) -> output.
        reconstruct: Batches or statistics from which consumers are refitted.
        reconstruct_forward: (model, batch) -> output.
        generator: Randomness of fresh rows, on the CPU; None takes torch's own.
    """

    init: Init | Initialisation
    calibrate: Iterable[Any] | None
    calibrate_forward: Forward | None
    reconstruct: Iterable[Any] | ActivationStatistics | None
    reconstruct_forward: Forward | None
    generator: torch.Generator | None


def edit_units(structure: StructureLike, plan: Plan, options: Options, site: Site) -> Edit:
    """Carry out a plan that fits: all of it, or nothing.

    Raises:
        GrowmasError: See `Structure.apply`.
    """
    fill = initialisation(options.init).prepare(structure, plan)
    reconstruction = _reconstruction(structure, plan, options, site)
    approximate = any(site.groups[name].no_shrink for name in plan.removed)
    expected = [] if site.outputs is None else _expected(site, plan, site.outputs)
    widened = any(site.groups[name].residual for name in plan.added)

    def finish(new: Reindexing, swap: TensorSwap, undo: ExitStack) -> Edit:
        model, generator = site.model, options.generator
        widening = Widening({}, {})
        if widened:
            widening = widen(model, new.groups, new.born, swap, generator)
        newborns = Newborns(model, new.groups, new.born, generator)
        newborns.silence()
        lineage = fill(newborns)
        lengths = keep_weights(model, new.groups.values(), swap)
        if widened:
            widening.write_rows(model)  # again, over the columns that were just filled
        if options.calibrate is not None:
            own = {n: c for n, c in swap.changes.items() if n not in lineage.transfers}
            calibrate_fresh(model, own, options.calibrate, options.calibrate_forward)
        if site.outputs is not None:
            check_outputs(expected, site.outputs, plan, in_float32=widened, only_runs=approximate)
        corrections: Mapping[str, Tensor] = {}
        if reconstruction is not None:
            undo.callback(reconstruction.undo)
            corrections = reconstruction.fold(swap.changes)
        return Edit(
            plan,
            site.task,
            swap.changes,
            new.born,
            new.died,
            lineage.parents,
            swap.swapped,
            swap.sizes,
            transfers=_joined(lineage.transfers, widening.transfers, lengths),
            corrections=corrections,
            means=widening.means,
            mates=lineage.mates,
        )

    statistics = options.reconstruct
    if isinstance(statistics, ActivationStatistics) and statistics not in site.followers:
        site = dataclasses.replace(site, followers=(*site.followers, statistics))
    return carry_out(site, plan, options.generator, finish)


def _joined(
    *several: Mapping[str, tuple[AxisTransfer, ...]],
) -> dict[str, tuple[AxisTransfer, ...]]:
    """Return the transfers of all, those of one tensor one after the other."""
    found: dict[str, tuple[AxisTransfer, ...]] = {}
    for transfers in several:
        for name, along in transfers.items():
            found[name] = (*found.get(name, ()), *along)
    return found


def _reconstruction(
    structure: StructureLike, plan: Plan, options: Options, site: Site
) -> Reconstruction | None:
    """Prepare the reconstruction, where units are removed and there is data for it."""
    if isinstance(options.reconstruct, ActivationStatistics):
        options.reconstruct.check_current()
    if options.reconstruct is None or not plan.removed:
        return None
    return Reconstruction(
        structure, plan, options.reconstruct, options.reconstruct_forward, run=site.outputs
    )


def _expected(site: Site, plan: Plan, outputs: Callable[[], list[Tensor]]) -> list[Tensor]:
    """Return the outputs of the network with the units to be removed masked."""
    removed = {name: set(ids) for name, ids in plan.removed.items()}
    with masked(site.model, site.groups.values(), removed):
        try:
            return outputs()
        except Exception as error:
            raise SurgeryError(
                "the network does not run on the structure's example inputs any more "
                f"({failure(error)}); nothing was changed. Give the network the dtype "
                "and device it had, or make a new Structure"
            ) from error
