"""The importance of one more task: how it is measured, and joins that of the tasks before."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from growmas.batches import Forward
from growmas.errors import PenaltyError
from growmas.importance import mas_importance


@runtime_checkable
class Measured(Protocol):
    """An importance that is there already, such as `ImportanceSum` or `accumulate_importance`."""

    def importance(self) -> Mapping[str, Tensor]:
        """Parameter name -> Ω, for every floating-point parameter."""
        ...


Data = Iterable[Any] | Mapping[str, Tensor] | Measured
"""Batches to measure on, or what was measured, such as `hebbian_importance` gives; function and
forward are settled then."""


def precise(tensor: Tensor) -> Tensor:
    """The tensor, in float32 where it has half precision."""
    return tensor.to(precise_dtype(tensor.dtype))


def precise_dtype(dtype: torch.dtype) -> torch.dtype:
    """In which what is held of a parameter of this dtype is held."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def importance_of(
    model: nn.Module,
    data: Data,
    forward: Forward | None,
    function: str | Callable[[Any], Tensor],
    estimator: str,
) -> dict[str, Tensor]:
    """Ω of every floating-point parameter, on its device and in at least float32.

    Raises:
        PenaltyError: What was measured is not of the model's names and shapes.
    """
    measured: Mapping[str, Tensor]
    if isinstance(data, Mapping):
        measured = data
    elif isinstance(data, Measured):
        measured = data.importance()
    else:
        measured = mas_importance(
            model,
            data,
            forward=forward,
            function=function,  # type: ignore[arg-type]  # words are checked when they are used
            estimator=estimator,  # type: ignore[arg-type]
        )
    parameters = {n: p.detach() for n, p in model.named_parameters() if p.is_floating_point()}
    wrong = [
        name
        for name in parameters.keys() | measured.keys()
        if name not in parameters
        or name not in measured
        or parameters[name].shape != measured[name].shape
    ]
    if wrong:
        raise PenaltyError(
            f"{', '.join(sorted(wrong))}: the importance was measured on another model, or before "
            "surgery; measure it again"
        )
    return {name: measured[name].to(precise(p)) for name, p in parameters.items()}


def normalized(measured: Mapping[str, Tensor], normalize: str | None) -> dict[str, Tensor]:
    """One task's Ω divided by its mean or its maximum over all parameters; zero stays zero."""
    if normalize is None or not measured:
        return dict(measured)
    scale = (
        sum(float(omega.sum()) for omega in measured.values())
        / max(1, sum(omega.numel() for omega in measured.values()))
        if normalize == "mean"
        else max((float(omega.max()) for omega in measured.values() if omega.numel()), default=0.0)
    )
    return {name: omega / scale for name, omega in measured.items()} if scale else dict(measured)


def accumulated(
    before: Mapping[str, Tensor],
    measured: Mapping[str, Tensor],
    *,
    rule: str,
    tasks: int,
    discount: float,
) -> dict[str, Tensor]:
    """Ω over `tasks` tasks, the last of which is `measured`.

    "sum" adds. "max" takes the larger, entry by entry. The others are averages that need no more
    memory than their value: with weights w_k = γ^(tasks − k), γ = `discount` for "exponential"
    and 1 for "mean", Ω = Σ_k w_k Ω_k / Σ_k w_k. A parameter without Ω so far had 0.
    """
    if rule == "max":
        return {n: torch.maximum(before[n], m) if n in before else m for n, m in measured.items()}
    if rule == "sum":
        return {n: before[n] + m if n in before else m for n, m in measured.items()}
    gamma = discount if rule == "exponential" else 1.0
    newest = 1 / sum(gamma**age for age in range(tasks))
    return {
        n: torch.lerp(before[n], m, newest) if n in before else m * newest
        for n, m in measured.items()
    }
