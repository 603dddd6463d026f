"""Importance accumulated while a deployed model answers unlabelled requests."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from growmas.batches import batch_size, map_tensors
from growmas.errors import DataError, ImportanceError
from growmas.importance.mas import ExactSums, measurement_of, measuring
from growmas.importance.measurement import check_finite, check_is_module
from growmas.importance.objective import Function
from growmas.importance.sums import ImportanceSum, Totals, running_dtype, warn_if_zero

logger = logging.getLogger("growmas")


class RunningImportance:
    """The importance that `accumulate_importance` has accumulated; it can be read at any time.

    Attributes:
        requests: Number of calls of the model that returned.
        samples: Number of samples measured, N.
        skipped: Number of calls left out because the output or a gradient was NaN or infinite.
    """

    def __init__(self, model: nn.Module, function: Function, every: int) -> None:
        self.requests = 0
        self.samples = 0
        self.skipped = 0
        self._every = every
        self._answer = model.forward
        self._measurement = measurement_of(model, self._again, function)
        self._estimate = ExactSums(self._measurement)
        self._sums = {
            name: torch.zeros_like(p, dtype=_long_run_dtype(p), requires_grad=False)
            for name, p in self._measurement.parameters.items()
        }

    def importance(self) -> dict[str, Tensor]:
        """Return Ω of the samples so far, equal to `mas_importance` of the same samples.

        Raises:
            DataError: There are no samples yet.
        """
        omega = ImportanceSum(self._sums, self.samples).importance()
        warn_if_zero(omega, stacklevel=3)
        return {name: omega[name].to(p.dtype) for name, p in self._measurement.parameters.items()}

    def sum(self) -> ImportanceSum:
        """Return the partial result so far, to be added to those of other workers or days."""
        dtypes = {name: running_dtype(p.dtype) for name, p in self._measurement.parameters.items()}
        sums = {name: total.to(dtypes[name], copy=True) for name, total in self._sums.items()}
        return ImportanceSum(sums, self.samples)

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        """Answer in place of the model's `forward`, then measure the importance of the answer."""
        due = self.requests % self._every == 0
        call = _private_copy((args, kwargs)) if due else None
        answer = self._answer(*args, **kwargs)
        self.requests += 1
        if due and batch_size(call) != 0:
            self._measure(call)
        return answer

    def _again(self, model: nn.Module, call: Any) -> Any:
        """Compute the answer again, on a copy of the inputs: some models write to them."""
        args, kwargs = map_tensors(call, torch.clone)
        return self._answer(*args, **kwargs)

    def _measure(self, call: Any) -> None:
        where = f"request {self.requests}"
        try:
            with torch.inference_mode(False):
                self._check_unchanged()
                found = Totals(self._measurement.parameters)
                with measuring(self._measurement):
                    count = self._estimate.add(call, where, found)
                check_finite(found)
        except DataError as reason:
            self.skipped += 1
            logger.warning("%s is left out of the importance: %s", where, reason)
            return
        for name, sums in found.items():
            self._sums[name] += sums
        self.samples += count

    def _check_unchanged(self) -> None:
        held = self._measurement.parameters
        now = dict(self._measurement.model.named_parameters())
        changed = [name for name, p in held.items() if now.get(name) is not p]
        if changed:
            raise ImportanceError(
                f"parameter {changed[0]!r} was replaced while its importance was accumulated: "
                "leave accumulate_importance before the network is changed, and enter it again "
                "afterwards"
            )


@contextmanager
def accumulate_importance(
    model: nn.Module,
    *,
    function: Function = "squared_norm",
    every: int = 1,
) -> Iterator[RunningImportance]:
    """Accumulate importance from the ordinary calls of a deployed model.

    Inside the context `model(x)` gives the same answers, bit for bit, also under `torch.no_grad`
    and `torch.inference_mode`. Each answer is followed by a separate measurement in eval mode, on
    a copy of the inputs, which does not change the model; it costs about one more forward and one
    backward pass. The result is `mas_importance` over the samples of all requests. Given to a
    penalty, it protects what users really use.

    The model's `forward` is measured; hooks on the model itself run once, for the answer. Every
    call counts as a request, so leave the context before calling `mas_importance` or similar, and
    before the network is changed. Requests from several threads are not supported.

    Args:
        model: The network itself, not compiled or wrapped in DistributedDataParallel.
        function: The objective, as in `mas_importance`.
        every: Measure one in this many requests, starting with the first.

    Yields:
        The running importance.

    Raises:
        ImportanceError: `every` < 1, a model made under `torch.inference_mode`, or a model that is
            already being measured. During the requests: the errors of `mas_importance`, and
            parameters that were replaced.

    Example:
        >>> import torch, growmas
        >>> model = torch.nn.Linear(3, 2)
        >>> with growmas.accumulate_importance(model) as running, torch.inference_mode():
        ...     for request in torch.randn(5, 1, 3):
        ...         answer = model(request)
        >>> running.samples, sorted(running.importance())
        (5, ['bias', 'weight'])
    """
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ImportanceError(f"every={every!r}: expected a whole number >= 1")
    check_is_module(model)
    if any(t.is_inference() for t in (*model.parameters(), *model.buffers())):
        raise ImportanceError(
            "the model was made or loaded under torch.inference_mode, which forbids gradients "
            "permanently: make it outside, and enter inference_mode for the requests only"
        )
    before = vars(model).get("forward")
    if isinstance(getattr(before, "__self__", None), RunningImportance):
        raise ImportanceError(
            "accumulate_importance is already active for this model: leave that context first"
        )
    running = RunningImportance(model, function, every)
    model.__dict__["forward"] = running._forward
    try:
        yield running
    finally:
        if before is None:
            del model.__dict__["forward"]
        else:
            model.__dict__["forward"] = before


def _private_copy(call: Any) -> Any:
    """Return copies that are ordinary tensors; inference tensors have no gradients."""
    with torch.inference_mode(False), torch.no_grad():
        return map_tensors(call, lambda tensor: tensor.detach().clone())


def _long_run_dtype(parameter: Tensor) -> torch.dtype:
    """Return float64, precise enough for years of requests, or float32 on MPS."""
    return torch.float32 if parameter.device.type == "mps" else torch.float64
