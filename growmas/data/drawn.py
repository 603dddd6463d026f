"""Drawn images: digits off the centre among clutter, and shapes.

Everything is drawn with numpy from a fixed seed, so that a source means the same data everywhere.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

SIDE = 28
CANVAS = 36
PATCHES = 4
PATCH = 8

_GRID = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")).astype(np.float32)


def cluttered(images: NDArray[np.float32], *, seed: int = 0) -> NDArray[np.float32]:
    """Place digits anywhere on a larger canvas, among patches of other digits.

    After the cluttered MNIST of Mnih et al., "Recurrent Models of Visual Attention", NeurIPS
    2014, smaller: the images of a class no longer lie around one mean image.

    Args:
        images: [N, 28, 28] in [0, 1].
        seed: of places and patches.

    Returns:
        [N, 36, 36] in [0, 1].
    """
    random = np.random.default_rng(seed)
    canvas = np.zeros((len(images), CANVAS, CANVAS), dtype=np.float32)
    for index, image in enumerate(images):
        for _ in range(PATCHES):
            other = images[random.integers(len(images))]
            top, left = random.integers(4, SIDE - 4 - PATCH + 1, size=2)
            patch = other[top : top + PATCH, left : left + PATCH]
            _put(canvas[index], patch, *random.integers(0, CANVAS - PATCH + 1, size=2))
        _put(canvas[index], image, *random.integers(0, CANVAS - SIDE + 1, size=2))
    return canvas


def _put(canvas: Image, piece: Image, top: int, left: int) -> None:
    part = canvas[top : top + len(piece), left : left + piece.shape[1]]
    np.maximum(part, piece, out=part)


def shapes(count: int, *, seed: int = 0) -> tuple[Image, NDArray[np.int64]]:
    """Draw the ten `SHAPES` with noise, at random places, sizes and brightnesses.

    Args:
        count: Images of each shape.
        seed: of everything random.

    Returns:
        Images [10 · count, 28, 28] in [0, 1], and labels [10 · count]; the classes alternate.
    """
    random = np.random.default_rng(seed)
    labels = np.tile(np.arange(len(SHAPES)), count)
    images = np.empty((len(labels), SIDE, SIDE), dtype=np.float32)
    for index, label in enumerate(labels):
        centre = random.uniform(10, 18, size=2)
        size, light = random.uniform(5, 9), random.uniform(0.5, 1.0)
        y, x = _GRID - centre[:, None, None]
        drawn = _DRAWINGS[label](y / size, x / size) * light
        images[index] = np.clip(drawn + random.normal(0, 0.15, drawn.shape), 0, 1)
    return images, labels


_Mask = NDArray[np.bool_]
_Drawing = Callable[[Image, Image], _Mask]


def _inside(y: Image, x: Image) -> _Mask:
    return np.maximum(abs(y), abs(x)) < 1


_PICTURES: dict[str, _Drawing] = {
    "disc": lambda y, x: y**2 + x**2 < 1,
    "ring": lambda y, x: abs(np.hypot(y, x) - 0.8) < 0.2,
    "square": _inside,
    "frame": lambda y, x: _inside(y, x) & ~_inside(y / 0.6, x / 0.6),
    "triangle": lambda y, x: (abs(y) < 1) & (2 * abs(x) < y + 1),
    "plus": lambda y, x: _inside(y, x) & ((abs(y) < 0.3) | (abs(x) < 0.3)),
    "cross": lambda y, x: _inside(y, x) & (abs(abs(y) - abs(x)) < 0.35),
    "rows": lambda y, x: _inside(y, x) & (np.floor(y * 3) % 2 == 0),
    "columns": lambda y, x: _inside(y, x) & (np.floor(x * 3) % 2 == 0),
    "checks": lambda y, x: _inside(y, x) & ((np.floor(y * 2) + np.floor(x * 2)) % 2 == 0),
}
SHAPES = tuple(_PICTURES)
_DRAWINGS = tuple(_PICTURES.values())
