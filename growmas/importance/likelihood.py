"""Likelihoods: the loss of each sample, its expectation under the model, and draws from it."""

import inspect
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from growmas.batches import LABEL_KEYS
from growmas.errors import ImportanceError

IGNORED = -100
"""Label of positions that do not count, as in torch."""


class Likelihood(Protocol):
    """A model's output read as a distribution of labels."""

    def loss(self, output: Any, labels: Tensor) -> Tensor:
        """Return −log p(labels) of each sample, [N]."""
        ...

    def columns(self, output: Any, labels: Tensor | None) -> Tensor:
        """Return [N, K] whose squared gradients add up to the expectation over p."""
        ...

    def draw(self, output: Any, generator: torch.Generator) -> Tensor:
        """Return labels drawn from p."""
        ...


def labels_in(batch: Any, *, required: bool = True) -> Any:
    """Return the labels of a batch; None if there are none and they are not required.

    Raises:
        ImportanceError: They are required and missing.
    """
    found = None
    if isinstance(batch, Mapping):
        found = next((batch[key] for key in LABEL_KEYS if key in batch), None)
    elif isinstance(batch, tuple | list) and len(batch) > 1:
        found = batch[1]
    if found is None and required:
        raise ImportanceError(
            f"target='label' needs labels, and a batch of type {type(batch).__name__} has none: "
            "give tuples (inputs, labels) or dicts with an entry labels; or target='model', which "
            "needs none"
        )
    return found


def likelihood_of(loss: Any, target: str) -> Likelihood:
    """Return the likelihood for a word or a callable.

    Raises:
        ImportanceError: An unknown word, or a callable with a target other than "label",
            which needs a distribution.
    """
    if loss == "cross_entropy":
        return Categorical()
    if loss == "squared_error":
        return Gaussian()
    if not callable(loss):
        raise ImportanceError(
            f"loss={loss!r} is not known: give 'cross_entropy', 'squared_error', or a callable "
            "(output, labels) -> the loss of each sample, [N]"
        )
    if target == "label":
        return Given(loss)
    if loss is F.cross_entropy or _is_plain_cross_entropy(loss):
        return Categorical()
    raise ImportanceError(
        f"target={target!r} needs a distribution of labels, which a callable loss does not give: "
        "use loss='cross_entropy' or 'squared_error', or target='label'"
    )


def _is_plain_cross_entropy(loss: Any) -> bool:
    plain = isinstance(loss, nn.CrossEntropyLoss) and loss.weight is None
    return plain and loss.label_smoothing == 0


class Categorical:
    """p = softmax(output); several positions are independent."""

    def loss(self, output: Any, labels: Tensor) -> Tensor:
        """Return −Σ log softmax(output)[labels] over the positions of each sample, [N]."""
        logits = _answer(output)
        dim = self._classes(logits, labels)
        log_p = logits.log_softmax(dim)
        if labels.is_floating_point():
            return -_by_sample(log_p * labels)
        ignored = labels == IGNORED
        chosen = labels.masked_fill(ignored, 0).unsqueeze(dim)
        picked = log_p.gather(dim, chosen).squeeze(dim)
        return -_by_sample(picked.masked_fill(ignored, 0))

    def columns(self, output: Any, labels: Tensor | None) -> Tensor:
        """Return √p log p for every position and class, [N, K]: Σ_k (∂)² = E_y (∂ log p(y))²."""
        logits = _answer(output)
        dim = logits.dim() - 1 if labels is None else self._classes(logits, labels)
        log_p = logits.log_softmax(dim)
        columns = log_p.detach().div(2).exp() * log_p
        if labels is not None and not labels.is_floating_point():
            columns = columns.masked_fill((labels == IGNORED).unsqueeze(dim), 0)
        return columns.flatten(1)

    def draw(self, output: Any, generator: torch.Generator) -> Tensor:
        """Draw one class for every position, [N, ...]."""
        p = _answer(output).softmax(-1).double().cpu()
        drawn = torch.multinomial(p.reshape(-1, p.shape[-1]), 1, generator=generator)
        return drawn.reshape(p.shape[:-1]).to(_answer(output).device)

    def _classes(self, logits: Tensor, labels: Tensor) -> int:
        """Find the dimension of the classes by the shape of the labels.

        Raises:
            ImportanceError: The labels do not fit.
        """
        if labels.is_floating_point() and labels.shape == logits.shape:
            return logits.dim() - 1 if logits.dim() != 4 else 1
        if labels.shape == logits.shape[:-1]:
            return logits.dim() - 1
        if logits.dim() > 2 and labels.shape == (logits.shape[0], *logits.shape[2:]):
            return 1
        raise ImportanceError(
            f"labels of shape {tuple(labels.shape)} do not fit an output of shape "
            f"{tuple(logits.shape)}: expected one class for every position, "
            f"{tuple(logits.shape[:-1])}, or a probability for every class"
        )


