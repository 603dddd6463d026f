"""The MAS penalty: what mattered to earlier tasks is kept from being overwritten."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from growmas.errors import PenaltyError
from growmas.penalty.diagnosis import Diagnosis, Loss, diagnose
from growmas.penalty.memory import TaskMemory
from growmas.penalty.proposal import MakeOptimizer, propose_strength
from growmas.penalty.settings import Strength, check_strength, check_used, strength_of
from growmas.penalty.terms import Terms, collect
from growmas.penalty.monitor import Monitor, loss_gradient


class MAS(TaskMemory):
    """Importance Ω and anchors θ* over tasks, and the penalty they make (MAS, Eq. 3).

    Σ_i λ_i Ω_i (θ_i − θ*_i)², with no factor ½; θ* are the parameters at the last `consolidate`.
    Everything is keyed by qualified parameter name, so it survives checkpoints and surgery, and
    takes the memory of two copies of the parameters however many tasks there are (besides a few
    numbers per parameter and task, for `diagnose`, and 1 MiB a thread to work in). Where
    parameters have half precision, Ω and θ* are float32. A tied parameter counts once, under its
    first name.

    Either add `penalty()` to the loss, or call `penalty_grad_()` after backward: the same gradient
    at half the cost or less. A `GrowmasWarning` tells, once a task, of a penalty that is zero
    without a reason or that swamps the loss; `diagnose` tells more.

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
        model: The network whose parameters are held; of a `torch.compile`d one, what is inside.
        accumulate: How tasks are joined.
        normalize: How one task's Ω is scaled.
        discount: Weight of a task relative to the next, for accumulate="exponential".
        exclude: Patterns of the parameters left free.
        omega: Parameter name -> Ω, accumulated over tasks; empty before the first consolidate.
        anchor: Parameter name -> θ*, of the same names.
        tasks: How many tasks have been consolidated.
        measured: For each of them, quantiles of its Ω by parameter name.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        strength: Strength = 1.0,
        accumulate: str = "sum",
        discount: float = 0.9,
        normalize: str | None = None,
        exclude: Collection[str] = (),
    ) -> None:
        """Hold the parameters of `model`.

        Args:
            model: The network.
            strength: λ ≥ 0 in Eq. 3: one number, or shell pattern -> number. The last pattern
                that matches a parameter counts, and every parameter must match one: begin with
                the general, such as {"*": 1.0, "heads.*": 0.1}.
            accumulate: "sum" over tasks as in the paper; "mean"; "exponential", the average with
                weights `discount`^age, in which a lone first task counts fully; or "max", entry
                by entry. With "sum" the penalty stiffens with every task, with the others a
                strength keeps its meaning.
            discount: Between 0 (the last task alone) and 1 ("mean").
            normalize: Divide each task's Ω by its mean or its maximum over all parameters before
                it is accumulated, so that a strength means the same whatever the scale of the
                outputs; None as in the paper.
            exclude: Names of parameters left free; shell patterns such as "heads.*" count.

        Raises:
            PenaltyError: A negative strength, an unknown word, a pattern that matches nothing, or
                a parameter that no pattern of `strength` matches.
        """
        super().__init__(
            model, accumulate=accumulate, discount=discount, normalize=normalize, exclude=exclude
        )
        self._terms: tuple[Terms, ...] = ()
        self._monitor = Monitor()
        self.strength = strength

    @property
    def strength(self) -> Strength:
        """λ, one number or pattern -> number; may be set anew at any time."""
        return dict(self._strength) if isinstance(self._strength, Mapping) else self._strength

    @strength.setter
    def strength(self, strength: Strength) -> None:
        self._check_strength(strength)
        self._strength: Strength = dict(strength) if isinstance(strength, Mapping) else strength
        self._terms = ()

    def penalty(self) -> Tensor:
        """Σ λ Ω (θ − θ*)², a scalar with gradient; exactly 0 before the first consolidate.

        Raises:
            PenaltyError: A parameter has changed its shape or its name since.
        """
        terms = self._current_terms()
        if not terms:
            return self._zero()
        value = sum((t.value() for t in terms[1:]), terms[0].value())
        if self._monitor.due(self.tasks):
            self._monitor.look(value.detach(), terms, None)
        return value

    def penalty_grad_(self, *, scale: float = 1.0) -> Tensor:
        """Add the gradient of `penalty()` to every `.grad`, in place and without a graph.

        Call it once a step, after the last backward and before anything that reads gradients
        (clipping, the optimizer). Gradients end up as if `penalty()` had been added to the loss,
        to rounding; frozen parameters get none. With gradient accumulation it is still called
        once, after the last micro-batch; gradient hooks do not see it. With a `GradScaler`,
        either after `scaler.unscale_(optimizer)`, or without unscaling and
        `scale=scaler.get_scale()`:

            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            mas.penalty_grad_()
            scaler.step(optimizer)
            scaler.update()

        Args:
            scale: What the loss was multiplied by before its backward.

        Returns:
            Σ λ Ω (θ − θ*)², unscaled, of shape [] and without gradient, on the device of the
            parameters: nothing waits for it. Exactly 0 before the first consolidate.

        Raises:
            PenaltyError: A parameter has changed its shape or its name since.
        """
        terms = self._current_terms()
        if not terms:
            return self._zero()
        look = self._monitor.due(self.tasks)
        loss = loss_gradient(terms, scale) if look else None
        values = [t.add_gradient_(scale) for t in terms]
        value = sum(values[1:], values[0])
        if look:
            self._monitor.look(value, terms, loss)
        return value

    def diagnose(self, batches: Iterable[Any] | None = None, loss: Loss | None = None) -> Diagnosis:
        """Whether the penalty does anything now; the model is bit-identical afterwards.

        Args:
            batches: Batches of the task being learnt, as `loss` takes them; without them nothing
                is compared with the loss.
            loss: (model, batch) -> the task's loss, penalty left out.

        Returns:
            Numbers by parameter and over all; `rich.print` shows them as tables.

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
        """A strength to begin tuning with, from a trial run on a copy of the model.

        The copy is trained without penalty, one step a batch, and λ is such that where it ends,
        the penalty's gradient is `share` of the loss's (root mean square over the steps, on the
        parameters held). It is a heuristic: it knows how far this many steps go, in this
        direction, and nothing of how much forgetting is too much. The more steps, the farther
        they go and the smaller the proposal: give it an epoch or more. (On four permuted
        MNIST-5k tasks, one seed, it proposed 0.023 from one epoch and 0.0095 from four; of 0.001,
        0.01, 0.03, 0.1 and 1 the best was 0.03.) Outputs c times as large make Ω c² times as
        large, and the proposal smaller by c². It does not depend on the present strength.

        Args:
            batches: Batches of the task about to be learnt, as `loss` takes them.
            loss: (model, batch) -> the task's loss; it must use the model that it is given.
            optimizer: Parameters -> an optimizer such as the one that will be used, for instance
                `functools.partial(torch.optim.Adam, lr=1e-3)`.
            share: > 0.

        Returns:
            λ for `mas.strength`.

        Raises:
            PenaltyError: Nothing has been consolidated yet, nothing important moves, or the trial
                diverges.
        """
        if not share > 0:
            raise PenaltyError(f"share={share}: expected a number > 0")
        terms = self._current_terms()
        return propose_strength(self.model, terms, batches, loss, optimizer, share)

    def __getstate__(self) -> dict[str, Any]:
        """All but the cached lists: tensors that share memory would come back apart."""
        return {**vars(self), "_terms": ()}

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values: `omega`, `anchor`, `tasks`, `measured` and the settings."""
        return {**super().state_dict(), "strength": self.strength}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave.

        Raises:
            PenaltyError: Something is missing, names or shapes are not those of the model, or a
                setting is not known; nothing is taken over then.
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
        """The cached lists, made anew where the model or anything held is not what it was."""
        parameters = dict(self.model.named_parameters())
        count = sum(len(t.names) for t in self._terms)
        if count == len(self.omega) and all(
            t.are_of(parameters, self.omega, self.anchor) for t in self._terms
        ):
            return self._terms
        with torch.inference_mode(False):  # what is cached inside could not be used outside
            self._held_parameters()
            self._terms = collect(
                parameters, self.omega, self.anchor, lambda name: strength_of(name, self.strength)
            )
        return self._terms

    def _zero(self) -> Tensor:
        first = next(self.model.parameters(), torch.zeros(()))
        return first.detach().new_zeros(())
