"""The memory of tasks: importance Ω and anchors θ* by parameter name."""

import warnings
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from growmas.batches import Forward
from growmas.errors import GrowmasWarning, PenaltyError
from growmas.importance.measurement import check_is_module
from growmas.penalty.accumulation import (
    Data,
    Estimator,
    Function,
    accumulated,
    importance_of,
    normalized,
    precise,
    precise_dtype,
)
from growmas.penalty.diagnosis import Quantiles, quantiles
from growmas.penalty.monitor import ZERO_IMPORTANCE
from growmas.penalty.settings import (
    Accumulate,
    Normalize,
    check_choices,
    check_not_negative,
    check_share,
    check_used,
)
from growmas.penalty.terms import check_fit

if TYPE_CHECKING:
    from growmas.structure import Edit


class TaskMemory:
    """The importance and the anchor of each parameter, over the tasks so far.

    Everything is keyed by qualified parameter name, so it survives checkpoints and surgery, and
    takes the memory of two copies of the parameters. Where parameters have half precision, Ω and
    θ* are float32. A tied parameter counts once, under its first name.

    The attributes are those of `MAS`, which inherits them.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        accumulate: Accumulate,
        discount: float,
        normalize: Normalize,
        exclude: Collection[str],
    ) -> None:
        """Hold the parameters of `model`; the settings are those of `MAS`."""
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
            raise PenaltyError(
                f"exclude={exclude!r}: expected a tuple of patterns, such as ({exclude!r},)"
            )
        check_used("exclude", self.exclude, self._names())

    def consolidate(
        self,
        batches: Data,
        *,
        forward: Forward | None = None,
        function: Function = "squared_norm",
        estimator: Estimator = "exact",
    ) -> None:
        """End a task: Ω ← Ω ⊕ importance(batches), θ* ← θ.

        Warns (`GrowmasWarning`) if the importance is zero for every parameter.

        Args:
            batches: Unlabelled data of the task, see `mas_importance`; or an importance measured
                before, such as an `ImportanceSum`.
            forward: How a batch goes through the model, for instance to the task's own head.
            function: The function of the output whose sensitivity is measured: "squared_norm",
                "vector", or output -> [N].
            estimator: "exact" or "batch".

        Raises:
            DataError: There is no batch, or `batches` is not an iterable of batches.
            PenaltyError: The importance is of another model.
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
        function: Function = "squared_norm",
        keep: float = 0.0,
        rescale: bool = True,
    ) -> None:
        """Re-weight Ω towards the data met in use, on unlabelled data; θ* stays.

        Ω ← keep · Ω + (1 − keep) · importance(batches). In the paper (§4 and its experiments on
        adaptation) the importance on the data that a user meets replaces the one measured after
        training: `keep=0, rescale=False`. By default it is also scaled to the total of the old Ω.
        Otherwise data of all T tasks together would count as one task, while Ω is a sum over T,
        and the strength would have to grow T-fold to mean the same. Parameters that `batches` do
        not use become free, so the batches should cover everything that is to be kept.

        Args:
            batches: Unlabelled data as met in use, see `mas_importance`.
            forward: How a batch goes through the model.
            function: The function of the output whose sensitivity is measured.
            keep: Share of the old Ω, between 0 and 1, for data that cover only part of the use.
            rescale: True keeps the total of Ω; False takes the importance as it is measured
                (and normalised).

        Raises:
            PenaltyError: Nothing has been consolidated yet, or these batches give importance 0 to
                every parameter held.
        """
        check_share("keep", keep)
        measured = self._measure_held("adapt", batches, forward, function)
        before, after = (
            sum(float(omega.double().sum()) for omega in omegas.values())
            for omegas in (self.omega, measured)
        )
        if after == 0:
            raise PenaltyError(
                "the importance on these batches is zero for every parameter held: give batches "
                "that the network uses, or check forward="
            )
        factor = (1 - keep) * (before / after if rescale else 1.0)
        self.omega = {n: keep * omega + factor * measured[n] for n, omega in self.omega.items()}

    def forget(
        self,
        batches: Data,
        *,
        forward: Forward | None = None,
        function: Function = "squared_norm",
        weight: float = 1.0,
    ) -> None:
        """Forget a task: Ω ← max(0, Ω − weight · importance(batches)); θ* stays.

        The Ω of single tasks is not stored, so the importance that data of the task have now is
        subtracted. It equals the Ω that was added only if neither the parameters nor the data
        have changed since; otherwise some importance of the task remains, and some of other tasks
        is lost. With "max", importance that the task shares with others is lost too.

        Args:
            batches: Unlabelled data of the task, see `mas_importance`.
            forward: How a batch goes through the model.
            function: The function of the output whose sensitivity is measured.
            weight: Weight of the task in Ω: 1 in a "sum", 1/T in a "mean" of T tasks.

        Raises:
            PenaltyError: Nothing has been consolidated yet, or a negative weight.
        """
        check_not_negative("weight", weight)
        measured = self._measure_held("forget", batches, forward, function)
        self.omega = {
            n: (omega - weight * measured[n]).clamp_(min=0) for n, omega in self.omega.items()
        }

    def decay(self, factor: float) -> None:
        """Weaken the protection of all tasks so far: Ω ← factor · Ω, 0 ≤ factor ≤ 1; θ* stays."""
        check_share("factor", factor)
        self.omega = {name: factor * omega for name, omega in self.omega.items()}

    def follow(self, edit: "Edit") -> None:
        """Re-index Ω and anchors as `edit` did the parameters.

        A fresh entry has importance 0 and its initial value as anchor; a twin (`SplitUnits`) shares
        its parent's importance and anchor. Where reconstruction changed a weight, its anchor is
        shifted by the same amount, so that the penalty does not undo the reconstruction.
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
        """Return tensors and plain values: `omega`, `anchor`, `tasks`, `measured` and settings."""
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
        """Load a state that `state_dict` returned.

        Raises:
            PenaltyError: Something is missing, names or shapes differ from those of the model, or
                a setting is unknown; nothing is loaded then.
        """
        self._check_state(state)
        self.omega, self.anchor = dict(state["omega"]), dict(state["anchor"])
        self.tasks = int(state["tasks"])
        self.measured = tuple({n: tuple(q) for n, q in task.items()} for task in state["measured"])
        self.accumulate, self.discount = state["accumulate"], float(state["discount"])
        self.normalize, self.exclude = state["normalize"], tuple(state["exclude"])
        self._held_parameters()

    def _check_state(self, state: Mapping[str, Any]) -> None:
        """Refuse a state that is incomplete or does not fit the model."""
        missing = self.state_dict().keys() - state.keys()
        if missing:
            raise PenaltyError(f"the state lacks {', '.join(sorted(missing))}")
        parameters = dict(self.model.named_parameters())
        check_fit(state["omega"], parameters)
        check_fit(state["anchor"], parameters)
        lonely = sorted(state["omega"].keys() ^ state["anchor"].keys())
        if lonely:
            raise PenaltyError(
                f"{', '.join(lonely)}: importance without anchor, or anchor without it"
            )
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
        function: Function,
        estimator: Estimator = "exact",
    ) -> dict[str, Tensor]:
        """Return the importance of the parameters not excluded, normalised, as it enters Ω."""
        measured = importance_of(self.model, batches, forward, function, estimator, self.exclude)
        return normalized(measured, self.normalize)

    def _measure_held(
        self,
        action: str,
        batches: Data,
        forward: Forward | None,
        function: Function,
    ) -> dict[str, Tensor]:
        """Return the importance of the parameters held; one added since stays free."""
        if not self.omega:
            raise PenaltyError(f"nothing to {action}: call consolidate(batches) first")
        self._held_parameters()
        measured = self._measure(batches, forward, function)
        return {name: measured[name] for name in self.omega}

    def _held_parameters(self) -> dict[str, nn.Parameter]:
        """Return the model's parameters, and move Ω and anchors to their device and dtype."""
        parameters = dict(self.model.named_parameters())
        for held in (self.omega, self.anchor):
            check_fit(held, parameters)
            held.update({name: _aligned(tensor, parameters[name]) for name, tensor in held.items()})
        return parameters

    def _names(self) -> list[str]:
        return [name for name, _ in self.model.named_parameters()]


def _aligned(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return Ω or an anchor on the device of its parameter, copied only if it must be."""
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        tensor = tensor.clone()  # autograd cannot save an inference tensor
    return tensor.to(parameter.device, precise_dtype(parameter.dtype))
