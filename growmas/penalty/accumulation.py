"""Accumulation of importance: measured on one task, then combined with earlier tasks."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from growmas.batches import Forward
from growmas.errors import PenaltyError
from growmas.importance import importance_sum
from growmas.penalty.settings import Accumulate, Normalize, matches

Function = Literal["squared_norm", "vector"] | Callable[[Any], Tensor]
"""The function of the output whose sensitivity is measured, see `mas_importance`."""

Estimator = Literal["exact", "batch"]
"""The estimator of importance, see `mas_importance`."""


@runtime_checkable
class Measured(Protocol):
    """An importance measured before, such as `ImportanceSum` or `accumulate_importance`."""

    def importance(self) -> Mapping[str, Tensor]:
        """Return parameter name -> Ω, for every floating-point parameter."""
        ...


Data = Iterable[Any] | Mapping[str, Tensor] | Measured
"""Batches to measure on, or an importance measured before, such as from `hebbian_importance`; then
`function` and `forward` are not used."""


def precise(tensor: Tensor) -> Tensor:
    """Return the tensor, in float32 where it has half precision."""
    return tensor.to(precise_dtype(tensor.dtype))


def precise_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of Ω and anchor for a parameter of this dtype: at least float32."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def importance_of(
    model: nn.Module,
    data: Data,
    forward: Forward | None,
    function: Function,
    estimator: Estimator,
    exclude: Collection[str] = (),
) -> dict[str, Tensor]:
    """Return Ω of every parameter that is not excluded, on its device and at least in float32.

    Raises:
        PenaltyError: An importance measured before has other names or shapes than the model.
    """
    measured: Mapping[str, Tensor]
    named = dict(model.named_parameters())
    parameters = {
        n: p.detach() for n, p in named.items() if p.is_floating_point() and not matches(n, exclude)
    }
    if isinstance(data, Mapping):
        measured = data
    elif isinstance(data, Measured):
        measured = data.importance()
    else:
        total = importance_sum(
            model,
            data,
            forward=forward,
            function=function,
            estimator=estimator,
            parameters=tuple(parameters),
            warn=False,  # the memory warns
        )
        measured = total.importance()
    measured = {n: omega for n, omega in measured.items() if not matches(n, exclude)}
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


def normalized(measured: Mapping[str, Tensor], normalize: Normalize) -> dict[str, Tensor]:
    """Return Ω divided by its mean or maximum over all parameters; all-zero Ω is unchanged."""
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
    rule: Accumulate,
    tasks: int,
    discount: float,
) -> dict[str, Tensor]:
    """Return Ω over `tasks` tasks, the last of which is `measured`.

    "sum" adds. "max" takes the larger, entry by entry. The others are averages, updated in place
    of a list of all Ω_k: Ω = Σ_k w_k Ω_k / Σ_k w_k with w_k = γ^(tasks − k), where γ is
    `discount` for "exponential" and 1 for "mean". A parameter that is new has Ω_k = 0 before.
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
