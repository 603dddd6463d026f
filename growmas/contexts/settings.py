"""Checks of the settings of contexts, and of the labels that they learn from."""

from functools import partial

import torch
from torch import Tensor

from growmas.errors import ContextError, DataError
from growmas.settings import Setting, is_number, refuse_settings

check_settings = partial(refuse_settings, ContextError)


def check_threshold(threshold: object) -> None:
    """Refuse a threshold that is not between 0 and 1.

    Raises:
        ContextError: Names the value.
    """
    check_settings(threshold=threshold_setting(threshold))


def threshold_setting(threshold: object) -> Setting:
    """Return the threshold as a setting for `check_settings`."""
    fits = threshold is None or (is_number(threshold) and 0 < threshold < 1)  # type: ignore[operator]
    return threshold, fits, "a number between 0 and 1, or None"


def check_labels(labels: object, samples: int) -> None:
    """Refuse labels that are not whole numbers from 0 on, one for each sample.

    Raises:
        DataError: Names the type, the shape or the value given.
    """
    if not isinstance(labels, Tensor):
        raise DataError(f"labels must be a tensor [N], got {type(labels).__name__}")
    whole = not labels.is_floating_point() and labels.dtype is not torch.bool
    if labels.shape != (samples,) or not whole:
        raise DataError(
            f"labels must be whole numbers, one for each of the {samples} samples, got "
            f"{labels.dtype} {list(labels.shape)}"
        )
    if samples and int(labels.min()) < 0:
        raise DataError(f"labels must be 0 or more, got {int(labels.min())}: number classes from 0")
