"""Local importance (l-MAS, Aljundi et al., ECCV 2018, §4.3): Hebb's rule, forward passes only."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from growmas.batches import (
    Forward,
    batch_size,
    check_batches,
    check_forward,
    cut,
    default_forward,
    to_device,
)
from growmas.errors import ImportanceError
from growmas.importance.gradients import Gradient
from growmas.importance.local import Activation, LocalUse, LocalWatcher, local_uses
from growmas.importance.measurement import Measurement, check_finite
from growmas.importance.objective import make_objective, without_batch
from growmas.importance.selection import check_model
from growmas.importance.sums import ImportanceSum, running_dtype, warn_if_zero
from growmas.preserving import preserving

logger = logging.getLogger("growmas")

CHUNK_ELEMENTS = 2**23
"""Elements of per-sample tensors held at a time: 32 MiB in float32."""

TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Largest difference between samples in one batch and alone, relative to the largest Ω."""


def hebbian_importance(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    forward: Forward | None = None,
    activation: Mapping[str, Activation] | None = None,
) -> dict[str, Tensor]:
    """Measure how strongly the two ends of each weight fire together: MAS with local objectives.

    A layer y = f(z), z = Wx + b, by itself has the objective ‖y‖² = Σ_i y_i², whose importance is

        Ω_ij = (1/N) Σ_n |2 y_ni f'(z_ni) x_nj|  for W,   (1/N) Σ_n |2 y_ni f'(z_ni)|  for b.

    Behind a ReLU y f'(z) is y, and where x comes from a ReLU too, Ω_ij = (2/N) Σ_n y_ni x_nj:
    what fires before the synapse times what fires behind it. That is Hebb's rule, used for how
    strongly a synapse is protected instead of for how it changes. The factor 2 is kept, so that Ω
    is exactly the MAS importance of the layer's own objective. A weight used at several positions
    (convolutions, tokens) or in several places is summed over them before the absolute value.

    No gradient passes from one layer to another: forward passes are enough, and the effect of a
    layer's output on later layers plays no part.

    **Which f.** The model is watched while it runs. f is the first activation (relu, gelu, tanh
    and so on, called as a function, method or module) that reads the layer's output, together
    with a normalisation, pooling, dropout or change of shape on the way to it. A layer without
    one, such as the last, is measured on its linear output, f(z) = z. `activation` overrides
    this.

    **Which parameters.** All that the operations with an exact rule read: linear layers,
    convolutions, attention, embeddings, norms and so on. Importance is 0 for a parameter that
    is not read, such as the head of another task, and, with a logged warning, for a parameter that
    an operation without a rule reads.

    The model is measured in eval mode and is bit-identical afterwards.

    Args:
        model: The network.
        batches: Iterable of batches, as in `mas_importance`; labels are never used.
        forward: `forward(model, batch) -> output`, as in `mas_importance`.
        activation: Name of a layer, or a shell pattern such as "blocks.*" -> its f, from
            the linear output to the activation.

    Returns:
        Qualified parameter name -> Ω ≥ 0 of the parameter's shape and dtype. Mean over samples.

    Raises:
        DataError: No sample at all, or an output or an importance that is NaN or infinite.
        ImportanceError: A model that is scripted or lazy; a pattern of `activation` that does not
            match any layer; no rule for any parameter that is read; an input that is overwritten
            after it was read; or a batch that cannot be cut into samples, for a layer whose first
            dimension is not the samples.

    Example:
        >>> import torch, growmas
        >>> layer = torch.nn.Linear(2, 1, bias=False)
        >>> layer.weight.data = torch.tensor([[1.0, -1.0]])
        >>> x = torch.tensor([[3.0, 1.0], [1.0, 3.0]])  # fires 2, and not at all
        >>> growmas.hebbian_importance(torch.nn.Sequential(layer, torch.nn.ReLU()), [x])
        {'0.weight': tensor([[6., 2.]])}
    """
    model = check_model(model)
    check_batches(batches)
    check_forward(forward)
    parameters = {n: p for n, p in model.named_parameters() if p.is_floating_point()}
    measurement = Measurement(
        model, parameters, forward or default_forward, without_batch(make_objective("vector"))
    )
    local = _LocalSums(measurement, activation or {})
    device = next((p.device for p in parameters.values()), torch.device("cpu"))
    with preserving(model), torch.no_grad():
        for position, batch in enumerate(batches):
            if batch_size(batch) != 0:
                local.add(to_device(batch, device), f"batch {position}")
    omega = local.total().importance()
    warn_if_zero(omega, stacklevel=3)
    return {name: omega[name].to(p.dtype) for name, p in parameters.items()}


