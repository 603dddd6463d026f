"""The proposal of a strength, from a trial run of a few steps."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from growmas.errors import DataError, PenaltyError
from growmas.penalty.diagnosis import Loss
from growmas.penalty.terms import Terms, norm

MakeOptimizer = Callable[[Iterator[nn.Parameter]], Optimizer]
"""Parameters -> an optimizer over them, such as `functools.partial(torch.optim.Adam, lr=1e-3)`."""


def propose_strength(
    model: nn.Module,
    terms: tuple[Terms, ...],
    batches: Iterable[Any],
    loss: Loss,
    optimizer: MakeOptimizer,
    share: float,
) -> float:
    """Propose a strength, see `MAS.propose_strength`.

    Args:
        model: The network; it is not touched.
        terms: The terms of its penalty.
        batches: Batches of the next task.
        loss: The task's loss.
        optimizer: Parameters -> an optimizer.
        share: Gradient of the penalty over gradient of the loss.
    """
    if not terms:
        raise PenaltyError("nothing is held yet: call consolidate(batches) first")
    trial = copy.deepcopy(model)
    devices = {p.device for p in trial.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(devices, key=str)), torch.enable_grad():
        loss_gradient = _train(trial, terms, batches, loss, optimizer(trial.parameters()))
    after = dict(trial.named_parameters())
    gradients = [
        2 * omega * (after[name].detach() - p.detach())
        for t in terms
        for name, p, omega in zip(t.names, t.parameters, t.omegas, strict=True)
    ]
    gradient = norm(gradients)
    if not (math.isfinite(gradient) and math.isfinite(loss_gradient)):
        raise PenaltyError("the trial run diverged: lower the learning rate of optimizer=")
    if gradient == 0:
        raise PenaltyError(
            "no parameter with importance moved in the trial run, so that it does not determine a "
            "strength: look at mas.diagnose(), and at requires_grad"
        )
    return share * loss_gradient / gradient


def _train(
    trial: nn.Module,
    terms: tuple[Terms, ...],
    batches: Iterable[Any],
    loss: Loss,
    optimizer: Optimizer,
) -> float:
    """Train; return the root mean square over steps of the gradient norm of the loss.

    The norm is taken over the parameters held.
    """
    held = [trial.get_parameter(name) for t in terms for name in t.names]
    squares = []
    for batch in batches:
        optimizer.zero_grad()
        loss(trial, batch).backward()  # type: ignore[no-untyped-call]
        gradients: list[Tensor] = [p.grad for p in held if p.grad is not None]
        if not gradients:
            raise PenaltyError(
                "loss(model, batch) gave no parameter a gradient: it must use the model that it is "
                "given, which is a copy"
            )
        squares.append(norm(gradients) ** 2)
        optimizer.step()
    if not squares:
        raise DataError("batches is empty: a trial run needs at least one batch")
    return math.sqrt(math.fsum(squares) / len(squares))
