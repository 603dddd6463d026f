"""The terms λ_i Ω_i (θ_i − θ*_i)² of the penalty, as lists of tensors for fused operations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter, is_

import torch
from torch import Tensor

from growmas.errors import PenaltyError
from growmas.penalty.accumulation import precise, precise_dtype
from growmas.penalty.chunks import Chunks, divide


@dataclass(frozen=True, eq=False)
class Terms:
    """Parameters of one strength: four lists of equal length.

    Attributes:
        strength: Strength λ.
        names: Qualified names of the parameters.
        parameters: The parameters θ.
        omegas: Ω ≥ 0, of the same shapes.
        anchors: θ*, of the same shapes.
        chunks: Chunks for a CPU's cache; None on other devices and for mixed dtypes or layouts.
        resting: For each parameter that was at its anchor when these terms were made, its version
            counter then; -1 for the others.
        versions: Version counters of Ω and θ* when these terms were made.
        heard: False if every Ω has entries and is 0 everywhere: such terms are neither walked nor
            checked for their shapes.
    """

    strength: float
    names: list[str]
    parameters: list[Tensor]
    omegas: list[Tensor]
    anchors: list[Tensor]
    chunks: Chunks | None
    resting: list[int]
    versions: list[int]
    heard: bool = True

    def value(self) -> Tensor:
        """Return λ Σ Ω (θ − θ*)², with gradient."""
        deltas = torch._foreach_sub(self.parameters, self.anchors)
        squares = torch._foreach_mul(deltas, deltas)
        return self.strength * _total(list(map(_dot, self.omegas, squares)))

    @torch.no_grad()
    def add_gradient_(self, scale: float) -> Tensor:
        """Add scale · 2λ Ω (θ − θ*) to `.grad` of trainable parameters; return λ Σ Ω (θ − θ*)²."""
        if not self.heard:
            return self.omegas[0].new_zeros(())
        factor = 2 * self.strength * scale
        gradients = [
            _dense_gradient(p) if p.requires_grad and not self._is_idle(i) else None
            for i, p in enumerate(self.parameters)
        ]
        chunks = None if torch.compiler.is_compiling() else self.chunks
        if chunks and chunks.fit(self.parameters, gradients):
            value = chunks.add_gradient_(self.parameters, gradients, factor)
        else:
            value = _total(self._add_together(gradients, factor))
        return self.strength * value

    @torch.no_grad()
    def gradients(self) -> dict[str, Tensor]:
        """Return 2λ Ω (θ − θ*) of every trainable parameter, by name."""
        lists = zip(self.names, self.parameters, self.omegas, self.anchors, strict=True)
        return {
            name: 2 * self.strength * omega * (p - anchor)
            for name, p, omega, anchor in lists
            if p.requires_grad
        }

    def are_of(self, omega: Mapping[str, Tensor], anchor: Mapping[str, Tensor]) -> bool:
        """Return True if these are still the same tensors that the penalty holds.

        That the parameters are those of the model is known from `KnownParameters.are_current`.
        """
        held = (omega, self.omegas), (anchor, self.anchors)
        return (
            all(all(map(is_, map(now.get, self.names), then)) for now, then in held)
            and (not self.heard or all(map(_fit, self.parameters, self.omegas)))
            and (not self.versions or self.versions == _versions(self.omegas, self._watched))
        )

    @property
    def _watched(self) -> list[Tensor]:
        """The anchors whose changes matter."""
        return self.anchors if self.heard else []

    def _is_idle(self, i: int) -> bool:
        """Return True for a parameter without a gradient that the penalty does not pull either.

        It is at its anchor. It is given no gradient, so that the optimizer passes it
        by as it would without a penalty: weight decay and momentum do not move heads not in use.
        On a GPU a comparison of values would have to wait, so there the version counter decides.
        """
        p = self.parameters[i]
        if p.grad is not None or p._version != self.resting[i]:
            return False
        return p.device.type != "cpu" or _at(p, self.anchors[i])

    def _add_together(self, gradients: list[Tensor | None], factor: float) -> list[Tensor]:
        """Add factor · Ω (θ − θ*) to every gradient; return Σ Ω (θ − θ*)² of each."""
        deltas = list(torch._foreach_sub(self.parameters, self.anchors))
        live = [(i, gradient) for i, gradient in enumerate(gradients) if gradient is not None]
        if live:
            torch._foreach_addcmul_(
                [gradient for _, gradient in live],
                [deltas[i] for i, _ in live],
                [self.omegas[i] for i, _ in live],
                value=factor,
            )
        torch._foreach_mul_(deltas, deltas)
        if not deltas[0].is_cuda:
            return list(map(_dot, self.omegas, deltas))
        torch._foreach_mul_(deltas, self.omegas)  # all ≥ 0, so that the 1-norm is the sum
        return list(torch._foreach_norm(deltas, 1))


def collect(
    parameters: Mapping[str, Tensor],
    omega: Mapping[str, Tensor],
    anchor: Mapping[str, Tensor],
    strength: Callable[[str], float],
) -> tuple[Terms, ...]:
    """Return the terms of every parameter in `omega`, for each strength the silent ones apart."""
    by_kind: dict[tuple[float, bool], list[str]] = {}
    for name, held in omega.items():
        counted = not any(t.is_inference() for t in (parameters[name], held, anchor[name]))
        silent = counted and held.numel() > 0 and not bool(held.any())
        by_kind.setdefault((strength(name), silent), []).append(name)
    return tuple(
        _make(
            value,
            names,
            [parameters[name] for name in names],
            [omega[name] for name in names],
            [anchor[name] for name in names],
            silent,
        )
        for (value, silent), names in by_kind.items()
    )


def _make(
    strength: float,
    names: list[str],
    parameters: list[Tensor],
    omegas: list[Tensor],
    anchors: list[Tensor],
    silent: bool,
) -> Terms:
    """Return the terms of one strength, with chunks where they are possible."""
    held = [*parameters, *omegas, *anchors]
    counted = not any(t.is_inference() for t in held)  # such tensors have no version
    divisible = (
        counted
        and not silent
        and all(
            t.device.type == "cpu" and t.dtype == held[0].dtype and t.is_contiguous() for t in held
        )
    )
    return Terms(
        strength,
        names,
        parameters,
        omegas,
        anchors,
        divide(omegas, anchors) if divisible else None,
        [
            p._version if counted and not silent and _at(p, anchor) else -1
            for p, anchor in zip(parameters, anchors, strict=True)
        ],
        _versions(omegas, [] if silent else anchors) if counted else [],
        heard=not silent,
    )


def check_fit(
    held: Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
    what: str = "importance and anchors",
) -> None:
    """Refuse Ω, anchors or masks whose names or shapes differ from those of the model.

    Args:
        held: Parameter name -> tensor to check.
        parameters: The model's parameters by name.
        what: The words for the message.

    Raises:
        PenaltyError: Lists them all.
    """
    if not isinstance(held, Mapping):
        raise PenaltyError(
            f"{what}: expected a dict of tensors by parameter name, such as mas.omega, got "
            f"{type(held).__name__}"
        )
    wrong = [
        f"{name}: held {tuple(tensor.shape)}, "
        f"model {tuple(parameters[name].shape) if name in parameters else 'has no such parameter'}"
        for name, tensor in held.items()
        if name not in parameters or parameters[name].shape != tensor.shape
    ]
    if wrong:
        raise PenaltyError(
            f"{what} do not fit the model: {'; '.join(wrong)}; the object that holds them must be "
            "among the followers= of every structure.apply"
        )


def norm(tensors: list[Tensor]) -> float:
    """Return the Euclidean norm of all entries of all tensors."""
    dense = [t if t.layout == torch.strided else t.to_dense() for t in tensors]
    norms = [precise(tensor).norm().cpu().double() for tensor in dense]
    return float(torch.stack(norms).norm()) if norms else 0.0


def _versions(*held: list[Tensor]) -> list[int]:
    """Return the version counters, which count in-place changes."""
    return list(map(attrgetter("_version"), chain(*held)))


def _fit(parameter: Tensor, omega: Tensor) -> bool:
    """Return True if Ω is of the shape and device of its parameter, and precise enough."""
    return (
        parameter.device == omega.device
        and parameter.shape == omega.shape
        and (parameter.dtype is omega.dtype or precise_dtype(parameter.dtype) == omega.dtype)
    )


def _at(parameter: Tensor, anchor: Tensor) -> bool:
    """Return True if a parameter that has entries is at its anchor."""
    return anchor.numel() > 0 and torch.equal(parameter.detach().to(anchor.dtype), anchor)


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Return the sum of products of the entries."""
    return torch.dot(left.flatten(), right.flatten())


def _total(values: list[Tensor]) -> Tensor:
    """Return the sum, on the device of the first value."""
    return torch.stack([value.to(values[0].device) for value in values]).sum()


def _dense_gradient(parameter: Tensor) -> Tensor:
    """Return the parameter's `.grad`, created if there is none and dense if it is sparse."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    elif parameter.grad.layout != torch.strided:
        parameter.grad = parameter.grad.to_dense()
    return parameter.grad
