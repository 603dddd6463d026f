"""Edits of a network that every process has: decided in process 0, the same in all of them."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import distributed as dist

from growmas.batches import Forward
from growmas.distributed.processes import broadcast, check_same, is_main, share_random_state, size
from growmas.errors import PlanError
from growmas.structure import ActivationStatistics, Edit, Initialisation, Plan, Structure
from growmas.structure.initialisation.initialisation import Init


def apply(
    structure: Structure,
    plan: Plan | None,
    *,
    followers: Iterable[object] = (),
    init: Init | Initialisation = "zero_out",
    calibrate: Iterable[Any] | None = None,
    calibrate_forward: Forward | None = None,
    reconstruct: Iterable[Any] | ActivationStatistics | None = None,
    reconstruct_forward: Forward | None = None,
    generator: torch.Generator | None = None,
    verify: bool = True,
    group: dist.ProcessGroup | None = None,
) -> Edit:
    """Carry out the plan of process 0 in every process: `Structure.apply` as a collective call.

    Fresh rows are the same everywhere, since every process draws them from the random state of
    process 0. The networks are compared before and after. A `DistributedDataParallel` around the
    network has to be replaced afterwards, see `rewrap`.

    Args:
        structure: Of the network without its wrapper, `Structure(unwrap(model), inputs)`.
        plan: Of process 0; what other processes give is not read, and may be None.
        followers: See `Structure.apply`, also for the arguments below. Each process gives its own
            optimizer; `reconstruct` and `calibrate` need the same data in every process, or
            statistics after `all_reduce`.
        init: How fresh units start.
        calibrate: Batches for fresh BatchNorm channels.
        calibrate_forward: (model, batch) -> output.
        reconstruct: Batches or statistics from which removed units are reconstructed.
        reconstruct_forward: (model, batch) -> output.
        generator: CPU generator for fresh rows.
        verify: False skips the check on the example inputs.
        group: None for the default group.

    Raises:
        PlanError: In every process, if process 0 has no plan or it does not fit.
        RunError: In every process, if their networks differ.
        SurgeryError: As `Structure.apply`.
    """
    shared = broadcast(plan if is_main(group) else None, group=group)
    if not isinstance(shared, Plan):
        raise PlanError(f"process 0 has no plan, but {shared!r:.80}: give a Plan there")
    if size(group) > 1:
        check_same(structure.model.state_dict(), group=group)
        share_random_state(generator, structure.generator, group=group)
    edit = structure.apply(
        shared,
        followers=followers,
        init=init,
        calibrate=calibrate,
        calibrate_forward=calibrate_forward,
        reconstruct=reconstruct,
        reconstruct_forward=reconstruct_forward,
        generator=generator,
        verify=verify,
    )
    check_same(structure.model.state_dict(), group=group)
    return edit
