"""The MAS penalty, which keeps parameters important to earlier tasks near their old values."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from growmas.penalty.diagnosis import Diagnosis, Loss, diagnose
from growmas.penalty.memory import TaskMemory
from growmas.penalty.monitor import Monitor, loss_gradient
from growmas.penalty.parameters import KnownParameters
from growmas.penalty.proposal import MakeOptimizer, propose_strength
from growmas.penalty.settings import (
    Accumulate,
    Normalize,
    Strength,
    check_positive,
    check_strength,
    check_used,
    strength_of,
)
from growmas.penalty.terms import Terms, collect


class MAS(TaskMemory):
    """Importance Ω and anchors θ* over tasks, and the penalty made of them (MAS, Eq. 3).

    The penalty is Σ_i λ_i Ω_i (θ_i − θ*_i)², without a factor ½; θ* are the parameters at the last
    `consolidate`. Everything is keyed by qualified parameter name, so it survives checkpoints and
    surgery. It takes the memory of two copies of the parameters, for any number of tasks
    (plus a few numbers per parameter and task, for `diagnose`, and 1 MiB of workspace per
    thread). Where parameters have half precision, Ω and θ* are float32. A tied parameter counts
    once, under its first name.

    Either add `penalty()` to the loss, or call `penalty_grad_()` after backward: the same gradient
    at half the cost or less. A `GrowmasWarning`, once per task, reports a penalty that is zero
    without a reason or that dominates the loss; `diagnose` gives the details.

    A network with a head per task needs nothing special: importance measured through one head
    (`forward=lambda model, batch: model(batch, head)`) is exactly zero for the others, so a head
    is protected once its task has been consolidated, and a new one is free.

    Example:
        >>> import torch, growmas
        >>> model = torch.nn.Linear(3, 2)
        >>> mas = growmas.MAS(model, strength=0.5)
        >>> float(mas.penalty())
        0.0
        >>> mas.consolidate([torch.ones(4, 3)])
        >>> with torch.no_grad():
        ...     _ = model.weight.add_(1.0)
        >>> bool(mas.penalty() > 0)
        True

    Attributes:
        model: The network whose parameters are held; of a `torch.compile`d one, the module inside.
        accumulate: How the tasks' Ω are combined.
        normalize: How the Ω of one task is scaled.
        discount: Weight of a task relative to the next one, for accumulate="exponential".
        exclude: Patterns of the parameters that are not held.
        omega: Parameter name -> Ω, accumulated over tasks; empty before the first consolidate.
        anchor: Parameter name -> θ*, with the same names.
        tasks: Number of tasks consolidated.
        measured: For each task, quantiles of its Ω by parameter name.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        strength: Strength = 1.0,
        accumulate: Accumulate = "sum",
        discount: float = 0.9,
        normalize: Normalize = None,
        exclude: Collection[str] = (),
    ) -> None:
        """Hold the parameters of `model`.

        Args:
            model: The network.
            strength: λ ≥ 0 in Eq. 3: one number, or shell pattern -> number. The last pattern
                that matches a parameter counts, and every parameter must match one: begin with
                the most general, such as {"*": 1.0, "heads.*": 0.1}.
            accumulate: "sum" over tasks as in the paper; "mean"; "exponential", the average with
                weights `discount`^age, in which a single first task has weight 1; or "max",
                entry by entry. With "sum" the penalty grows with every task; with the others a
                strength keeps its meaning.
            discount: Between 0 (the last task only) and 1 ("mean").
            normalize: Divide each task's Ω by its mean or its maximum over all parameters before
                it is accumulated, so that a strength means the same for every scale of the
                outputs; None as in the paper.
            exclude: Names, or shell patterns such as "heads.*", of parameters that are not held.

        Raises:
            ImportanceError: `model` is not a `torch.nn.Module`.
            PenaltyError: A negative strength, an unknown word, a pattern that does not match any
                parameter, or a parameter that no pattern of `strength` matches.
        """
        super().__init__(
            model, accumulate=accumulate, discount=discount, normalize=normalize, exclude=exclude
        )
        self._terms: tuple[Terms, ...] = ()
        self._known: KnownParameters | None = None
        self._monitor = Monitor()
        self.strength = strength

    def __repr__(self) -> str:
        tasks = f"{self.tasks} task{'' if self.tasks == 1 else 's'}"
        held = sum(omega.numel() for omega in self.omega.values())
        return (
            f"{type(self).__name__}({type(self.model).__name__}, strength={self.strength!r}, "
            f"accumulate={self.accumulate!r}; {tasks}, {held:,} parameters held)"
        )

    @property
    def strength(self) -> Strength:
        """Strength λ, one number or pattern -> number; it may be changed at any time."""
        return dict(self._strength) if isinstance(self._strength, Mapping) else self._strength

    @strength.setter
    def strength(self, strength: Strength) -> None:
        self._check_strength(strength)
        self._strength: Strength = dict(strength) if isinstance(strength, Mapping) else strength
        self._terms = ()

    def penalty(self) -> Tensor:
        """Return Σ λ Ω (θ − θ*)², a scalar with gradient; exactly 0 before the first consolidate.

        Parameters of Ω = 0 get no gradient from it. Other heads that are not in use get one of 0,
        on which weight decay and momentum act; with `penalty_grad_()` they get none.

        Raises:
            PenaltyError: A parameter has changed its shape or its name since the last consolidate.
        """
        terms = self._current_terms()
        if not terms:
            return self._zero()
        terms = tuple(t for t in terms if t.heard) or terms  # a scalar with gradient, if it is 0
        value = sum((t.value() for t in terms[1:]), terms[0].value())
        if self._monitor.due(self.tasks):
            self._monitor.check(value.detach(), terms, None)
        return value

    def penalty_grad_(self, *, scale: float = 1.0) -> Tensor:
        """Add the gradient of `penalty()` to every `.grad`, in place and without a graph.

        Call it once per step, after the last backward and before anything that reads gradients
        (clipping, the optimizer). Up to rounding, gradients are then the same as if `penalty()`
        had been added to the loss, except that a gradient of exactly 0 is not created: frozen
        parameters get none, nor do those without a gradient that have no importance, or have not
        moved from their anchor, such as heads not in use. So a penalty does not change which
        parameters the optimizer visits: weight decay and momentum leave those heads alone. With
        gradient accumulation, call it once, after the last micro-batch. Gradient hooks do not see
        it. With a `GradScaler`, call it
        after `scaler.unscale_(optimizer)`, or without unscaling and with
        `scale=scaler.get_scale()`:

            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            mas.penalty_grad_()
            scaler.step(optimizer)
            scaler.update()

        Args:
            scale: Factor by which the loss was multiplied before its backward.

        Returns:
            Σ λ Ω (θ − θ*)², unscaled, of shape [] and without gradient, on the device of the
            parameters, without synchronisation. Exactly 0 before the first consolidate.

        Raises:
            PenaltyError: A parameter has changed its shape or its name since the last consolidate.
        """
        terms = self._current_terms()
        if not terms:
            return self._zero()
        checked = self._monitor.due(self.tasks)
        loss = loss_gradient(terms, scale) if checked else None
        values = [t.add_gradient_(scale) for t in terms]
        value = sum(values[1:], values[0])
        if checked:
            self._monitor.check(value, terms, loss)
        return value

    def diagnose(self, batches: Iterable[Any] | None = None, loss: Loss | None = None) -> Diagnosis:
        """Report the effect that the penalty has now; the model is bit-identical afterwards.

        Args:
            batches: Batches of the task being learnt, as `loss` takes them; without them there is
                no comparison with the loss.
            loss: (model, batch) -> the task's loss, without the penalty.

        Returns:
            Numbers for each parameter and for all; `rich.print` shows them as tables.

        Raises:
            PenaltyError: Only one of `batches` and `loss` is given.
        """
        return diagnose(self.model, self._current_terms(), self.measured, batches, loss)

    def propose_strength(
        self,
        batches: Iterable[Any],
        loss: Loss,
        *,
        optimizer: MakeOptimizer,
        share: float = 0.1,
    ) -> float:
        """Propose a strength to begin tuning with, from a trial run on a copy of the model.

        The copy is trained without penalty, one step per batch. λ is such that at the end of the
        run, the penalty's gradient is `share` of the loss's (root mean square over the steps, on
        the parameters held). It is a heuristic: it measures how far this many steps go, and does
        not know how much forgetting is acceptable. The more steps, the farther they go and the
        smaller the proposal: give it an epoch or more. (On four permuted MNIST-5k tasks, one seed,
        it proposed 0.023 from one epoch and 0.0095 from four; of 0.001, 0.01, 0.03, 0.1 and 1 the
        best was 0.03.) Outputs c times as large make Ω c² times as large and the proposal c²
        times smaller. It does not depend on the present strength.

        Args:
            batches: Batches of the task about to be learnt, as `loss` takes them.
            loss: (model, batch) -> the task's loss; it must use the model that it is given.
            optimizer: Parameters -> an optimizer such as the one that will be used, for instance
                `functools.partial(torch.optim.Adam, lr=1e-3)`.
            share: Gradient of the penalty over gradient of the loss, > 0.

        Returns:
            λ for `mas.strength`.

        Raises:
            PenaltyError: Nothing has been consolidated yet, no important parameter moves, or the
                trial run diverges.
        """
        check_positive("share", share)
        terms = self._current_terms()
        return propose_strength(self.model, terms, batches, loss, optimizer, share)

    def __getstate__(self) -> dict[str, Any]:
        """Return everything except what is cached, whose tensors share memory."""
        return {**vars(self), "_terms": (), "_known": None}

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values: `omega`, `anchor`, `tasks`, `measured` and settings."""
        return {**super().state_dict(), "strength": self.strength}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state that `state_dict` returned.

        Raises:
            PenaltyError: Something is missing, names or shapes differ from those of the model, or
                a setting is unknown; nothing is loaded then.
        """
        super().load_state_dict(state)
        self.strength = state["strength"]
        self._monitor = Monitor()

    def _check_state(self, state: Mapping[str, Any]) -> None:
        super()._check_state(state)
        self._check_strength(state["strength"])

    def _check_strength(self, strength: Strength) -> None:
        check_strength(strength)
        if isinstance(strength, Mapping):
            names = self._names()
            check_used("strength", strength, names)
            for name in names:
                strength_of(name, strength)

    def _current_terms(self) -> tuple[Terms, ...]:
        """Return the cached terms, made anew if the model or anything held has changed."""
        count = sum(len(t.names) for t in self._terms)
        if (
            count == len(self.omega)
            and self._known is not None
            and self._known.are_current()
            and all(t.are_of(self.omega, self.anchor) for t in self._terms)
        ):
            return self._terms
        with torch.inference_mode(False):  # what is cached inside could not be used outside
            self._held_parameters()
            self._known = KnownParameters(self.model)
            parameters = self._known.by_name
            self._terms = collect(
                parameters, self.omega, self.anchor, lambda name: strength_of(name, self.strength)
            )
        return self._terms

    def _zero(self) -> Tensor:
        """Return a 0 on the device and in the dtype of the model."""
        first = next(self.model.parameters(), torch.zeros(()))
        return first.detach().new_zeros(())