class Gaussian:
    """p = N(output, 1) of every coordinate."""

    def loss(self, output: Any, labels: Tensor) -> Tensor:
        """Return ½‖output − labels‖² of each sample, [N]."""
        mean = _answer(output)
        if labels.shape != mean.shape:
            raise ImportanceError(
                f"labels of shape {tuple(labels.shape)} do not fit an output of shape "
                f"{tuple(mean.shape)}: squared_error needs the same shape"
            )
        return _by_sample((mean - labels).square()) / 2

    def columns(self, output: Any, labels: Tensor | None) -> Tensor:
        """Return the coordinates of the output, [N, K]."""
        mean = _answer(output)
        return mean.flatten(1) if mean.dim() > 1 else mean.unsqueeze(1)

    def draw(self, output: Any, generator: torch.Generator) -> Tensor:
        """Draw output + noise of variance 1."""
        mean = _answer(output)
        noise = torch.randn(mean.shape, generator=generator, dtype=torch.float64)
        return mean + noise.to(mean)


class Given:
    """A loss of the user's, for given labels."""

    def __init__(self, loss: Callable[[Any, Any], Tensor]) -> None:
        """Ask the losses of torch for the loss of each sample."""
        self._averages = False
        self._loss = loss
        if isinstance(loss, nn.Module) and hasattr(loss, "reduction"):
            self._averages = loss.reduction == "mean"
            own = copy(loss)
            own.reduction = "none"  # type: ignore[assignment]
            self._loss = own
        elif "reduction" in _arguments(loss):
            self._averages = True
            self._loss = lambda output, labels: loss(output, labels, reduction="none")  # type: ignore[call-arg]

    def loss(self, output: Any, labels: Any) -> Tensor:
        """Return the loss of each sample, [N]."""
        found = self._loss(output, labels)
        if not isinstance(found, Tensor) or found.dim() == 0:
            came = type(found).__name__ if not isinstance(found, Tensor) else "one number"
            raise ImportanceError(
                f"loss= returned {came}: expected the loss of each sample, a tensor [N]; leave "
                "out the mean over the batch"
            )
        total = _by_sample(found)
        return total / found[0].numel() if self._averages and found.dim() > 1 else total

    def columns(self, output: Any, labels: Tensor | None) -> Tensor:
        """Refuse: a loss is not a distribution."""
        raise NotImplementedError

    def draw(self, output: Any, generator: torch.Generator) -> Tensor:
        """Refuse: a loss is not a distribution."""
        raise NotImplementedError


def _arguments(function: Any) -> set[str]:
    try:
        return set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return set()


def _answer(output: Any) -> Tensor:
    """Return the logits or the first tensor of an output.

    Raises:
        ImportanceError: There is no floating-point tensor [N, ...].
    """
    if isinstance(output, Mapping):
        output = output.get("logits", next(iter(output.values()), None))
    elif isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor) or not output.is_floating_point() or output.dim() == 0:
        raise ImportanceError(
            f"the model returned {type(output).__name__}: expected a tensor [N, ...], or a tuple "
            "or dict that begins with it; pass forward= to bring it there"
        )
    return output


def _by_sample(values: Tensor) -> Tensor:
    """Sum everything but the first dimension."""
    return values.flatten(1).sum(1) if values.dim() > 1 else values
