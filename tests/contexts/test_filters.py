"""Features of fixed random convolutions."""

import pytest
import torch

from growmas.contexts import GaussianContext, RandomFilters
from growmas.errors import DataError


def slow(features: RandomFilters, image: torch.Tensor) -> torch.Tensor:
    """Every response by itself, [filters × places]."""
    kernels = features._of(image.shape[0])
    margin = features.size // 2
    padded = torch.nn.functional.pad(image, (margin,) * 4)
    height, width = image.shape[1:]
    responses = torch.tensor([
        [
            [
                float((padded[:, y : y + features.size, x : x + features.size] * kernel).sum())
                for x in range(width)
            ]
            for y in range(height)
        ]
        for kernel in kernels
    ]).clamp(min=0)  # fmt: skip
    places = [
        responses[:, y : y + features.pool, x : x + features.pool].mean((1, 2))
        for y in range(0, height, features.pool)
        for x in range(0, width, features.pool)
    ]
    return torch.stack(places, 1).flatten()


@pytest.mark.parametrize("channels", [1, 2])
def test_equal_to_every_response_by_itself(channels: int) -> None:
    features = RandomFilters(3, size=3, pool=4)
    images = torch.rand(2, channels, 8, 9)  # 9: places at the border are smaller
    wanted = torch.stack([slow(features, image) for image in images])
    torch.testing.assert_close(features(images), wanted)


def test_even_brightness_is_not_seen_away_from_the_border() -> None:
    features = RandomFilters(4, size=3, pool=4)
    images = torch.rand(1, 1, 12, 12)
    middle = [features(x).reshape(4, 3, 3)[:, 1, 1] for x in (images, images + 5)]
    torch.testing.assert_close(*middle)


def test_the_seed_decides() -> None:
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(RandomFilters(seed=3)(images), RandomFilters(seed=3)(images))
    assert not torch.equal(RandomFilters(seed=3)(images), RandomFilters(seed=4)(images))


def test_whole_numbers_are_refused_with_the_conversion() -> None:
    images = (255 * torch.rand(3, 1, 8, 8)).byte()
    with pytest.raises(DataError, match=r"got torch.uint8: convert them, such as images\.float"):
        RandomFilters()(images)


@pytest.mark.parametrize("inputs", [torch.rand(3, 64), torch.ones(3, 8, 8).long(), [1.0]])
def test_what_is_no_image_is_refused(inputs: object) -> None:
    with pytest.raises(DataError, match=r"takes floating-point images \[N, channels, height"):
        RandomFilters()(inputs)  # type: ignore[arg-type]


def test_a_context_of_them_tells_patterns_apart_that_pixels_do_not() -> None:
    """Stripes at random places: every pixel has the same mean and variance both ways."""
    generator = torch.Generator().manual_seed(0)

    def stripes(across: bool, number: int = 300) -> torch.Tensor:
        shift = torch.randint(0, 4, (number, 1, 1, 1), generator=generator)
        line = ((torch.arange(8).reshape(1, 1, 8, 1) + shift) % 4 < 2).float().expand(-1, 1, 8, 8)
        noise = 0.5 * torch.randn(number, 1, 8, 8, generator=generator)
        return (line if across else line.mT) + noise

    context = GaussianContext(50, extract=RandomFilters())
    for task in (0, 1):
        context.update(task, stripes(bool(task)))
    chosen = context.select(torch.cat([stripes(False, 50), stripes(True, 50)]))
    assert float((chosen == torch.arange(2).repeat_interleave(50)).float().mean()) > 0.97
