"""Data sharded over processes gives the importance of one, uneven and empty shards included."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed as dist, multiprocessing as mp, nn

from growmas import MAS, ImportanceSum, distributed_importance, mas_importance
from growmas.errors import DataError, ImportanceError

SHARDS = {"even": (4, 4), "uneven": (1, 7), "one empty": (8, 0)}
DATA = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).double()


def worker(rank: int, folder: str) -> None:
    """What each of two processes does; it writes down what it got."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        found: dict[str, object] = {}
        model = network()
        for name, sizes in SHARDS.items():
            shard = DATA.split(sizes)[rank]
            found[name] = distributed_importance(model, shard.split(3) if len(shard) else [])
            mas = MAS(model)
            mas.consolidate(distributed_importance(model, [shard]))
            found[f"mas {name}"] = mas.omega
        found["local"] = mas_importance(model, [DATA[:2] if rank else DATA[2:]])
        other = nn.Linear(3, 5 + rank)
        for wrong, call in (
            ("other network", lambda: distributed_importance(other, [DATA.float()])),
            ("no samples", lambda: distributed_importance(model, [])),
        ):
            try:
                call()
            except (ImportanceError, DataError) as error:
                found[wrong] = f"{type(error).__name__}: {error}"
        torch.save(found, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(worker, args=(str(folder),), nprocs=2)
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]


def assert_close(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, want in wanted.items():
        assert torch.allclose(found[name], want, rtol=1e-10, atol=0), name


pytestmark = pytest.mark.skipif(
    not dist.is_available() or sys.platform == "win32", reason="needs torch.distributed with gloo"
)


@pytest.mark.parametrize("shards", SHARDS)
def test_sharded_data_give_the_importance_of_one_process(found: list, shards: str) -> None:
    wanted = mas_importance(network(), [DATA])
    for rank in range(2):
        assert_close(found[rank][shards], wanted)
        assert_close(found[rank][f"mas {shards}"], wanted)
    assert all(torch.equal(found[0][shards][name], found[1][shards][name]) for name in wanted)


def test_mas_importance_itself_stays_local(found: list) -> None:
    assert_close(found[0]["local"], mas_importance(network(), [DATA[2:]]))
    assert_close(found[1]["local"], mas_importance(network(), [DATA[:2]]))


def test_different_networks_are_refused_in_every_process(found: list) -> None:
    for rank in range(2):
        message = found[rank]["other network"]
        assert message.startswith("ImportanceError: importance sums of different networks")
        assert "process 0" in message
        assert "process 1" in message


def test_no_sample_anywhere_is_refused_in_every_process(found: list) -> None:
    for rank in range(2):
        assert found[rank]["no samples"].startswith("DataError: no samples")


def test_without_a_process_group_it_is_mas_importance() -> None:
    assert_close(
        distributed_importance(network(), DATA.split(3)), mas_importance(network(), [DATA])
    )
    total = ImportanceSum({"w": torch.ones(2)}, 3)
    assert total.all_reduce() is total
