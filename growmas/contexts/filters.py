"""Features of images that nobody has to learn: fixed random convolutions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from growmas.errors import DataError


class RandomFilters:
    """Images -> rectified responses of random filters, averaged over neighbourhoods.

    What `GaussianContext(extract=...)` takes for images [N, channels, height, width]: F = filters
    × places features each, where a place is `pool` × `pool` pixels, rounded up at the border.
    Filters sum to nothing, so that even brightness is not seen. Random filters of one layer keep
    much of what trained ones do (Jarrett et al., ICCV 2009), and Gaussians of such features tell
    digits apart better than Gaussians of pixels.

    >>> RandomFilters(filters=4)(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 196])

    Args:
        filters: Their number.
        size: Pixels of a side of a filter, an odd number.
        pool: Pixels of a side of a neighbourhood.
        seed: Of the filters.
    """

    def __init__(self, filters: int = 32, *, size: int = 5, pool: int = 4, seed: int = 0) -> None:
        self.filters = filters
        self.size = size
        self.pool = pool
        self.seed = seed
        self._kernels: Tensor | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Features [N, F], float32.

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
        """The filters [filters, channels, size, size], each without its mean and of length 1."""
        if self._kernels is None or self._kernels.shape[1] != channels:
            generator = torch.Generator().manual_seed(self.seed)
            drawn = torch.randn(self.filters, channels, self.size, self.size, generator=generator)
            centred = drawn - drawn.mean((1, 2, 3), keepdim=True)
            lengths = centred.flatten(1).norm(dim=1)
            self._kernels = centred / lengths[:, None, None, None]
        return self._kernels
