"""Diagnosis of a penalty: its parts in numbers, and those numbers as tables."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from torch import Tensor, nn

from growmas.errors import DataError, PenaltyError
from growmas.penalty.monitor import ZERO_IMPORTANCE, swamped, zero_penalty
from growmas.penalty.terms import Terms, norm
from growmas.preserving import preserving

Loss = Callable[[nn.Module, Any], Tensor]
"""(model, batch) -> the task's loss, a scalar, without the penalty."""

LEVELS = (0.5, 0.9, 0.99, 1.0)

Quantiles = tuple[float, float, float, float]
"""Quantiles of Ω at `LEVELS`, by nearest rank, so that each is the importance of some weight."""

_LEVEL_NAMES = ("50%", "90%", "99%", "max")
_TASKS_SHOWN = 6


@dataclass(frozen=True)
class _Symbols:
    """The symbols of the tables, in Unicode or in ASCII."""

    lines: box.Box
    strength: str
    importance: str


_UNICODE = _Symbols(box.SIMPLE_HEAD, "λ", "Ω")
_ASCII = _Symbols(box.ASCII, "lambda", "omega")


@dataclass(frozen=True)
class ParameterDiagnosis:
    """One parameter under the penalty.

    Attributes:
        name: Qualified name of the parameter.
        elements: Number of entries.
        strength: λ of this parameter.
        omega: Quantiles of Ω, accumulated over tasks.
        moved: Root mean square of θ − θ*.
        penalty: λ Σ Ω (θ − θ*)² of this parameter.
        gradient: Norm of the penalty's gradient; 0 for a frozen parameter.
        loss_gradient: Root mean square over batches of the norm of the loss's gradient; None
            if no batches were given.
    """

    name: str
    elements: int
    strength: float
    omega: Quantiles
    moved: float
    penalty: float
    gradient: float
    loss_gradient: float | None

    @property
    def gradient_share(self) -> float | None:
        """Gradient of the penalty over that of the loss; None if that is unknown or 0."""
        return self.gradient / self.loss_gradient if self.loss_gradient else None


