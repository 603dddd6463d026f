"""The contract of a method: what `loss` and `predict` return."""

from typing import Any

from torch import Tensor

from growmas.errors import ConfigError


def checked_loss(loss: Any, method: object) -> Tensor:
    """Return a loss; refuse what no gradient can be taken of.

    Args:
        loss: What `method.loss` returned.
        method: For the message.

    Raises:
        ConfigError: It is not a number in a tensor that depends on parameters.
    """
    if isinstance(loss, Tensor) and loss.ndim == 0 and loss.requires_grad:
        return loss
    if not isinstance(loss, Tensor):
        given = f"a {type(loss).__name__}"
    elif loss.ndim:
        given = f"a tensor of shape {tuple(loss.shape)}"
    else:
        given = "a tensor that depends on no parameter"
    raise ConfigError(
        f"{type(method).__name__}.loss returned {given}: expected the mean loss of the batch, a "
        "tensor of shape () with a gradient",
        key=("target",),
    )


def checked_labels(labels: Any, samples: int, method: object) -> Tensor:
    """Return predicted labels; refuse what is not one whole number for each sample.

    Args:
        labels: What `method.predict` returned.
        samples: N.
        method: For the message.

    Raises:
        ConfigError: It is not a tensor [N] of whole numbers.
    """
    if not isinstance(labels, Tensor):
        given = f"a {type(labels).__name__}"
    elif labels.shape != (samples,) or labels.is_floating_point() or labels.is_complex():
        given = f"{labels.dtype} of shape {tuple(labels.shape)}"
    else:
        return labels
    raise ConfigError(
        f"{type(method).__name__}.predict returned {given}: expected the labels of the {samples} "
        f"samples, whole numbers of shape ({samples},)",
        key=("target",),
    )
