"""Verification of edits by their outputs, which makes a wrong analysis harmless."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from growmas.errors import SurgeryError
from growmas.failures import failure
from growmas.structure.units.plan import Plan

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Largest change of the output an edit may make, relative to the largest output; others 5e-2."""


class RefusedError(SurgeryError):
    """An edit that the example inputs show to be wrong; it was undone."""


def check_outputs(
    expected: Sequence[Tensor],
    run: Callable[[], Sequence[Tensor]],
    plan: Plan,
    *,
    in_float32: bool = False,
    only_runs: bool = False,
) -> None:
    """Compare the outputs of the edited network with the expected ones.

    Args:
        expected: Outputs of the old network with the removed units masked.
        run: Returns the outputs of the new network.
        plan: The plan, for the message.
        in_float32: Allow float64 outputs to be off by float32 rounding: norms of common
            transformers compute in float32 whatever their input.
        only_runs: Check that the network runs and gives finite outputs of the same shapes, for a
            plan that says that the function changes.

    Raises:
        RefusedError: The forward pass fails, or the outputs differ beyond rounding.
    """
    changed = ", ".join(plan.groups)
    undone = "nothing was changed"
    try:
        found = run()
    except Exception as error:
        raise RefusedError(
            f"after changing {changed} the forward pass fails ({failure(error)}); {undone}. The "
            "model fixes a width outside its layers, for instance in view() or reshape()"
        ) from error
    if not any(t.numel() for t in expected):
        raise RefusedError(
            f"the example inputs have no sample, so changing {changed} cannot be verified; "
            f"{undone}. Make the Structure with a few real samples, or pass verify=False"
        )
    if [t.shape for t in found] != [t.shape for t in expected]:
        raise RefusedError(f"changing {changed} would change the output's shape; {undone}")
    for new, old in zip(found, expected, strict=True):
        if not old.numel():
            continue
        worst, largest = float((new - old).abs().max()), float(old.abs().max())
        if not math.isfinite(largest):
            raise RefusedError(
                f"the output on the example inputs is NaN or infinite before changing {changed}, "
                f"so the change cannot be verified; {undone}. Repair the parameters or the example "
                "inputs, or pass verify=False"
            )
        if only_runs:
            if not math.isfinite(worst):
                raise RefusedError(f"changing {changed} gives NaN or infinite outputs; {undone}")
            continue
        precision = torch.float32 if in_float32 and old.dtype == torch.float64 else old.dtype
        if not worst <= TOLERANCE.get(precision, 5e-2) * max(largest, 1e-3):
            raise RefusedError(
                f"changing {changed} would move the output by {worst:.3g} where it reaches "
                f"{largest:.3g}; expected no change beyond rounding, so the analysis of the "
                f"network is wrong there; {undone}"
            )
