"""Fisher information: the mean of squared per-sample gradients of the log-likelihood."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from growmas.batches import (
    Forward,
    batch_size,
    check_batches,
    check_forward,
    default_forward,
    to_device,
)
from growmas.errors import ImportanceError
from growmas.importance.likelihood import Likelihood, labels_in, likelihood_of
from growmas.importance.mas import ExactSums, total_over
from growmas.importance.measurement import Measurement, Samples
from growmas.importance.ragged import Owner, check_owner
from growmas.importance.selection import (
    Parameters,
    check_model,
    check_samples,
    in_own_dtypes,
    selected,
)
from growmas.importance.sums import warn_if_zero

Target = Literal["label", "model", "sample"]
"""The labels in the batch, the expectation over the model's own answers, or one draw of those."""

Loss = Literal["cross_entropy", "squared_error"] | Callable[[Any, Any], Tensor]
"""A word, or a callable (output, labels) -> loss of each sample, [N]."""


def fisher_information(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    loss: Loss = "cross_entropy",
    target: Target = "label",
    forward: Forward | None = None,
    parameters: Parameters = "all",
    samples: Samples | None = None,
    owner: Owner | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Measure the diagonal of the Fisher information, exactly, from per-sample gradients.

    With the loss ℓ(x, y) = −log p(y | x; θ) of a sample,

        F_i = (1/N) Σ_n (∂ℓ(x_n, y_n) / ∂θ_i)²              target="label": empirical Fisher
        F_i = (1/N) Σ_n E_{y ~ p(·|x_n)} (∂ℓ(x_n, y) / ∂θ_i)²   target="model": the Fisher itself
        F_i = the first with y_n drawn once from p(·|x_n)       target="sample": an estimate of it

    The square is taken **per sample**, before the mean. Rules, fallback and refusals are those of
    `mas_importance`, and so is the cost, except that target="model" takes one backward pass per
    output. EWC (Kirkpatrick et al., 2017, Eq. 3) is `mas.consolidate(fisher_information(...))`
    with a strength of λ/2.

    Args:
        model: The network, measured in eval mode and bit-identical afterwards.
        batches: Iterable of batches as for `mas_importance`. For target="label" the labels are
            the second entry of a tuple, or the entry label, labels, target or targets of a dict.
        loss: "cross_entropy": −log softmax(output)[y], summed over positions of a sample, without
            those of label −100. Classes are in the last dimension, or in dimension 1 if the shape
            of the labels says so. "squared_error": ½‖output − y‖², a Gaussian of variance 1. Or,
            for target="label", a callable (output, labels) -> [N]; losses of torch such as
            `F.cross_entropy` are called with reduction="none", and positions are averaged if
            that is their reduction.
        target: Which labels the expectation is over: "label", "model" or "sample".
        forward: `forward(model, batch) -> output`.
        parameters: Which parameters are measured: "all", "trainable", or names and patterns.
        samples: `samples(batch) -> N`, for batches whose shapes do not tell it.
        owner: The sample of each row, for graphs, as in `mas_importance`.
        generator: Random numbers for target="sample", on the CPU; a fixed seed if left out.

    Returns:
        Qualified parameter name -> F ≥ 0 of the parameter's shape and dtype, the mean over samples.

    Raises:
        DataError: No samples, or a batch or an output that `mas_importance` refuses.
        ImportanceError: An unknown word, labels that are missing or do not fit, a callable loss
            with another target than "label", or samples that influence each other.

    Example:
        >>> import torch, growmas
        >>> model, x, y = torch.nn.Linear(3, 2), torch.randn(8, 3), torch.randint(2, (8,))
        >>> fisher = growmas.fisher_information(model, [(x, y)])
        >>> mas = growmas.MAS(model, strength=50.0)         # EWC with λ = 100
        >>> mas.consolidate(fisher)
    """
    if target not in ("label", "model", "sample"):
        raise ImportanceError(
            f"target={target!r} is not known: give 'label' (labels of the batch), 'model' "
            "(expectation over the model's answers) or 'sample' (one draw of them)"
        )
    check_batches(batches)
    check_forward(forward)
    model, call = check_model(model), forward or default_forward
    likelihood = likelihood_of(loss, target)
    drawn = target == "sample"
    measurement = Measurement(
        model,
        selected(model, parameters),
        (lambda model, pair: call(model, pair[0])) if drawn else call,
        _objective(likelihood, target),
        power=2,
        total_over_columns=True,
        count=_of_pairs(check_samples(samples), drawn),
        owner=_of_pairs(check_owner(owner), drawn),
    )
    if drawn:
        batches = _with_draws(model, batches, call, likelihood, generator)
    total = total_over(measurement, batches, ExactSums(measurement))
    fisher = total.importance(overwrite=True)
    warn_if_zero(fisher, stacklevel=3)
    return in_own_dtypes(model, fisher)


def _of_pairs(of_batch: Any, pairs: bool) -> Any:
    """Make a function of a batch one of (batch, labels drawn)."""
    return (lambda pair: of_batch(pair[0])) if pairs and callable(of_batch) else of_batch


def _objective(likelihood: Likelihood, target: Target) -> Callable[[Any, Any], Tensor]:
    if target == "model":
        return lambda output, batch: likelihood.columns(output, labels_in(batch, required=False))
    if target == "sample":
        return lambda output, pair: likelihood.loss(output, pair[1]).unsqueeze(1)
    return lambda output, batch: likelihood.loss(output, labels_in(batch)).unsqueeze(1)


def _with_draws(
    model: nn.Module,
    batches: Iterable[Any],
    forward: Forward,
    likelihood: Likelihood,
    generator: torch.Generator | None,
) -> Iterator[Any]:
    """Yield (batch, labels drawn from the model's answers)."""
    generator = generator or torch.Generator().manual_seed(0)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    for given in batches:
        if batch_size(given) == 0:
            continue
        batch = to_device(given, device)
        with torch.no_grad():
            labels = likelihood.draw(forward(model, batch), generator)
        yield batch, labels
