"""Latency: the measured time of a forward pass."""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import torch
from torch import nn

from growmas.errors import PlanError
from growmas.preserving import preserving
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.rounding import units_of

WARM_UP = 3
"""Forward passes of each network that are not counted."""

FAST_MULTIPLE = 8
"""Multiple of channels for which common kernels are fast."""


def latencies(
    models: Sequence[nn.Module], run: Callable[[nn.Module], Any], repeats: int
) -> list[float]:
    """Return the median time of a forward pass of each network, in milliseconds.

    In eval mode and without gradients, after a warm-up. The networks run in turn, so that a busy
    moment of the machine meets all of them; every run ends when the device has finished.

    Args:
        models: The networks; they are left as they were.
        run: Runs the forward pass, on the example inputs.
        repeats: Number of timed runs of each.
    """
    times: list[list[float]] = [[] for _ in models]
    for turn in range(WARM_UP + repeats):
        for model, taken in zip(models, times, strict=True):
            with preserving(model), torch.no_grad():
                devices = {p.device for p in model.parameters()}
                _synchronise(devices)
                start = time.perf_counter()
                run(model)
                _synchronise(devices)
                if turn >= WARM_UP:
                    taken.append(1000 * (time.perf_counter() - start))
    return [median(taken) for taken in times]


def check_repeats(repeats: Any) -> None:
    """Refuse a number of timed runs that is not one.

    Raises:
        PlanError: It is not a whole number of 0 or more.
    """
    if type(repeats) is not int or repeats < 0:
        raise PlanError(
            f"latency={repeats!r:.80}: expected the number of timed forward passes, such as 20, "
            "or 0 to measure none"
        )


def rounding_hint(widths: Mapping[str, int], groups: Mapping[str, UnitGroup]) -> str:
    """Return a remark on widths that are not multiples of eight channels, or nothing.

    Args:
        widths: Group name -> number of units that a plan leaves.
        groups: The groups.
    """
    uneven = [
        f"{name} ({width} {groups[name].kind})"
        for name, width in widths.items()
        if width % units_of(groups[name], FAST_MULTIPLE)
    ]
    if not uneven:
        return ""
    more = f" and {len(uneven) - 3} more" if len(uneven) > 3 else ""
    return (
        f"channels are not a multiple of {FAST_MULTIPLE} in {', '.join(uneven[:3])}{more}: "
        f"compare with round_to={FAST_MULTIPLE}"
    )


def _synchronise(devices: set[torch.device]) -> None:
    for device in devices:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
        elif device.type == "xpu":
            torch.xpu.synchronize(device)