class _LocalSums:
    """Sums of |local gradient| over the samples of all batches."""

    def __init__(self, measurement: Measurement, activation: Mapping[str, Activation]) -> None:
        self._measurement = measurement
        self._activation = _by_name(activation, measurement.parameters)
        self._totals = _zeros(measurement)
        self._samples = 0
        self._together: bool | None = None
        self._rows_are_samples = True
        self._known: set[str] = set()
        self._unknown: set[str] = set()

    def add(self, batch: Any, where: str) -> None:
        size = batch_size(batch)
        if size is None or size == 1:
            self._samples += self._add(batch, where, self._totals)
            return
        if self._together is None:
            self._together = self._same_together(cut(batch, 0, 2))
        step = size if self._together else 1
        for start in range(0, size, step):
            piece = cut(batch, start, start + step)
            self._samples += self._add(piece, where, self._totals)

    def total(self) -> ImportanceSum:
        """Return the sums; warn about parameters that they leave out."""
        unknown = ", ".join(sorted(self._unknown))
        if unknown and not self._known:
            raise ImportanceError(
                f"no operation that reads {unknown} has a rule for local importance: use "
                "mas_importance instead"
            )
        if unknown:
            logger.warning(
                "hebbian_importance has no rule for an operation that reads %s: importance 0 there",
                unknown,
            )
        check_finite(self._totals)
        return ImportanceSum(self._totals, self._samples)

    def _same_together(self, pair: Any) -> bool:
        """Return True if two samples give the same sums in one batch as one by one.

        They do not if a layer has positions first, or samples and positions flattened into one
        dimension.
        """
        both, alone = _zeros(self._measurement), _zeros(self._measurement)
        for n in range(2):
            self._add(cut(pair, n, n + 1), "the first batch", alone)
        if not self._rows_are_samples:  # the sums may still agree if nothing cancels
            return False
        try:
            self._add(pair, "the first batch", both)
        except _SamplesNotFirst:
            return False
        return all(
            bool((both[name] - one).abs().max() <= TOLERANCE.get(one.dtype, 5e-2) * one.max())
            for name, one in alone.items()
            if one.numel()
        )

    def _add(self, batch: Any, where: str, totals: dict[str, Tensor]) -> int:
        names = {id(p): name for name, p in self._measurement.parameters.items()}
        with local_uses(self._measurement.model, names) as watcher:
            samples = len(self._measurement.values(batch, where))
        self._unknown |= watcher.unknown
        for uses, read in _by_uses(watcher).items():
            self._known.update(read)
            fires = self._activation.get(read[0])
            deltas = {use: use.delta(fires) for use in uses}
            self._rows_are_samples &= all(len(delta) == samples for delta in deltas.values())
            for rows in _cuts(deltas, samples):
                found = [(use, use.gradients(deltas[use], cut_)) for use, cut_ in rows]
                for name in read:
                    parts = [
                        gradients[argument]
                        for use, gradients in found
                        for argument, held in use.names.items()
                        if held == name
                    ]
                    _joined(parts).add_to(totals[name])
        return samples


class _SamplesNotFirst(ImportanceError):
    """A layer does not have the samples in its first dimension."""


def _by_uses(watcher: LocalWatcher) -> dict[tuple[LocalUse, ...], list[str]]:
    """Group parameters by the uses that read them, so that weight and bias share the work."""
    uses: dict[str, list[LocalUse]] = {}
    for use in watcher.uses:
        for name in dict.fromkeys(use.names.values()):
            uses.setdefault(name, []).append(use)
    together: dict[tuple[LocalUse, ...], list[str]] = {}
    for name, found in uses.items():
        if name not in watcher.unknown:
            together.setdefault(tuple(found), []).append(name)
    return together


def _cuts(
    deltas: Mapping[LocalUse, Tensor], samples: int
) -> Iterator[list[tuple[LocalUse, slice]]]:
    """Yield the rows of each use to process at a time; all rows of a single sample belong to it.

    Raises:
        _SamplesNotFirst: There are several samples, and rows are not samples.
    """
    if samples == 1:
        yield [(use, slice(row, row + 1)) for use, d in deltas.items() for row in range(len(d))]
        return
    for use, delta in deltas.items():
        if len(delta) != samples:
            raise _SamplesNotFirst(
                f"{', '.join(use.names.values())}: an output of {len(delta)} rows for {samples} "
                "samples; give batches that can be cut into samples (tensors, or tuples and "
                "dicts of them)"
            )
    elements = sum(
        gradient.elements
        for use, delta in deltas.items()
        for gradient in use.gradients(delta, slice(0, 1)).values()
    )
    step = max(1, CHUNK_ELEMENTS // max(1, elements))
    for start in range(0, samples, step):
        yield [(use, slice(start, start + step)) for use in deltas]


def _joined(parts: list[Gradient]) -> Gradient:
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.join(part)
    return whole


def _zeros(measurement: Measurement) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(p, dtype=running_dtype(p.dtype), requires_grad=False)
        for name, p in measurement.parameters.items()
    }


def _by_name(
    activation: Mapping[str, Activation], parameters: Mapping[str, Tensor]
) -> dict[str, Activation]:
    """Return parameter name -> the activation given for its layer."""
    layers = {name: name.rpartition(".")[0] for name in parameters}
    idle = [p for p in activation if not any(fnmatchcase(layer, p) for layer in layers.values())]
    if idle:
        known = ", ".join(dict.fromkeys(layers.values()))
        raise ImportanceError(f"activation={idle} does not match any layer; the layers are {known}")
    return {
        name: fires
        for name, layer in layers.items()
        for pattern, fires in activation.items()
        if fnmatchcase(layer, pattern)
    }
