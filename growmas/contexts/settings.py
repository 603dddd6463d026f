"""Checks of the settings of contexts, and of the labels that they learn from."""

import math

import torch
from torch import Tensor

from growmas.errors import ContextError, DataError


def check_settings(**settings: tuple[object, bool, str]) -> None:
    """Refuse settings out of range, all at once.

    Args:
        settings: Name -> value, whether it is in range, and what was expected.

    Raises:
        ContextError: Names each wrong one.
    """
    wrong = [
        f"{name}={value!r:.80}: expected {words}"
        for name, (value, fits, words) in settings.items()
        if not fits
    ]
    if wrong:
        raise ContextError("\n".join(wrong))


def is_whole(value: object, least: int | None = None) -> bool:
    """Return True for an int that is at least `least`."""
    return type(value) is int and (least is None or value >= least)


def is_number(value: object) -> bool:
    """Return True for an int or a float that is not NaN or infinite."""
    return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)


def check_threshold(threshold: object) -> None:
    """Refuse a threshold that is not between 0 and 1.

    Raises:
        ContextError: Names the value.
    """
    check_settings(threshold=threshold_setting(threshold))


def threshold_setting(threshold: object) -> tuple[object, bool, str]:
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
