"""Contexts over processes are those of one, also where a process saw nothing."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed as dist, multiprocessing as mp

from growmas import GaussianContext, RandomFilters, RidgeContext, SharedGaussianContext
from growmas.contexts import gather_context
from growmas.errors import ContextError

KINDS = (GaussianContext, RidgeContext, SharedGaussianContext)
SHARDS = {"even": (30, 30), "uneven": (3, 57), "one empty": (60, 0)}
IMAGES = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(60) % 3

pytestmark = pytest.mark.skipif(
    not dist.is_available() or sys.platform == "win32", reason="needs torch.distributed with gloo"
)


def context_of(kind: type, images: Tensor, labels: Tensor) -> GaussianContext:
    options = {"shrinkage": 0.5} if kind is GaussianContext else {"strength": 0.1}
    context = kind(per="class", extract=RandomFilters(4), **options)
    context.update("a", images, labels)
    return context


def worker(rank: int, folder: str) -> None:
    """What each of two processes does; it writes down what it got."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        found: dict[str, object] = {}
        for kind in KINDS:
            for name, sizes in SHARDS.items():
                images, labels = IMAGES.split(sizes)[rank], LABELS.split(sizes)[rank]
                mine = context_of(kind, images, labels)
                scores = gather_context(mine).class_scores(IMAGES)
                found[f"{kind.__name__} {name}"] = scores
                found[f"{kind.__name__} {name} again"] = gather_context(mine).class_scores(IMAGES)
        try:
            own = RidgeContext(extract=RandomFilters(4, whiten="patches"))
            own.update("a", IMAGES.split(30)[rank], LABELS[:30])
            gather_context(own)
        except ContextError as error:
            found["other filters"] = str(error)
        torch.save(found, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(worker, args=(str(folder),), nprocs=2)
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shards", SHARDS)
def test_all_processes_get_the_context_of_all_samples(
    found: list[dict[str, Tensor]], kind: type, shards: str
) -> None:
    wanted = context_of(kind, IMAGES, LABELS).class_scores(IMAGES)
    for again in ("", " again"):
        one, two = (part[f"{kind.__name__} {shards}{again}"] for part in found)
        assert torch.equal(one, two)
        torch.testing.assert_close(one, wanted, rtol=1e-8, atol=1e-8)


def test_other_filters_are_refused_everywhere(found: list[dict[str, str]]) -> None:
    for part in found:
        assert "frozen on other images" in part["other filters"]


@pytest.mark.parametrize("kind", KINDS)
def test_without_processes_it_is_a_copy(kind: type) -> None:
    context = context_of(kind, IMAGES, LABELS)
    copied = gather_context(context)
    assert torch.equal(copied.class_scores(IMAGES), context.class_scores(IMAGES))
    copied.update("b", IMAGES, LABELS)
    assert context.tasks == ("a",)
