"""Image files and encoded images, decoded to arrays."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from growmas.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")


def decoded(
    images: Iterable[tuple[str, Any]], *, channels: int | None, size: tuple[int, int] | None
) -> NDArray[np.uint8]:
    """Decode images to one array.

    Args:
        images: Pairs of a name for messages, and a path, encoded bytes, or a PIL image.
        channels: 1 or 3; None for 3 if any of the images has colours, else 1.
        size: (height, width); None where all images have the same size.

    Returns:
        uint8 [N, channels, height, width].

    Raises:
        DataError: An image cannot be read, or the sizes differ.
    """
    image_module = _pil()
    found: list[NDArray[np.uint8]] = []
    shapes: dict[tuple[int, ...], str] = {}
    for name, image in images:
        array = _decode(image_module, name, image, channels, size)
        shapes.setdefault(array.shape[:2], name)
        if len(shapes) > 1:
            (one, first), (two, second) = list(shapes.items())[:2]
            raise DataError(
                f"{first} has {one[1]}×{one[0]} pixels but {second} has {two[1]}×{two[0]}: give a "
                "size such as 32, or [32, 48] for height and width",
                key=("size",),
            )
        found.append(array)
    if any(array.ndim == 3 for array in found):
        found = [a if a.ndim == 3 else np.repeat(a[..., None], 3, 2) for a in found]
        return np.stack(found).transpose(0, 3, 1, 2).copy()
    return np.stack(found)[:, None]


def image_files(folder: Path) -> list[Path]:
    """Return the image files directly in a folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _decode(
    module: Any, name: str, image: Any, channels: int | None, size: Sequence[int] | None
) -> NDArray[np.uint8]:
    try:
        opened = image
        if isinstance(image, bytes):
            opened = module.open(io.BytesIO(image))
        elif isinstance(image, Path):
            opened = module.open(image)
        grey = opened.mode in ("1", "L", "LA", "I", "I;16", "F")
        if opened.mode in ("I", "I;16"):
            opened = opened.point(lambda value: value / 256)
        mode = {1: "L", 3: "RGB", None: "L" if grey else "RGB"}[channels]
        opened = opened.convert(mode)
        if size is not None:
            opened = opened.resize((size[1], size[0]), module.Resampling.BILINEAR)
        return np.asarray(opened, dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, AttributeError) as error:
        raise DataError(
            f"{name} is not a readable image ({error}): correct or remove it"
        ) from error


def _pil() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("images are read with Pillow: pip install pillow") from error
    return Image
