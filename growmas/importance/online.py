"""Importance gathered while a deployed model answers unlabelled requests."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from growmas.batches import batch_size, map_tensors
from growmas.errors import DataError, ImportanceError
from growmas.importance.mas import ExactSums, ask, measuring
from growmas.importance.measurement import check_finite
from growmas.importance.sums import ImportanceSum, running_dtype

logger = logging.getLogger("growmas")


class RunningImportance:
    """What `accumulate_importance` has gathered so far; it can be read at any time.

    Attributes:
        requests: Calls of the model that gave an answer.
        samples: Samples measured, N.
        skipped: Calls left out because the output or a gradient was NaN or infinite.
    """

    def __init__(
        self, model: nn.Module, function: str | Callable[[Any], Tensor], every: int
    ) -> None:
        self.requests = 0
        self.samples = 0
        self.skipped = 0
        self._every = every
        self._answer = model.forward
        self._asked = ask(model, self._again, function)
        self._estimate = ExactSums(self._asked)
        self._sums = {
            name: torch.zeros_like(p, dtype=_long_run_dtype(p), requires_grad=False)
            for name, p in self._asked.parameters.items()
        }

    def importance(self) -> dict[str, Tensor]:
        """Ω of the samples seen so far, as `mas_importance` gives it for the same samples.

        Raises:
            DataError: No sample has been seen yet.
        """
        omega = ImportanceSum(self._sums, self.samples).importance()
        return {name: omega[name].to(p.dtype) for name, p in self._asked.parameters.items()}

    def sum(self) -> ImportanceSum:
        """The partial result so far, to be added to those of other workers or earlier days."""
        dtypes = {name: running_dtype(p.dtype) for name, p in self._asked.parameters.items()}
        sums = {name: total.to(dtypes[name], copy=True) for name, total in self._sums.items()}
        return ImportanceSum(sums, self.samples)

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        """Stands in for the model's `forward`: the answer first, then its importance."""
        due = self.requests % self._every == 0
        call = _private_copy((args, kwargs)) if due else None
        answer = self._answer(*args, **kwargs)
        self.requests += 1
        if due and batch_size(call) != 0:
            self._measure(call)
        return answer

    def _again(self, model: nn.Module, call: Any) -> Any:
        """The answer once more, on a copy: some models write to their inputs."""
        args, kwargs = map_tensors(call, torch.clone)
        return self._answer(*args, **kwargs)

    def _measure(self, call: Any) -> None:
        where = f"request {self.requests}"
        try:
            with torch.inference_mode(False):
                self._check_unchanged()
                with measuring(self._asked):
                    sums, count = self._estimate(call, where)
                check_finite(sums)
        except DataError as reason:
            self.skipped += 1
            logger.warning("%s is left out of the importance: %s", where, reason)
            return
        for name, found in sums.items():
            self._sums[name] += found
        self.samples += count

    def _check_unchanged(self) -> None:
        held = self._asked.parameters
        now = dict(self._asked.model.named_parameters())
        changed = [name for name, p in held.items() if now.get(name) is not p]
        if changed:
            raise ImportanceError(
                f"parameter {changed[0]!r} is no longer the one whose importance was being "
                "gathered: leave accumulate_importance before the network is changed, and enter "
                "it anew afterwards"
            )


@contextmanager
def accumulate_importance(
    model: nn.Module,
    *,
    function: str | Callable[[Any], Tensor] = "squared_norm",
    every: int = 1,
) -> Iterator[RunningImportance]:
    """Gather the importance of what a deployed model is used for, from its ordinary calls.

    Inside the context `model(x)` answers as ever, bit by bit, also under `torch.no_grad` and
    `torch.inference_mode`. Each answer is followed by a measurement of its own, on a copy of the
    inputs, in eval mode, which leaves no trace: about the cost of one more forward and one
    backward pass. The Ω it gathers is that of `mas_importance` over the samples asked about; it
    can be handed to a penalty, so that what users use is what is protected.

    What is measured is the model's `forward`; hooks on the model itself run once, for the answer.
    Every call counts as a request, so leave the context before `mas_importance` and the like, and
    before the network is changed. Requests from several threads are not supported.

    Args:
        model: The network, not wrapped in DistributedDataParallel or compiled.
        function: What of the output is measured, see `mas_importance`.
        every: Measure every so many requests, the first included.

    Yields:
        The importance so far.

    Raises:
        ImportanceError: `every` < 1, a model made under `torch.inference_mode`, one already being
            watched; while running also what `mas_importance` raises, and a model whose parameters
            were replaced.

    Example:
        >>> import torch, growmas
        >>> model = torch.nn.Linear(3, 2)
        >>> with growmas.accumulate_importance(model) as running, torch.inference_mode():
        ...     for request in torch.randn(5, 1, 3):
        ...         answer = model(request)
        >>> running.samples, sorted(running.importance())
        (5, ['bias', 'weight'])
    """
    if every < 1:
        raise ImportanceError(f"every={every}: expected a whole number >= 1")
    if any(t.is_inference() for t in (*model.parameters(), *model.buffers())):
        raise ImportanceError(
            "the model was made or loaded under torch.inference_mode, which forbids gradients for "
            "good: make it outside, and enter inference_mode for the requests only"
        )
    before = vars(model).get("forward")
    if isinstance(getattr(before, "__self__", None), RunningImportance):
        raise ImportanceError("the importance of this model is being gathered already")
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
    """Ordinary tensors: those made in inference mode cannot be differentiated through."""
    with torch.inference_mode(False), torch.no_grad():
        return map_tensors(call, lambda tensor: tensor.detach().clone())


def _long_run_dtype(parameter: Tensor) -> torch.dtype:
    """float64, in which years of requests add up, where the device has it."""
    return torch.float32 if parameter.device.type == "mps" else torch.float64
