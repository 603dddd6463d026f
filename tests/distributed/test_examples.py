"""The examples of docs/distributed.md run in two processes of accelerate and Fabric."""

import os
import re
import socket
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed as dist, multiprocessing as mp

GUIDE = Path(__file__).parents[2] / "docs" / "distributed.md"
EXAMPLES = {
    package: code
    for code in re.findall(r"```py\n(.*?)```", GUIDE.read_text("utf-8"), flags=re.DOTALL)
    for package in ("accelerate", "lightning")
    if f"from {package}" in code
}


def worker(rank: int, folder: str, package: str, port: int) -> None:
    """Run an example as torchrun would, and keep what came of it."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "none"}
    numbers = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": 2,
        "LOCAL_WORLD_SIZE": 2,
        "GROUP_RANK": 0,
    }
    os.environ.update({**places, **{name: str(value) for name, value in numbers.items()}})
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(compile(EXAMPLES[package], GUIDE.name, "exec"), names)
    assert dist.get_world_size() == 2
    optimizer, structure = names["optimizer"].optimizer, names["structure"]
    parameters = dict(structure.model.named_parameters())
    held = [p for group in optimizer.param_groups for p in group["params"]]
    found = {
        "width": structure.groups["0"].width,
        "parameters": {name: p.detach() for name, p in parameters.items()},
        "state": [optimizer.state[p]["exp_avg"].shape == p.shape for p in held],
        "same": [id(p) for p in held] == [id(p) for p in parameters.values()],
        "omega": names["mas"].omega,
    }
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(
    not dist.is_available() or sys.platform == "win32", reason="needs torch.distributed with gloo"
)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("package", EXAMPLES)
def test_the_example_trains_grows_and_prunes_alike_in_both(package: str, tmp_path: Path) -> None:
    pytest.importorskip(package)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(worker, (str(tmp_path), package, port), nprocs=2, start_method="fork")
    one, two = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert one["width"] == two["width"] == 8 + 4 - 1 + 4 - 1
    for kind in ("parameters", "omega"):
        for name, tensor in one[kind].items():
            assert torch.equal(tensor, two[kind][name]), name
    assert one["same"]
    assert all(one["state"])
