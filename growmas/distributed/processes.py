"""The processes of a data-parallel run: begun by torchrun, and agreed on what happens."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed as dist

from growmas.errors import GrowmasError, RunError

T = TypeVar("T")

WORLD = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""The environment that torchrun gives to each of its processes."""


def size(group: dist.ProcessGroup | None = None) -> int:
    """Return the number of processes; 1 without a process group."""
    return dist.get_world_size(group) if _running() else 1


def rank(group: dist.ProcessGroup | None = None) -> int:
    """Return the number of this process, from 0; 0 without a process group."""
    return dist.get_rank(group) if _running() else 0


def is_main(group: dist.ProcessGroup | None = None) -> bool:
    """Return True in process 0, which decides and writes."""
    return rank(group) == 0


@contextmanager
def process_group(device: str = "cpu") -> Iterator[str]:
    """Join the processes that torchrun began, and yield the device of this one.

    Gloo carries tensors of the CPU, NCCL those of CUDA devices.

    Args:
        device: "cpu" or "cuda"; of the latter each process takes the one with its local number.

    Raises:
        RunError: torchrun did not begin this process, the device has no backend, or the other
            processes cannot be reached.
    """
    missing = [name for name in WORLD if name not in os.environ]
    if missing:
        raise RunError(
            f"{', '.join(missing)} of the environment is not set: begin the processes with "
            "torchrun --nproc-per-node 2 -m growmas run CONFIG"
        )
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise RunError(f"device {device!r}: data-parallel runs are for cpu and cuda")
    if kind == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise RunError(
            f"the processes cannot meet at {place} ({str(error).splitlines()[0]}): check the "
            "address and that all of them were begun"
        ) from error
    try:
        yield device
    finally:
        dist.destroy_process_group()


def broadcast(value: T, *, group: dist.ProcessGroup | None = None) -> T:
    """Return the value of process 0 in every process; a collective call.

    Args:
        value: Anything that can be pickled; of the other processes it is not read.
        group: None for the default group.
    """
    if size(group) == 1:
        return value
    held: list[Any] = [value if is_main(group) else None]
    dist.broadcast_object_list(held, group=group, group_src=0)
    found: T = held[0]
    return found


def together(action: Callable[[], T], *, group: dist.ProcessGroup | None = None) -> T:
    """Do something in process 0 alone, and return its result in every process.

    A collective call. An error of growmas is raised in every process.

    Args:
        action: Called in process 0; its result can be pickled.
        group: None for the default group.
    """
    if size(group) == 1:
        return action()
    outcome: tuple[T | None, GrowmasError | None] = (None, None)
    if is_main(group):
        try:
            outcome = action(), None
        except GrowmasError as error:
            outcome = None, error
    result, problem = broadcast(outcome, group=group)
    if problem is not None:
        raise problem
    return result  # type: ignore[return-value]


def all_max(number: int, *, group: dist.ProcessGroup | None = None) -> int:
    """Return the largest of the numbers of all processes; a collective call."""
    return _reduced(number, dist.ReduceOp.MAX, group)


def all_sum(number: int, *, group: dist.ProcessGroup | None = None) -> int:
    """Return the sum of the numbers of all processes; a collective call."""
    return _reduced(number, dist.ReduceOp.SUM, group)


def _reduced(number: int, how: dist.ReduceOp.RedOpType, group: dist.ProcessGroup | None) -> int:
    if size(group) == 1:
        return number
    held = torch.tensor(number, device=_place(group))
    dist.all_reduce(held, how, group=group)
    return int(held)


def share_random_state(
    *generators: torch.Generator | None, group: dist.ProcessGroup | None = None
) -> None:
    """Give every process the random state of process 0; a collective call.

    Args:
        *generators: Generators whose states are shared, in addition to torch's own on the CPU; None
            is left out.
        group: None for the default group.
    """
    if size(group) == 1:
        return
    own = [torch.default_generator, *(each for each in generators if each is not None)]
    states = broadcast([each.get_state() for each in own], group=group)
    for generator, state in zip(own, states, strict=True):
        generator.set_state(state)


def check_same(parameters: Mapping[str, Tensor], *, group: dist.ProcessGroup | None = None) -> None:
    """Refuse networks that differ between processes; a collective call.

    Args:
        parameters: Qualified name -> tensor, of this process.
        group: None for the default group.

    Raises:
        RunError: In every process; names the first parameter that differs.
    """
    if size(group) == 1:
        return
    mine = {name: (tuple(p.shape), _checksum(p)) for name, p in parameters.items()}
    everyone: list[dict[str, Any]] = [{} for _ in range(size(group))]
    dist.all_gather_object(everyone, mine, group=group)
    first = everyone[0]
    for number, theirs in enumerate(everyone):
        for name in {**first, **theirs}:
            if first.get(name) != theirs.get(name):
                raise RunError(
                    f"the networks of process 0 and process {number} differ in {name!r}: give "
                    "every process the same network (build it with the same seed, or broadcast its "
                    "state_dict) and make every edit in all of them"
                )


def _checksum(tensor: Tensor) -> tuple[float, float]:
    """Return two sums that differ where tensors do."""
    flat = tensor.detach().double().flatten()
    weights = torch.arange(1, flat.numel() + 1, device=flat.device).double()
    return float(flat.sum()), float(flat @ weights)


def _place(group: dist.ProcessGroup | None) -> torch.device:
    return torch.device("cuda" if dist.get_backend(group) == "nccl" else "cpu")


def _running() -> bool:
    return dist.is_available() and dist.is_initialized()
