"""Importance sums: partial results that add up over parts of the data, time or workers."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed as dist

from growmas.errors import DataError, GrowmasWarning, ImportanceError


@dataclass(frozen=True, eq=False)
class ImportanceSum:
    """Σ over samples of |per-sample gradient|, and the number of samples; Ω is their quotient.

    Sums over disjoint parts of the data add up to the sum over all of them, in any order and
    however uneven the parts; means do not.

    Attributes:
        sums: Qualified parameter name -> Σ_n |∂ g(F(x_n)) / ∂θ|, of the parameter's shape.
        samples: N ≥ 0.

    Example:
        >>> import torch, growmas
        >>> model, data = torch.nn.Linear(3, 2), torch.randn(10, 3)
        >>> morning = growmas.importance_sum(model, [data[:8]])
        >>> evening = growmas.importance_sum(model, [data[8:]])
        >>> omega = (morning + evening).importance()
        >>> torch.allclose(omega["weight"], growmas.mas_importance(model, [data])["weight"])
        True
    """

    sums: Mapping[str, Tensor]
    samples: int

    @classmethod
    def of(cls, importance: Mapping[str, Tensor], samples: int) -> "ImportanceSum":
        """Make the sum from an importance that is the mean over `samples` samples."""
        return cls({name: omega * samples for name, omega in importance.items()}, samples)

    def importance(self, *, overwrite: bool = False) -> dict[str, Tensor]:
        """Return Ω, the mean over samples.

        Args:
            overwrite: True to turn the sums into means in place; they must not be used again.

        Raises:
            DataError: The number of samples is 0.
        """
        if not self.samples:
            raise DataError("no samples: importance needs at least one batch with one sample in it")
        if overwrite:
            return {name: total.div_(self.samples) for name, total in self.sums.items()}
        return {name: total / self.samples for name, total in self.sums.items()}

    def __add__(self, other: "ImportanceSum") -> "ImportanceSum":
        """Return the sum over the samples of both.

        Raises:
            ImportanceError: The sums have different parameters.
        """
        if not isinstance(other, ImportanceSum):
            return NotImplemented
        _check_same({"left": _shapes(self), "right": _shapes(other)})
        added = {name: total + other.sums[name] for name, total in self.sums.items()}
        return ImportanceSum(added, self.samples + other.samples)

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> "ImportanceSum":
        """Return the sum over the processes of a `torch.distributed` group.

        Every process must call it, also one without samples; all get the same result. Without a
        process group, return this sum.

        Args:
            group: None for the default group.

        Raises:
            ImportanceError: In every process, if their sums have different parameters.
        """
        if not (dist.is_available() and dist.is_initialized()):
            return self
        held: list[Any] = [None] * dist.get_world_size(group)
        dist.all_gather_object(held, (_shapes(self), self.samples), group=group)
        _check_same({f"process {rank}": shapes for rank, (shapes, _) in enumerate(held)})
        reduced = {name: total.clone() for name, total in self.sums.items()}
        for name in sorted(reduced):
            dist.all_reduce(reduced[name], group=group)
        return ImportanceSum(reduced, sum(samples for _, samples in held))

    def state_dict(self) -> dict[str, Any]:
        """Return `sums`, tensors by name, and `samples`, a number."""
        return {"sums": dict(self.sums), "samples": self.samples}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "ImportanceSum":
        """Make the sum from what `state_dict` returned."""
        return cls(dict(state["sums"]), int(state["samples"]))


ZERO = (
    "the importance just measured is zero for every parameter: the task is not protected. The "
    "output is zero, or does not depend on the parameters measured: look for a detach, a no_grad "
    "or another head in the model or in forward=, and at function= and parameters="
)


def warn_if_zero(measured: Mapping[str, Tensor], *, stacklevel: int) -> None:
    """Warn of an importance that is zero for every parameter.

    Args:
        measured: Parameter name -> Ω.
        stacklevel: 3 names the caller of the function that calls this one.
    """
    if measured and not any(bool(omega.any()) for omega in measured.values()):
        warnings.warn(ZERO, GrowmasWarning, stacklevel=stacklevel)


def running_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype for sums: at least float32, since bfloat16 stalls after 256 terms."""
    return torch.promote_types(dtype, torch.float32)


class Totals(dict[str, Tensor]):
    """Sums by parameter name, which begin as zero when they are first asked for.

    Until then they take no memory: those of the last layers come into being while a backward pass
    releases what the forward pass has kept.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        """Begin without sums of these parameters."""
        super().__init__()
        self._parameters = parameters

    def __missing__(self, name: str) -> Tensor:
        """Begin a sum."""
        like = self._parameters[name]
        self[name] = torch.zeros(like.shape, dtype=running_dtype(like.dtype), device=like.device)
        return self[name]


def _shapes(total: ImportanceSum) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in total.sums.items()}


def _check_same(held: Mapping[str, Mapping[str, tuple[int, ...]]]) -> None:
    (first, expected), *others = held.items()
    for place, found in others:
        for name in {**expected, **found}:
            if expected.get(name) != found.get(name):
                raise ImportanceError(
                    f"importance sums of different networks: {name!r} is "
                    f"{_described(expected.get(name))} in {first}, "
                    f"{_described(found.get(name))} in {place}; add sums of one network only, "
                    "and measure again after surgery"
                )


def _described(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else str(list(shape))