@dataclass(frozen=True)
class Diagnosis:
    """The effect of a penalty in numbers; printing it with rich gives tables.

    Attributes:
        parameters: The parameters under the penalty; empty before the first consolidate.
        penalty: λ Σ Ω (θ − θ*)².
        loss: Mean loss over the batches; None if no batches were given.
        gradient: Norm of the penalty's gradient.
        loss_gradient: Root mean square over batches of the norm of the loss's gradient, on the
            parameters under the penalty; None if no batches were given.
        measured: For each task, in order, the quantiles of the Ω that its consolidate added, by
            parameter, after normalisation.
        findings: Faults, each with cause and remedy.
    """

    parameters: tuple[ParameterDiagnosis, ...]
    penalty: float
    loss: float | None
    gradient: float
    loss_gradient: float | None
    measured: tuple[Mapping[str, Quantiles], ...]
    findings: tuple[str, ...]

    @property
    def penalty_to_loss(self) -> float | None:
        """Penalty over loss; None if no batches were given or the loss is 0."""
        return self.penalty / self.loss if self.loss else None

    @property
    def gradient_share(self) -> float | None:
        """Gradient of the penalty over that of the loss; None if that is unknown or 0."""
        return self.gradient / self.loss_gradient if self.loss_gradient else None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the tables, in ASCII on a console without Unicode."""
        symbols = _ASCII if options.ascii_only else _UNICODE
        yield _parameter_table(self, symbols)
        if self.measured:
            yield _task_table(self, symbols)
        yield from self.findings


def diagnose(
    model: nn.Module,
    terms: tuple[Terms, ...],
    measured: Sequence[Mapping[str, Quantiles]],
    batches: Iterable[Any] | None,
    loss: Loss | None,
) -> Diagnosis:
    """Compute the diagnosis of a penalty, see `MAS.diagnose`.

    Args:
        model: The network.
        terms: The terms of its penalty.
        measured: Quantiles of Ω by parameter, for each task.
        batches: Batches to take the loss on, or None.
        loss: The loss, or None.

    Raises:
        PenaltyError: Only one of `batches` and `loss` is given.
        DataError: There is no batch.
    """
    if (batches is None) != (loss is None):
        raise PenaltyError("diagnose: give batches and loss=lambda model, batch: ..., or neither")
    mean, by_name = None, None
    if batches is not None and loss is not None:
        mean, by_name = _loss_gradients(model, terms, batches, loss)
    parameters = tuple(p for t in terms for p in _parameters(t, by_name))
    penalty = math.fsum(p.penalty for p in parameters)
    gradient = math.hypot(*(p.gradient for p in parameters))
    loss_gradient = None if by_name is None else math.hypot(*by_name.values())
    omegas = [omega for t in terms for omega in t.omegas]
    findings = [
        ZERO_IMPORTANCE if omegas and not any(bool(omega.any()) for omega in omegas) else None,
        zero_penalty(terms) if penalty == 0 else None,
        swamped(gradient / loss_gradient) if loss_gradient else None,
    ]
    return Diagnosis(
        parameters=parameters,
        penalty=penalty,
        loss=mean,
        gradient=gradient,
        loss_gradient=loss_gradient,
        measured=tuple(measured),
        findings=tuple(finding for finding in findings if finding),
    )


def quantiles(omega: Tensor) -> Quantiles:
    """Return the quantiles of Ω at `LEVELS`; zeros for a parameter without entries."""
    flat = omega.detach().flatten()
    if not len(flat):
        return (0.0, 0.0, 0.0, 0.0)
    ranks = [max(1, math.ceil(level * len(flat))) for level in LEVELS[:-1]]
    half, ninth, most = (float(flat.kthvalue(rank).values) for rank in ranks)
    return (half, ninth, most, float(flat.max()))


def _parameters(terms: Terms, by_name: Mapping[str, float] | None) -> list[ParameterDiagnosis]:
    """Return the diagnosis of every parameter of one strength."""
    gradients = terms.gradients()
    lists = zip(terms.names, terms.parameters, terms.omegas, terms.anchors, strict=True)
    found = []
    for name, p, omega, anchor in lists:
        delta = (p.detach() - anchor).double()
        found.append(
            ParameterDiagnosis(
                name=name,
                elements=p.numel(),
                strength=terms.strength,
                omega=quantiles(omega),
                moved=float(delta.square().mean().sqrt()) if p.numel() else 0.0,
                penalty=terms.strength * float((omega * delta.square()).sum()),
                gradient=norm([gradients[name]]) if name in gradients else 0.0,
                loss_gradient=None if by_name is None else by_name.get(name, 0.0),
            )
        )
    return found


def _loss_gradients(
    model: nn.Module, terms: tuple[Terms, ...], batches: Iterable[Any], loss: Loss
) -> tuple[float, dict[str, float]]:
    """Return the mean loss, and by parameter the root mean square of its gradient's norm.

    The mean is over batches. Modules stay in train or eval mode, as in training; the model is
    unchanged afterwards.
    """
    pairs = [(n, p) for t in terms for n, p in zip(t.names, t.parameters, strict=True)]
    held = {name: p for name, p in pairs if p.requires_grad}
    squares = dict.fromkeys(held, 0.0)
    losses = []
    modes = [(module, module.training) for module in model.modules()]
    with preserving(model), torch.enable_grad():
        for module, mode in modes:
            module.training = mode
        for batch in batches:
            value = loss(model, batch)
            found = torch.autograd.grad(value, list(held.values()), allow_unused=True)
            for name, gradient in zip(held, found, strict=True):
                squares[name] += norm([gradient]) ** 2 if gradient is not None else 0.0
            losses.append(float(value.detach()))
    if not losses:
        raise DataError("batches is empty: the gradient of the loss needs at least one batch")
    mean = {name: math.sqrt(square / len(losses)) for name, square in squares.items()}
    return math.fsum(losses) / len(losses), mean


def _parameter_table(diagnosis: Diagnosis, symbols: _Symbols) -> Table:
    """Return a table with a row for each parameter."""
    table = Table(
        box=symbols.lines, show_footer=True, title="What the penalty holds, and what it does"
    )
    table.add_column("parameter", "all", overflow="fold")
    columns = {
        "entries": f"{sum(p.elements for p in diagnosis.parameters)}",
        symbols.strength: "",
        **{f"{symbols.importance} {column}": "" for column in _LEVEL_NAMES},
        "moved": "",
        "penalty": _short(diagnosis.penalty),
        "of loss": _percent(diagnosis.penalty_to_loss),
        "of loss gradient": _percent(diagnosis.gradient_share),
    }
    for header, footer in columns.items():
        table.add_column(header, footer, justify="right", overflow="fold")
    for p in diagnosis.parameters:
        table.add_row(
            p.name,
            f"{p.elements}",
            f"{p.strength:g}",
            *map(_short, p.omega),
            _short(p.moved),
            _short(p.penalty),
            _percent(p.penalty / diagnosis.loss if diagnosis.loss else None),
            _percent(p.gradient_share),
        )
    return table


def _task_table(diagnosis: Diagnosis, symbols: _Symbols) -> Table:
    """Return a table with a column for each of the last tasks."""
    shown = list(enumerate(diagnosis.measured, start=1))[-_TASKS_SHOWN:]
    title = f"{symbols.importance} by task, 50% and 99%"
    table = Table(box=symbols.lines, title=title)
    table.add_column("parameter", overflow="fold")
    for task, _ in shown:
        table.add_column(f"task {task}", justify="right", overflow="fold")
    for name in dict.fromkeys(name for _, measured in shown for name in measured):
        cells = [
            f"{_short(measured[name][0])} {_short(measured[name][2])}" if name in measured else "-"
            for _, measured in shown
        ]
        table.add_row(name, *cells)
    return table


def _short(value: float) -> str:
    return "0" if value == 0 else f"{value:.2g}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
