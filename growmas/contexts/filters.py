"""Random filters: image features from fixed random convolutions, without training."""

import torch
import torch.nn.functional as F
from torch import Tensor

from growmas.contexts.settings import check_settings, is_whole
from growmas.errors import DataError


class RandomFilters:
    """Turn images into rectified responses of random filters, averaged over neighbourhoods.

    Made for `GaussianContext(extract=...)` on images [N, channels, height, width]. Each image
    gives F = filters × neighbourhoods features; a neighbourhood is `pool` × `pool` pixels, and
    the ones at the border may be smaller. The entries of a filter sum to 0, so that uniform
    brightness has no effect. One layer of random filters is nearly as useful as a trained one
    (Jarrett et al., ICCV 2009), and Gaussians of such features separate digits better than
    Gaussians of pixels.

    >>> RandomFilters(filters=4)(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 196])

    Args:
        filters: Number of filters.
        size: Side of a filter in pixels, an odd number.
        pool: Side of a neighbourhood in pixels.
        seed: Seed of the random filters.

    Raises:
        ContextError: A setting is not a whole number in its range; every one is listed.
    """

    def __init__(self, filters: int = 32, *, size: int = 5, pool: int = 4, seed: int = 0) -> None:
        check_settings(
            filters=(filters, is_whole(filters, 1), "a whole number >= 1"),
            size=(size, is_whole(size, 1) and size % 2 == 1, "an odd whole number >= 1"),
            pool=(pool, is_whole(pool, 1), "a whole number >= 1"),
            seed=(seed, is_whole(seed, 0), "a whole number >= 0"),
        )
        self.filters = filters
        self.size = size
        self.pool = pool
        self.seed = seed
        self._kernels: Tensor | None = None

    def __repr__(self) -> str:
        settings = f"size={self.size}, pool={self.pool}, seed={self.seed}"
        return f"{type(self).__name__}({self.filters}, {settings})"

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features of images, [N, F] float32.

        Raises:
            DataError: The inputs are not images of floating-point numbers.
        """
        if not isinstance(images, Tensor) or images.dim() != 4 or not images.is_floating_point():
            got = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise DataError(
                "RandomFilters takes floating-point images [N, channels, height, width], got "
                f"{got}: use a GaussianContext without extract= for other inputs"
            )
        kernels = self._of(images.shape[1]).to(images.device)
        responses = F.conv2d(images.float(), kernels, padding=self.size // 2).relu()
        pooled = F.avg_pool2d(responses, self.pool, ceil_mode=True, count_include_pad=False)
        return pooled.flatten(1)

    def _of(self, channels: int) -> Tensor:
        """Return the filters [filters, channels, size, size], each of mean 0 and norm 1."""
        if self._kernels is None or self._kernels.shape[1] != channels:
            generator = torch.Generator().manual_seed(self.seed)
            drawn = torch.randn(self.filters, channels, self.size, self.size, generator=generator)
            centred = drawn - drawn.mean((1, 2, 3), keepdim=True)
            lengths = centred.flatten(1).norm(dim=1)
            self._kernels = centred / lengths[:, None, None, None]
        return self._kernels
