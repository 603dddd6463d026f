"""Random filters that are whitened, normalised, frozen, and shared by contexts."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from growmas.contexts import GaussianContext, RandomFilters, RidgeContext, SharedGaussianContext
from growmas.contexts.kernels import Shape, analytic_kernels, covariance_kernels
from growmas.errors import ContextError, DataError

WHITEN = ("analytic", "covariance", "patches")


def pictures(number: int = 40, channels: int = 1, side: int = 12, *, seed: int = 0) -> Tensor:
    """Images with correlated pixels in 0 … 1."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(number, channels, side + 4, side + 4, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(noise, 5, 1)
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def slow(filters: RandomFilters, image: Tensor) -> Tensor:
    """Every response by itself from what the filter sees, [filters × places]."""
    kernels, margin = filters._kernels, filters.size // 2
    assert kernels is not None
    padded = torch.nn.functional.pad(image, (margin,) * 4)
    height, width = image.shape[1:]
    responses = torch.zeros(filters.filters, height, width)
    for y in range(height):
        for x in range(width):
            seen = padded[:, y : y + filters.size, x : x + filters.size]
            contrast = (seen.var(correction=0) + 0.05).sqrt() if filters.normalize else 1.0
            for number, kernel in enumerate(kernels):
                responses[number, y, x] = (seen * kernel).sum() / contrast - filters.threshold
    responses = responses.clamp(min=0)
    places = [
        responses[:, y : y + filters.pool, x : x + filters.pool].mean((1, 2))
        for y in range(0, height, filters.pool)
        for x in range(0, width, filters.pool)
    ]
    return torch.stack(places, 1).flatten()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("whiten", [*WHITEN, None])
def test_equal_to_every_response_by_itself(whiten: Any, channels: int) -> None:
    images = pictures(5, channels, 9)
    filters = RandomFilters(3, size=3, pool=4, whiten=whiten, normalize=True)
    found = filters(images[:2])  # 9: places at the border are smaller
    wanted = torch.stack([slow(filters, image) for image in images[:2]])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert (filters.normalize, filters.threshold) == (True, 0.5)


def test_many_filters_in_pieces_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    images, filters = pictures(7), RandomFilters(4, whiten="analytic")
    whole = filters(images)
    monkeypatch.setattr("growmas.contexts.filters.RESPONSES", 1)
    torch.testing.assert_close(filters(images), whole)


def test_old_arguments_mean_what_they_did() -> None:
    filters = RandomFilters(4)
    assert (filters.whiten, filters.normalize, filters.threshold) == (None, False, 0.0)
    assert repr(filters) == "RandomFilters(4, size=5, pool=4, seed=0)"
    assert (RandomFilters(4, whiten="analytic", normalize=False).threshold) == 0.0
    assert RandomFilters(4, normalize=True).threshold == 0.5
    assert RandomFilters(4, normalize=True, threshold=0.1).threshold == 0.1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("whiten", WHITEN)
def test_filters_do_not_see_uniform_brightness(whiten: Any, channels: int) -> None:
    filters = RandomFilters(6, whiten=whiten).freeze(pictures(channels=channels))
    assert filters._kernels is not None
    torch.testing.assert_close(filters._kernels.sum((1, 2, 3)), torch.zeros(6), rtol=0, atol=1e-4)


def test_analytic_whitening_whitens_the_correlation_it_assumes() -> None:
    """Responses of many filters to such pixels are as large in every direction."""
    shape = Shape(4000, 1, 3)
    rows = analytic_kernels(shape, torch.Generator().manual_seed(0)).flatten(1).double()
    places = torch.tensor([[y, x] for y in range(3) for x in range(3)]).double()
    correlation = torch.exp(-torch.cdist(places, places) / 5)
    centring = torch.eye(9).double() - 1 / 9
    covariance = centring @ correlation @ centring
    second = rows.T @ rows / len(rows) * 9  # of directions of length 1 in 9 dimensions
    torch.testing.assert_close(second @ covariance, centring, rtol=0, atol=0.15)


def test_whitening_by_the_covariance_of_the_images() -> None:
    shape, images = Shape(4000, 1, 3), pictures(200)
    rows = covariance_kernels(shape, images, torch.Generator().manual_seed(0)).flatten(1).double()
    pieces = images.unfold(2, 3, 1).unfold(3, 3, 1).reshape(-1, 9).double()
    pieces = pieces - pieces.mean(1, keepdim=True)
    pieces = pieces / (pieces.square().mean(1, keepdim=True) + 0.05).sqrt()
    responses = rows.T @ rows / len(rows) * 9 @ (pieces.T @ pieces / len(pieces))
    values = torch.linalg.eigvals(responses).real.sort().values
    assert abs(values[0]) < 1e-3  # uniform brightness
    assert values[-1] / values[1] < 6  # before: hundreds
    before = torch.linalg.eigvalsh(pieces.T @ pieces)
    assert before[-1] / before[1] > 30


