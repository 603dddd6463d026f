"""Random filters: image features from fixed random convolutions, without training."""

from collections.abc import Mapping
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from growmas.contexts.kernels import (
    CONTRAST,
    Shape,
    Whiten,
    analytic_kernels,
    covariance_kernels,
    piece_kernels,
    plain_kernels,
)
from growmas.contexts.settings import check_settings
from growmas.errors import ContextError, DataError
from growmas.settings import is_number, is_whole

RESPONSES = 1 << 21
"""Responses that are computed at once: as many as stay in the processor's cache."""


class RandomFilters:
    """Turn images into rectified responses of random filters, averaged over neighbourhoods.

    Made for the `extract=` of a context on images [N, channels, height, width]. Each image
    gives F = filters × neighbourhoods features; a neighbourhood is `pool` × `pool` pixels, and
    the ones at the border may be smaller. The entries of a filter sum to 0, so that uniform
    brightness has no effect. One layer of random filters is nearly as useful as a trained one
    (Jarrett et al., ICCV 2009), if its responses are whitened, normalised and rectified (Coates,
    Lee and Ng, AISTATS 2011), and Gaussians of such features separate digits better than Gaussians
    of pixels.

    The filters freeze when they see their first images, which is before a context takes its first
    statistic, and never change afterwards; `keeps` says what of those images they hold. Contexts
    that are to be merged need the same frozen filters: `freeze` one and give it to all.

    >>> RandomFilters(filters=4)(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 196])
    >>> filters = RandomFilters(64, pool=7, whiten="analytic")
    >>> filters(torch.rand(2, 1, 28, 28)).shape, filters.keeps
    (torch.Size([2, 1024]), 'nothing of the data')

    Args:
        filters: Number of filters.
        size: Side of a filter in pixels, an odd number.
        pool: Side of a neighbourhood in pixels.
        seed: Seed of the random filters.
        whiten: "analytic" whitens random directions by the correlation that pixels of images have
            in general, and looks at no data; "covariance" by that of the first images; "patches"
            takes pieces of the first images themselves, and whitens them. None does not whiten.
        normalize: Divide each response by √(variance + 0.05) of the pixels it sees (these should
            lie in 0 … 1); None does so where filters are whitened.
        threshold: Subtracted from each response before it is rectified; None takes 0.5 where
            responses are normalised, and 0 elsewhere.

    Raises:
        ContextError: A setting is not in its range; every one is listed.
    """

    def __init__(
        self,
        filters: int = 32,
        *,
        size: int = 5,
        pool: int = 4,
        seed: int = 0,
        whiten: Whiten | None = None,
        normalize: bool | None = None,
        threshold: float | None = None,
    ) -> None:
        kinds = get_args(Whiten)
        check_settings(
            filters=(filters, is_whole(filters, 1), "a whole number >= 1"),
            size=(size, is_whole(size, 1) and size % 2 == 1, "an odd whole number >= 1"),
            pool=(pool, is_whole(pool, 1), "a whole number >= 1"),
            seed=(seed, is_whole(seed, 0), "a whole number >= 0"),
            whiten=(
                whiten,
                whiten is None or whiten in kinds,
                f"one of {', '.join(map(repr, kinds))}, or None",
            ),
            normalize=(normalize, normalize in (None, True, False), "True or False, or None"),
            threshold=(threshold, threshold is None or is_number(threshold), "a number, or None"),
        )
        self.filters = filters
        self.size = size
        self.pool = pool
        self.seed = seed
        self.whiten = whiten
        self.normalize = whiten is not None if normalize is None else bool(normalize)
        self.threshold = 0.5 * self.normalize if threshold is None else float(threshold)
        self._kernels: Tensor | None = None

    @property
    def keeps(self) -> str:
        """Data that the filters hold of the images they were frozen on, in words."""
        if self.whiten not in ("patches", "covariance"):
            return "nothing of the data"
        if self._kernels is None:
            return "nothing of the data yet"
        pixels = self._kernels[0].numel()
        if self.whiten == "patches":
            return f"{self.filters} pieces of {pixels} pixels of the first images, whitened"
        return f"the covariance of {pixels} pixels of the first images"

    def freeze(self, images: Tensor) -> "RandomFilters":
        """Settle on the filters, unless that was done before, and return self.

        Args:
            images: [N, channels, height, width]; only their channels matter unless `whiten` is
                "patches" or "covariance". Without an image nothing is done.

        Raises:
            DataError: The inputs are not images of floating-point numbers, are smaller than a
                filter, or have other channels than the filters are frozen for.
        """
        _check_images(images)
        channels = images.shape[1]
        if self._kernels is not None and self._kernels.shape[1] != channels:
            raise DataError(
                f"images have {channels} channels, but these filters are frozen for "
                f"{self._kernels.shape[1]}: give images of one kind, or make new RandomFilters"
            )
        if self._kernels is None and len(images):
            self._kernels = self._of(channels, images)
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features of images, [N, F] float32; the first ones freeze the filters.

        Raises:
            DataError: The inputs are not images of floating-point numbers, are smaller than a
                filter, or have other channels than the filters are frozen for.
        """
        self.freeze(images)
        height, width = images.shape[2:]
        if self._kernels is None:
            places = -(-height // self.pool) * -(-width // self.pool)
            return torch.zeros(0, self.filters * places)
        kernels = self._kernels.to(images.device, memory_format=torch.channels_last)
        at_once = max(1, RESPONSES // (self.filters * height * width))
        parts = torch.split(images, at_once)
        return torch.cat([self._features(part, kernels) for part in parts])

    def state_dict(self) -> dict[str, Any]:
        """Return settings and frozen filters, on the CPU."""
        kernels = None if self._kernels is None else self._kernels.cpu()
        return {"settings": self._settings(), "kernels": kernels}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over frozen filters, unless these are frozen already; then both must be the same.

        Raises:
            ContextError: Settings or frozen filters differ.
        """
        ours, theirs = self._settings(), state["settings"]
        wrong = [
            f"{name} {theirs.get(name)!r} instead of {value!r}"
            for name, value in ours.items()
            if theirs.get(name) != value
        ]
        if wrong:
            raise ContextError(f"filters have {', '.join(wrong)}: give both the same settings")
        kernels = state["kernels"]
        if kernels is None:
            return
        if self._kernels is None:
            self._kernels = kernels.clone()
        elif not torch.equal(self._kernels.cpu(), kernels):
            raise ContextError(
                "filters were frozen on other images: freeze one RandomFilters, "
                "filters.freeze(images), and give it to every context before its first update"
            )

    def __repr__(self) -> str:
        settings = f"{self.filters}, size={self.size}, pool={self.pool}, seed={self.seed}"
        if self.whiten or self.normalize or self.threshold:
            settings += (
                f", whiten={self.whiten!r}, normalize={self.normalize}, "
                f"threshold={self.threshold:g}: keeps {self.keeps}"
            )
        return f"{type(self).__name__}({settings})"

    def _features(self, images: Tensor, kernels: Tensor) -> Tensor:
        """Return the features of a few images, [N, F]."""
        images = images.float()
        responses = F.conv2d(images, kernels, padding=self.size // 2)
        if self.normalize:
            responses.mul_(self._contrast(images).rsqrt_())
        if self.threshold:
            responses.sub_(self.threshold)
        pooled = F.avg_pool2d(responses.relu_(), self.pool, ceil_mode=True, count_include_pad=False)
        return pooled.flatten(1)

    def _contrast(self, images: Tensor) -> Tensor:
        """Return the variance of what a filter sees plus 0.05, at each place [N, 1, H, W]."""
        powers = torch.stack([images.mean(1), images.square().mean(1)], 1)
        seen = F.avg_pool2d(powers, self.size, 1, self.size // 2)
        return (seen[:, 1:] - seen[:, :1].square()).clamp_(min=0).add_(CONTRAST)

    def _of(self, channels: int, images: Tensor | None = None) -> Tensor:
        """Return the filters [filters, channels, size, size]; plain ones have mean 0 and norm 1."""
        generator = torch.Generator().manual_seed(self.seed)
        shape = Shape(self.filters, channels, self.size)
        if self.whiten is None:
            return plain_kernels(shape, generator)
        if self.whiten == "analytic" or images is None:
            return analytic_kernels(shape, generator)
        _check_pieces(images, shape)
        draw = piece_kernels if self.whiten == "patches" else covariance_kernels
        return draw(shape, images, generator)

    def _settings(self) -> dict[str, Any]:
        """Return the settings that the features depend on."""
        names = ("filters", "size", "pool", "seed", "whiten", "normalize", "threshold")
        return {name: getattr(self, name) for name in names}


def _check_pieces(images: Tensor, shape: Shape) -> None:
    """Refuse images from which no filters can be made."""
    height, width = images.shape[2:]
    pieces = len(images) * (height - shape.size + 1) * (width - shape.size + 1)
    if min(height, width) < shape.size or pieces < shape.number:
        raise DataError(
            f"{len(images)} images of {height} × {width} pixels do not have {shape.number} pieces "
            f"of {shape.size} × {shape.size}: freeze the filters on more, or make smaller ones"
        )
    if not images.isfinite().all():
        raise DataError("images to freeze the filters on are NaN or infinite: drop these")
    if bool((images == images[:, :, :1, :1]).all()):
        raise DataError("images to freeze the filters on are uniform: give some with contrast")


def _check_images(images: object) -> None:
    if isinstance(images, Tensor) and images.dim() == 4 and not images.is_floating_point():
        raise DataError(
            f"RandomFilters takes floating-point images, got {images.dtype}: convert them, such as "
            "images.float() / 255"
        )
    if not isinstance(images, Tensor) or images.dim() != 4:
        got = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise DataError(
            f"RandomFilters takes floating-point images [N, channels, height, width], got {got}: "
            "leave extract= out for other inputs (in a config: features: inputs)"
        )
