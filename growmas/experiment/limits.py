"""Limits of this machine, checked before an experiment begins."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from growmas.config import Experiment, TaskFreeConfig
from growmas.errors import RunError

COPIES = 4
"""Of the parameters, at least: weights, gradients, and two of the optimizer."""
PARALLEL = ("growmas", "mas", "finetune", "separate", "joint", "ewc", "online_ewc", "si", "lwf")
"""Kinds of methods whose data-parallel runs equal those of one process."""
_MOST_THREADS = 64  # on a machine with few cores


def check_threads(threads: int) -> None:
    """Refuse more threads than a machine can begin.

    Raises:
        RunError: Names the largest number.
    """
    most = max(_MOST_THREADS, 4 * (os.cpu_count() or 1))
    if threads > most:
        raise RunError(
            f"expected at most {most} on this machine, which has "
            f"{os.cpu_count()} cores; got {threads}"
        )


def check_parallel(experiment: Experiment) -> None:
    """Refuse an experiment that several processes cannot run as one does.

    Raises:
        RunError: Names what to change.
    """
    method, kind = experiment.method, experiment.method.kind
    if isinstance(experiment.stream, TaskFreeConfig):
        problem = "stream.kind is task_free, whose context decides on every batch as a whole"
    elif kind not in PARALLEL:
        kinds = ", ".join(PARALLEL)
        problem = (
            f"method.kind is {kind}, which keeps what a process saw; data-parallel runs are for "
            f"{kinds}"
        )
    elif getattr(method, "replace", None) is not None:
        problem = "method.replace looks at the activations of a process's rows"
    else:
        return
    raise RunError(f"{problem}: run it in one process, without torchrun")


def check_device(device: str) -> None:
    """Refuse a device that is not available.

    Raises:
        RunError: Names the device, and the reason.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise RunError(
            f"device {device!r} cannot be used here ({reason}): give device: cpu, or run it on a "
            "machine that has one"
        ) from error


def check_memory(build: Callable[[], nn.Module], device: str) -> None:
    """Refuse a model that does not fit into memory.

    Args:
        build: Builds the model; it is called without memory for tensors.
        device: Of the model.

    Raises:
        RunError: Names the memory it needs and the memory that is available.
    """
    available = available_memory() if device == "cpu" else None
    try:
        with torch.device("meta"):
            model = build()
        needed = COPIES * sum(p.numel() * p.element_size() for p in model.parameters())
    except (RuntimeError, OverflowError, TypeError, MemoryError) as error:
        raise RunError(
            f"the model is too large to be built ({str(error).splitlines()[0]}): give smaller "
            "widths in model"
        ) from error
    if available is not None and needed > available:
        raise RunError(
            f"the model and its training need at least {needed / 2**30:,.1f} GiB, and "
            f"{available / 2**30:,.1f} GiB are available: give smaller widths in model"
        )


def available_memory() -> int | None:
    """Return the bytes of memory that are available; None if that is unknown."""
    found = []
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(1024 * int(line.split()[1]))
    with suppress(OSError, ValueError):  # of a container; "max" where there is no limit
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        found.append(max(0, limit - used))
    with suppress(OSError, ValueError, AttributeError):
        if not found:
            found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(found, default=None)
