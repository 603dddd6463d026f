"""MAS importance (Aljundi et al., ECCV 2018, Eq. 2), exact for every parameter of every model."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from growmas.batches import (
    Forward,
    batch_size,
    check_batch,
    check_batches,
    check_forward,
    default_forward,
    to_device,
)
from growmas.errors import ImportanceError
from growmas.importance.backward import differentiable
from growmas.importance.company import check_halves
from growmas.importance.cutting import Cutting, find_cutting
from growmas.importance.exact import CHUNK_ELEMENTS, sums_by_rule
from growmas.importance.fallback import Fallback
from growmas.importance.measurement import Measurement, Samples, check_finite
from growmas.importance.objective import Function, make_objective, without_batch
from growmas.importance.probe import (
    Trust,
    Witness,
    second_opinion,
    trusted_rules,
    witness_of,
)
from growmas.importance.ragged import Owner, check_owner
from growmas.importance.recording import Recording, Source, record
from growmas.importance.selection import (
    Parameters,
    check_model,
    check_samples,
    in_own_dtypes,
    selected,
)
from growmas.importance.state import redrawn, untouched
from growmas.importance.sums import ImportanceSum, Totals, warn_if_zero
from growmas.preserving import preserving

REDRAWS = 4
"""Number of times that owners of rows are compared at other parameters, for a batch that cannot be
cut: a ReLU that is dead at the parameters themselves may hide an influence between samples."""

Estimator = Literal["exact", "batch"]
"""The exact Ω, or the batch approximation."""


def mas_importance(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    forward: Forward | None = None,
    function: Function = "squared_norm",
    estimator: Estimator = "exact",
    parameters: Parameters = "all",
    samples: Samples | None = None,
    owner: Owner | None = None,
) -> dict[str, Tensor]:
    """Measure how sensitive the model's output is to each parameter; labels are never used.

    Ω_i = (1/N) Σ_n |∂ g(F(x_n; θ)) / ∂θ_i| with g the squared ℓ2 norm of the output (MAS, Eq. 2):
    one gradient **per sample**, the absolute value **before** the mean over all N samples of all
    batches. The result does not depend on how the samples are cut into batches.

    The model is measured in eval mode and is bit-identical afterwards: modes, gradients, buffers,
    random state, hooks and `requires_grad`. Linear and convolutional layers, embeddings, norms
    in eval mode, PReLU, attention, and parameters that are added or multiplied directly cost
    about one backward pass of the batch; other parameters are measured by `torch.func`, which is
    slower and gives the same result.

    Args:
        model: The network; every floating-point parameter is measured, frozen ones too.
        batches: Iterable of tensors [N, ...], tuples (inputs, ...) or dicts of keyword arguments.
        forward: `forward(model, batch) -> output`, for any other kind of batch, or to select a
            head.
        function: The objective g: "squared_norm"; "vector", the average over the importance of
            each output coordinate; or a callable from the output to [N].
        estimator: "exact", or "batch": the absolute value of the batch-mean gradient, which many
            implementations use for Ω although it is smaller if samples disagree. For comparison
            only.
        parameters: Which parameters are measured: "all", "trainable" (those that require
            gradients), or names, shell patterns such as ("encoder.*",). Nothing is computed for
            the others, and they are not in the result.
        samples: `samples(batch) -> N`, the number of samples in a batch whose shapes do not tell
            it, such as the number of graphs.
        owner: The sample of each row, [R], for batches whose rows belong to samples unevenly, such
            as the nodes of graphs: a tensor, or a function from a batch to it. It is recognised
            where a batch has it as attribute or entry `batch`, as those of torch-geometric do.

    Returns:
        Qualified parameter name -> Ω ≥ 0 of the parameter's shape and dtype, on its device. A
        tied parameter stands under its first name. Mean over samples.

    Raises:
        DataError: No samples, a batch that cannot be passed to the model, or an output or a
            gradient that is NaN or infinite.
        ImportanceError: Unknown function or estimator, a forward that is not callable, an output
            that does not fit the function, or samples of a batch that influence each other.
    """
    total = importance_sum(
        model,
        batches,
        forward=forward,
        function=function,
        estimator=estimator,
        parameters=parameters,
        samples=samples,
        owner=owner,
        warn=False,
    )
    omega = total.importance(overwrite=True)
    warn_if_zero(omega, stacklevel=3)
    return in_own_dtypes(model, omega)


def importance_sum(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    forward: Forward | None = None,
    function: Function = "squared_norm",
    estimator: Estimator = "exact",
    parameters: Parameters = "all",
    samples: Samples | None = None,
    owner: Owner | None = None,
    warn: bool = True,
) -> ImportanceSum:
    """Return the sum over samples of which `mas_importance` is the mean; such sums can be added.

    Arguments and errors are those of `mas_importance`, except that having no samples is allowed:
    a worker whose shard is empty adds nothing. Sums are float32, or float64 for float64 parameters.
    With `warn=False` a sum that is zero for every parameter causes no warning.
    """
    if estimator not in ("exact", "batch"):
        raise ImportanceError(f"estimator={estimator!r} is not known: give 'exact' or 'batch'")
    check_batches(batches)
    check_forward(forward)
    measurement = measurement_of(
        model,
        forward or default_forward,
        function,
        parameters=parameters,
        samples=samples,
        owner=owner,
    )
    estimate = ExactSums(measurement) if estimator == "exact" else BatchSums(measurement)
    total = total_over(measurement, batches, estimate)
    if warn and total.samples:
        warn_if_zero(total.sums, stacklevel=3)
    return total


def measurement_of(
    model: nn.Module,
    forward: Forward,
    function: Function,
    *,
    parameters: Parameters = "all",
    samples: Samples | None = None,
    owner: Owner | None = None,
) -> Measurement:
    """Make the measurement of Ω of the selected parameters of `model`."""
    model = check_model(model)
    return Measurement(
        model,
        selected(model, parameters),
        forward,
        without_batch(make_objective(function)),
        count=check_samples(samples),
        owner=check_owner(owner),
    )


def total_over(
    measurement: Measurement, batches: Iterable[Any], estimate: "Estimate"
) -> ImportanceSum:
    """Sum over the samples of all batches."""
    totals = Totals(measurement.parameters)
    samples = 0
    with measuring(measurement):
        for position, given in enumerate(batches):
            check_batch(given, f"batch {position}")
            if batch_size(given) == 0:
                continue
            batch = _on_device_of(measurement, given)
            where = f"batch {position}"
            with differentiable(where):
                samples += estimate.add(batch, where, totals)
    check_finite(totals)
    sums = {n: _laid_out_like(p, totals[n]) for n, p in measurement.parameters.items()}
    return ImportanceSum(sums, samples)


@contextmanager
def measuring(measurement: Measurement) -> Iterator[None]:
    """Put the model in the state in which gradients are taken; restore it on exit."""
    model, wanted = measurement.model, {id(p) for p in measurement.parameters.values()}
    # cuDNN has no backward pass for recurrent layers in eval mode
    fused = any(isinstance(m, nn.RNNBase) and any_on_cuda(m) for m in model.modules())
    cudnn = torch.backends.cudnn.flags(enabled=False) if fused else nullcontext()
    with preserving(model), untouched(model) as attributes, torch.enable_grad(), cudnn, _eagerly():
        for parameter in model.parameters():
            if parameter.is_floating_point() or parameter.is_complex():
                parameter.requires_grad_(id(parameter) in wanted)
        measurement.begin(attributes)
        try:
            yield
        finally:
            measurement.end()


def _eagerly() -> AbstractContextManager[Any]:
    """Return a context in which compiled parts of a model run as the Python they were made from.

    The compiler would otherwise trace the recording as well, and compile it anew for every
    measurement. Where it was never imported nothing is compiled.
    """
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    eager: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return eager


def any_on_cuda(module: nn.Module) -> bool:
    """Return True if a parameter of the module is on a CUDA device."""
    return any(parameter.is_cuda for parameter in module.parameters())


class Estimate(Protocol):
    """A way to sum gradients of batch after batch."""

    def add(self, batch: Any, where: str, totals: Totals) -> int:
        """Add the sums over a batch to `totals`; return its number of samples."""
        ...


class ExactSums:
    """Sums of |per-sample gradient| by batch; the rules are checked on the first one."""

    def __init__(self, measurement: Measurement) -> None:
        """Begin without knowing which rules are right for the model."""
        self._measurement = measurement
        self._fallback = Fallback(measurement)
        self._trust: Trust | None = None
        self._probed_alone = False
        self._begun = False

    def add(self, batch: Any, where: str, totals: Totals) -> int:
        """Add the sums over a batch to `totals`; return its number of samples.

        Raises:
            ImportanceError: Samples of the batch influence each other.
        """
        measurement = self._measurement
        name = "the first batch" if self._trust is None else where
        recording = record(measurement, batch, name)
        values, columns = recording.values.detach(), recording.values.shape[1]
        probing = self._trust is None or (self._probed_alone and len(values) > 1)
        sources = recording.sources(measurement)
        cutting = None
        apart = recording.independent and not recording.judged
        if probing or not apart or self._rest(recording, sources):
            cutting = find_cutting(measurement, batch, recording)
        witness = witness_of(measurement, cutting, recording, sources) if probing else None
        if probing and witness is None:
            self._trust = trusted_rules(measurement, batch, cutting, recording)
        if not apart:
            self._check(recording, batch, cutting, name)
        if witness is not None:
            self._trust = self._summed_with(witness, recording, cutting, totals)
        if probing and self._trust is not None:
            self._trust.warn()
        rest = self._rest(recording, sources)
        if witness is None:
            trusted = {n: s for n, s in sources.items() if n not in rest}
            sums_by_rule(measurement, trusted, recording, into=totals, forget=True)
        if rest:
            self._fallback.mappable &= not recording.writes
            budget = CHUNK_ELEMENTS // columns
            sums = self._fallback.sums(rest, batch, cutting, values, budget)
            for name, found in sums.items():
                totals[name] += found
        if probing:
            self._probed_alone = len(values) == 1  # samples can only interact in a larger batch
        self._begun = True
        return len(values)

    def _summed_with(
        self,
        witness: Witness,
        recording: Recording,
        cutting: Cutting | None,
        totals: Totals,
    ) -> Trust:
        """Add the sums by rules that agree with the witness; return what may be trusted."""
        sums = Totals(self._measurement.parameters) if self._begun else totals
        sources = witness.sources
        sums_by_rule(self._measurement, sources, recording, into=sums, forget=True, witness=witness)
        trust = witness.trust()
        if not all(trust.covers(name, source) for name, source in sources.items()):
            trust = second_opinion(self._measurement, cutting, trust)
        for name, source in sources.items():
            if not trust.covers(name, source):
                sums.pop(name, None)
            elif self._begun and name in sums:
                totals[name].add_(sums[name])
        return trust

    def _rest(self, recording: Recording, sources: Mapping[str, Source]) -> dict[str, nn.Parameter]:
        """Return the parameters that have an influence and no trusted rule."""
        return {
            name: p
            for name, p in self._measurement.parameters.items()
            if recording.reaches(p)
            and not (name in sources and self._trust and self._trust.covers(name, sources[name]))
        }

    def _check(self, recording: Recording, batch: Any, cutting: Cutting | None, where: str) -> None:
        """Refuse samples that influence each other, where that is not excluded by proof."""
        if cutting is not None:
            check_halves(self._measurement, cutting, recording.values)
            return
        mixes = recording.mixes()
        for seed in range(REDRAWS):
            with redrawn(self._measurement.model, seed):
                elsewhere = record(self._measurement, batch, where)
            mixes |= elsewhere.mixes() or recording.contradicts(elsewhere)
        if mixes:
            raise ImportanceError(
                f"{where} cannot be cut into samples, and some row of an operation belongs to "
                "several of them: samples influence each other, as through a BatchNorm without "
                "running statistics, or they cannot be told apart; give batches whose tensors "
                "have the samples in their first dimension, or say with owner=lambda batch: ... "
                "which sample each row belongs to"
            )


class BatchSums:
    """The approximation n · |gradient of the mean over a batch of n samples|."""

    def __init__(self, measurement: Measurement) -> None:
        """Take the parameters and the objective from `measurement`."""
        self._measurement = measurement

    def add(self, batch: Any, where: str, totals: Totals) -> int:
        """Add the approximation for a batch to `totals`; return its number of samples."""
        values = self._measurement.values(batch, where)
        columns = values.shape[1]
        for column in range(columns if values.requires_grad else 0):
            found = torch.autograd.grad(
                values[:, column].sum(),
                list(self._measurement.parameters.values()),
                retain_graph=column < columns - 1,
                allow_unused=True,
                materialize_grads=True,
            )
            for name, gradient in zip(self._measurement.parameters, found, strict=True):
                dense = gradient if gradient.layout == torch.strided else gradient.to_dense()
                totals[name].add_(dense.abs(), alpha=1 / columns)
        return len(values)


def _laid_out_like(parameter: Tensor, total: Tensor) -> Tensor:
    """Return the same values in the memory format of the parameter."""
    if parameter.is_contiguous():
        return total
    return torch.empty_like(parameter, dtype=total.dtype, requires_grad=False).copy_(total)


def _on_device_of(measurement: Measurement, batch: Any) -> Any:
    first = next(iter(measurement.model.parameters()), None)
    return batch if first is None else to_device(batch, first.device)
