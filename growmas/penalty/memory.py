"""Importance Ω and anchors θ* over tasks, by parameter name, in the memory of two models."""

import warnings
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from growmas.batches import Forward
from growmas.errors import GrowmasWarning, PenaltyError
from growmas.importance.measurement import check_is_module
from growmas.penalty.accumulation import (
    Data,
    accumulated,
    importance_of,
    normalized,
    precise,
    precise_dtype,
)
from growmas.penalty.diagnosis import Quantiles, quantiles
from growmas.penalty.settings import check_choices, check_share, check_used
from growmas.penalty.terms import check_fit
from growmas.penalty.watch import ZERO_IMPORTANCE

if TYPE_CHECKING:
    from growmas.structure import Edit


class TaskMemory:
    """What is known of the tasks so far: how important each parameter is, and where it was.

    Everything is keyed by qualified parameter name, so it survives checkpoints and surgery. Where
    parameters have half precision, Ω and θ* are float32. A tied parameter counts once, under its
    first name.

    The attributes are those of `MAS`, which inherits them.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        accumulate: str,
        discount: float,
        normalize: str | None,
        exclude: Collection[str],
    ) -> None:
        """See `MAS`."""
        check_is_module(model)
        self.model: nn.Module = getattr(model, "_orig_mod", model)
        self.accumulate = accumulate
        self.discount = discount
        self.normalize = normalize
        self.exclude = tuple(exclude)
        self.omega: dict[str, Tensor] = {}
        self.anchor: dict[str, Tensor] = {}
        self.tasks = 0
        self.measured: tuple[Mapping[str, Quantiles], ...] = ()
        check_choices(accumulate, normalize, discount)
        if isinstance(exclude, str):
            raise PenaltyError(f"exclude={exclude!r}: expected several patterns: ({exclude!r},)")
        check_used("exclude", self.exclude, self._names())

    def consolidate(
        self,
        batches: Data,
        *,
        forward: Forward | None = None,
        function: str | Callable[[Any], Tensor] = "squared_norm",
        estimator: str = "exact",
    ) -> None:
        """End a task: Ω ← Ω ⊕ importance(batches), θ* ← θ.

        Warns (`GrowmasWarning`) if the importance is zero for every parameter.

        Args:
            batches: Unlabelled data of the task; see `mas_importance`, also for the other
                arguments. Or what was measured, such as an `ImportanceSum`.
            forward: How a batch goes through the model, for instance to the task's own head.
            function: What of the output is measured.
            estimator: "exact" or "batch".
        """
        parameters = self._held_parameters()
        measured = self._measure(batches, forward, function, estimator)
        self.omega = accumulated(
            self.omega,
            measured,
            rule=self.accumulate,
            tasks=self.tasks + 1,
            discount=self.discount,
        )
        self.anchor = {name: precise(parameters[name].detach()).clone() for name in measured}
        self.tasks += 1
        self.measured += ({name: quantiles(omega) for name, omega in measured.items()},)
        if measured and not any(bool(omega.any()) for omega in measured.values()):
            warnings.warn(ZERO_IMPORTANCE, GrowmasWarning, stacklevel=2)

    def adapt(
        self,
        batches: Data,
        *,
        forward: Forward | None = None,
        function: str | Callable[[Any], Tensor] = "squared_norm",
        keep: float = 0.0,
        rescale: bool = True,
    ) -> None:
        """Re-weigh Ω toward what is really used, on unlabelled data; θ* stays.

        Ω ← keep · Ω + (1 − keep) · importance(batches). In the paper (§4 and its experiments on
        adaptation) the importance on what a user meets takes the place of the one measured after
        training: `keep=0, rescale=False`. By default it is also scaled to the total of Ω before.
        Otherwise data of all tasks taken together would weigh as one task, where Ω is a sum over
        T, and the strength would have to grow T-fold to mean the same. What `batches` do not use
        becomes free, so they should show everything that is to be kept.

        Args:
            batches: Unlabelled data as they are met; see `mas_importance`.
            forward: How a batch goes through the model.
            function: What of the output is measured.
            keep: Share of the old Ω, between 0 and 1, for data that show only part of the use.
            rescale: Whether the total of Ω stays; False takes the importance as it is measured
                (and normalised).

        Raises:
            PenaltyError: Nothing has been consolidated yet, or these batches give no importance
                to any parameter held.
        """
        check_share("keep", keep)
        measured = self._measure_held("adapt", batches, forward, function)
        before, after = (
            sum(float(omega.double().sum()) for omega in omegas.values())
            for omegas in (self.omega, measured)
        )
        if after == 0:
            raise PenaltyError("the importance on these batches is zero for every parameter")
        factor = (1 - keep) * (before / after if rescale else 1.0)
        self.omega = {n: keep * omega + factor * measured[n] for n, omega in self.omega.items()}

    def forget(
        self,
        batches: Data,
        *,
        forward: Forward | None = None,
        function: str | Callable[[Any], Tensor] = "squared_norm",
        weight: float = 1.0,
    ) -> None:
        """Give up a task: Ω ← max(0, Ω − weight · importance(batches)); θ* stays.

        Tasks are not stored one by one, so what is subtracted is the importance that data of the
        task have now. It equals what was added only as far as neither the parameters nor the data
        have changed since; the further they have, the more is left behind in one place and taken
        from other tasks in another. With "max" nothing can be told apart: what the task shares
        with others goes too.

        Args:
            batches: Unlabelled data of the task; see `mas_importance`.
            forward: How a batch goes through the model.
            function: What of the output is measured.
            weight: With which the task stands in Ω: 1 in a "sum", 1/T in a "mean" of T tasks.

        Raises:
            PenaltyError: Nothing has been consolidated yet, or a negative weight.
        """
        if not weight >= 0:
            raise PenaltyError(f"weight={weight}: expected a number >= 0")
        measured = self._measure_held("forget", batches, forward, function)
        self.omega = {
            n: (omega - weight * measured[n]).clamp_(min=0) for n, omega in self.omega.items()
        }

    def decay(self, factor: float) -> None:
        """Hold everything so far less strongly: Ω ← factor · Ω, 0 ≤ factor ≤ 1; θ* stays."""
        check_share("factor", factor)
        self.omega = {name: factor * omega for name, omega in self.omega.items()}

    def follow(self, edit: "Edit") -> None:
        """Re-index Ω and anchors as `edit` did the parameters.

        A fresh entry has importance 0 and is anchored where it was born; a twin shares its
        parent's importance and anchor, see `Split`. Where reconstruction changed a weight, its
        anchor is shifted alike: the penalty does not pull back what was mended.
        """
        parameters = dict(self.model.named_parameters())
        self.omega = {
            name: edit.reindex(name, value, nature="importance")
            for name, value in self.omega.items()
        }
        self.anchor = {
            name: edit.reindex(name, value, fresh=parameters[name].detach(), nature="value")
            for name, value in self.anchor.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values: `omega`, `anchor`, `tasks`, `measured` and the settings."""
        return {
            "omega": dict(self.omega),
            "anchor": dict(self.anchor),
            "tasks": self.tasks,
            "measured": [{n: list(q) for n, q in task.items()} for task in self.measured],
            "parameters": self._names(),
            "accumulate": self.accumulate,
            "discount": self.discount,
            "normalize": self.normalize,
            "exclude": list(self.exclude),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave.

        Raises:
            PenaltyError: Something is missing, names or shapes are not those of the model, or a
                setting is not known; nothing is taken over then.
        """
        self._check_state(state)
        self.omega, self.anchor = dict(state["omega"]), dict(state["anchor"])
        self.tasks = int(state["tasks"])
        self.measured = tuple({n: tuple(q) for n, q in task.items()} for task in state["measured"])
        self.accumulate, self.discount = state["accumulate"], float(state["discount"])
        self.normalize, self.exclude = state["normalize"], tuple(state["exclude"])
        self._held_parameters()

    def _check_state(self, state: Mapping[str, Any]) -> None:
        missing = self.state_dict().keys() - state.keys()
        if missing:
            raise PenaltyError(f"the state lacks {', '.join(sorted(missing))}")
        parameters = dict(self.model.named_parameters())
        check_fit(state["omega"], parameters)
        check_fit(state["anchor"], parameters)
        lonely = sorted(state["omega"].keys() ^ state["anchor"].keys())
        if lonely:
            raise PenaltyError(f"{', '.join(lonely)}: importance without anchor, or the reverse")
        differing = sorted(parameters.keys() ^ set(state["parameters"]))
        if differing:
            raise PenaltyError(
                f"{', '.join(differing)}: in the model or in the state, but not in both; load into "
                "a model of the same parameters, before any are added"
            )
        check_choices(state["accumulate"], state["normalize"], state["discount"])

    def _measure(
        self,
        batches: Data,
        forward: Forward | None,
        function: str | Callable[[Any], Tensor],
        estimator: str = "exact",
    ) -> dict[str, Tensor]:
        """The importance on `batches` of what is not excluded, as it enters Ω."""
        measured = importance_of(self.model, batches, forward, function, estimator, self.exclude)
        return normalized(measured, self.normalize)

    def _measure_held(
        self,
        deed: str,
        batches: Data,
        forward: Forward | None,
        function: str | Callable[[Any], Tensor],
    ) -> dict[str, Tensor]:
        """The same for what is held already; a parameter added since stays free."""
        if not self.omega:
            raise PenaltyError(f"nothing to {deed}: call consolidate(batches) first")
        self._held_parameters()
        measured = self._measure(batches, forward, function)
        return {name: measured[name] for name in self.omega}

    def _held_parameters(self) -> dict[str, nn.Parameter]:
        """The model's parameters, checked against Ω, which follows their device and dtype."""
        parameters = dict(self.model.named_parameters())
        for held in (self.omega, self.anchor):
            check_fit(held, parameters)
            held.update({name: _beside(tensor, parameters[name]) for name, tensor in held.items()})
        return parameters

    def _names(self) -> list[str]:
        return [name for name, _ in self.model.named_parameters()]


def _beside(tensor: Tensor, parameter: Tensor) -> Tensor:
    """What is held of a parameter, on its device and as precise; a new tensor only if it must."""
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        tensor = tensor.clone()  # autograd could not save it
    return tensor.to(parameter.device, precise_dtype(parameter.dtype))