class TestFreezing:
    def test_before_the_first_statistic_and_for_good(self) -> None:
        filters = RandomFilters(8, whiten="patches")
        assert filters.keeps == "nothing of the data yet"
        context = RidgeContext(extract=filters, strength=0.1)
        first = pictures(20)
        context.update("a", first, torch.arange(20) % 2)
        kernels = filters._kernels
        context.update("b", 1 - pictures(20, seed=1), torch.arange(20) % 2)
        assert filters._kernels is kernels
        assert kernels is not None
        assert torch.equal(kernels, RandomFilters(8, whiten="patches").freeze(first)._kernels)
        assert filters.keeps == "8 pieces of 25 pixels of the first images, whitened"
        assert filters.keeps in repr(filters)

    def test_what_is_kept(self) -> None:
        images = pictures(20)
        kept = {w: RandomFilters(8, whiten=w).freeze(images).keeps for w in (*WHITEN, None)}  # type: ignore[arg-type]
        assert kept["analytic"] == kept[None] == "nothing of the data"
        assert kept["covariance"] == "the covariance of 25 pixels of the first images"

    @pytest.mark.parametrize("whiten", ["analytic", None])
    def test_without_data_the_seed_alone_decides(self, whiten: Any) -> None:
        one, two = (RandomFilters(8, whiten=whiten).freeze(pictures(9, seed=s)) for s in (0, 1))
        assert one._kernels is not None
        assert torch.equal(one._kernels, two._kernels)

    @pytest.mark.parametrize("whiten", WHITEN)
    def test_without_images_nothing_is_frozen(self, whiten: Any) -> None:
        filters = RandomFilters(8, whiten=whiten)
        assert filters(torch.rand(0, 1, 12, 12)).shape == (0, 72)
        assert filters._kernels is None
        filters.freeze(pictures())
        assert filters(torch.rand(0, 1, 12, 12)).shape == (0, 72)

    def test_the_random_state_is_left_alone(self) -> None:
        state = torch.get_rng_state()
        RandomFilters(8, whiten="patches")(pictures())
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize(
        ("images", "message"),
        [
            (torch.full((9, 1, 8, 8), 0.5), "uniform"),
            (torch.rand(1, 1, 6, 6), "do not have 8 pieces of 5 × 5"),
            (torch.rand(99, 1, 4, 9), "do not have 8 pieces of 5 × 5"),
            (torch.full((9, 1, 8, 8), float("nan")), "NaN or infinite"),
            (torch.rand(9, 64), "takes floating-point images"),
        ],
    )
    def test_images_that_filters_cannot_be_made_of(self, images: Tensor, message: str) -> None:
        filters = RandomFilters(8, whiten="patches")
        with pytest.raises(DataError, match=message):
            filters(images)
        filters(pictures())

    def test_other_channels(self) -> None:
        filters = RandomFilters(8, whiten="analytic").freeze(pictures())
        with pytest.raises(DataError, match="3 channels, but these filters are frozen for 1"):
            filters(pictures(channels=3))


class TestContextsOfFilters:
    def labels(self) -> Tensor:
        return torch.arange(40) % 2

    @pytest.mark.parametrize("kind", [RidgeContext, SharedGaussianContext])
    def test_shards_of_other_filters_are_refused(self, kind: Any) -> None:
        shards = [kind(extract=RandomFilters(8, whiten="patches")) for _ in range(2)]
        for seed, shard in enumerate(shards):
            shard.update("a", pictures(seed=seed), self.labels())
        before = shards[0].state_dict()["products"]
        with pytest.raises(ContextError, match=r"the other context differ: .* on other images"):
            shards[0].merge(shards[1])
        assert torch.equal(shards[0].state_dict()["products"], before)
        other = kind(extract=RandomFilters(8, seed=1, whiten="patches"))
        with pytest.raises(ContextError, match="seed 1 instead of 0"):
            shards[0].merge(other)
        for without in (kind(), kind(extract=lambda x: x.flatten(1))):
            with pytest.raises(ContextError, match="filters of its own"):
                shards[0].merge(without)

    @pytest.mark.parametrize("whiten", [*WHITEN, None])
    def test_shards_of_the_same_filters_merge_to_one_pass(self, whiten: Any) -> None:
        images, labels = pictures(90), torch.arange(90) % 3
        frozen = RandomFilters(8, whiten=whiten).freeze(images)
        whole = SharedGaussianContext(extract=frozen, strength=0.1)
        whole.update("a", images, labels)
        order = torch.randperm(90, generator=torch.Generator().manual_seed(0))
        first, *others = [
            SharedGaussianContext(extract=copy.deepcopy(frozen), strength=0.1) for _ in range(4)
        ]
        for shard, rows in zip((first, *others), order.chunk(4), strict=True):
            shard.update("a", images[rows], labels[rows])
        for other in others:
            first.merge(other)
        torch.testing.assert_close(
            first.class_scores(images), whole.class_scores(images), rtol=1e-8, atol=1e-8
        )

    @pytest.mark.filterwarnings("ignore:the least cross-validation error lies at")
    @pytest.mark.parametrize("kind", [RidgeContext, SharedGaussianContext, GaussianContext])
    def test_a_state_carries_the_filters(self, kind: Any) -> None:
        images = pictures()
        context, fresh = (
            kind(per="class", extract=RandomFilters(8, whiten="patches")) for _ in range(2)
        )
        context.update("a", images, self.labels())
        context.update("b", 1 - images, self.labels())
        fresh.load_state_dict(context.state_dict())
        assert torch.equal(fresh.class_scores(images), context.class_scores(images))
        strange = kind(per="class", extract=RandomFilters(8, whiten="patches"))
        strange.update("a", pictures(seed=3), self.labels())
        with pytest.raises(ContextError, match="frozen on other images"):
            strange.load_state_dict(context.state_dict())


def test_settings() -> None:
    with pytest.raises(ContextError) as caught:
        RandomFilters(0, size=4, pool=0, seed=-1, whiten="zca", normalize="x", threshold="y")  # type: ignore[arg-type]
    for name in ("filters", "size", "pool", "seed", "whiten", "normalize", "threshold"):
        assert f"{name}=" in str(caught.value)
