"""Kernels of random filters: drawn at random, or pieces of images, and whitened."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Whiten = Literal["analytic", "covariance", "patches"]

LENGTH = 5.0
"""Pixels over which the correlation of pixels falls to 1/e, as analytic whitening has it."""

CHANNELS = 0.9
"""Correlation of two channels at one place, as analytic whitening has it."""

CONTRAST = 0.05
"""Added to the variance of a piece before it is divided by its root (pixels lie in 0 … 1)."""

PIECES = 50_000
"""How many pieces of images a covariance is estimated from, at most."""

FLOOR = 0.1
"""Share of the mean eigenvalue added to an estimated covariance before it is inverted."""


@dataclass(frozen=True)
class Shape:
    """Shape of the kernels.

    Attributes:
        number: How many there are.
        channels: Channels of the images.
        size: Side in pixels.
    """

    number: int
    channels: int
    size: int

    @property
    def pixels(self) -> int:
        """Entries of a kernel, P."""
        return self.channels * self.size**2


def plain_kernels(shape: Shape, generator: torch.Generator) -> Tensor:
    """Draw kernels [number, channels, size, size] of mean 0 and length 1."""
    drawn = torch.randn(shape.number, shape.channels, shape.size, shape.size, generator=generator)
    centred = drawn - drawn.mean((1, 2, 3), keepdim=True)
    return F.normalize(centred.flatten(1), dim=1).view_as(centred)


def analytic_kernels(shape: Shape, generator: torch.Generator) -> Tensor:
    """Draw directions of length 1 and whiten them without looking at any data.

    The covariance of pixels at distance r is taken to be exp(−r/5), times 0.9 between channels,
    which is nearly that of natural images (their power falls with 1/f², Field 1987); the mean of a
    piece is taken out.
    """
    rows, columns = torch.meshgrid(*[torch.arange(shape.size).double()] * 2, indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()], 1)
    in_place = torch.exp(-torch.cdist(places, places) / LENGTH)
    across = torch.full((shape.channels, shape.channels), CHANNELS, dtype=torch.float64)
    across.fill_diagonal_(1.0)
    centring = torch.eye(shape.pixels, dtype=torch.float64) - 1 / shape.pixels
    covariance = centring @ torch.kron(across, in_place) @ centring
    return _as_kernels(_directions(shape, generator) @ _inverse_root(covariance), shape)


def covariance_kernels(shape: Shape, images: Tensor, generator: torch.Generator) -> Tensor:
    """Draw directions of length 1 and whiten them by the covariance of pieces of images."""
    whitening = _whitening(_pieces(shape, images, generator))
    return _as_kernels(_directions(shape, generator) @ whitening, shape)


def piece_kernels(shape: Shape, images: Tensor, generator: torch.Generator) -> Tensor:
    """Choose pieces of images with contrast, and whiten them (Coates, Lee and Ng, AISTATS 2011).

    With x a piece without its mean and divided by its contrast, and C the covariance of pieces, a
    kernel is C^−½ (C^−½ x) / |C^−½ x|: its response is the projection of what it sees, whitened,
    on the whitened piece.
    """
    pieces = _pieces(shape, images, generator)
    whitening = _whitening(pieces)
    seen = pieces[pieces.square().mean(1) > 0.5]  # half of full contrast: not even background
    chosen = seen if len(seen) >= shape.number else pieces
    order = torch.randperm(len(chosen), generator=generator)[: shape.number]
    whitened = chosen[order] @ whitening
    lengths = whitened.norm(dim=1, keepdim=True).clamp(min=1e-6)
    return _as_kernels(whitened / lengths @ whitening, shape)


def _pieces(shape: Shape, images: Tensor, generator: torch.Generator) -> Tensor:
    """Cut pieces at random places, without their mean and of contrast about 1, [R, P] float64."""
    height, width = images.shape[2] - shape.size + 1, images.shape[3] - shape.size + 1
    number = min(PIECES, len(images) * height * width)
    places = torch.randint(len(images) * height * width, (number,), generator=generator)
    image, rest = places // (height * width), places % (height * width)
    windows = images.detach().cpu().unfold(2, shape.size, 1).unfold(3, shape.size, 1)
    cut = windows[image, :, rest // width, rest % width].flatten(1).double()
    centred = cut - cut.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True) + CONTRAST).sqrt()


def _whitening(pieces: Tensor) -> Tensor:
    """Return the inverse root of the covariance of pieces [R, P], [P, P]."""
    covariance = pieces.mT @ pieces / len(pieces)
    size = len(covariance)
    centring = torch.eye(size, dtype=torch.float64) - 1 / size
    covariance += FLOOR * covariance.diagonal().mean() * centring
    return _inverse_root(covariance)


def _inverse_root(covariance: Tensor) -> Tensor:
    """Return C^−½ [P, P], 0 in directions in which nothing varies."""
    values, vectors = torch.linalg.eigh(covariance)
    varies = values > 1e-9 * values[-1]
    inverse = torch.where(varies, values.clamp(min=1e-12).rsqrt(), 0)
    root: Tensor = vectors * inverse @ vectors.mT
    return root


def _directions(shape: Shape, generator: torch.Generator) -> Tensor:
    """Draw directions of length 1, [number, P] float64."""
    drawn = torch.randn(shape.number, shape.pixels, generator=generator).double()
    return F.normalize(drawn, dim=1)


def _as_kernels(rows: Tensor, shape: Shape) -> Tensor:
    return rows.reshape(shape.number, shape.channels, shape.size, shape.size).float()
