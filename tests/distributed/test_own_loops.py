"""Loops of one's own in two processes: edits, wrappers, importance and statistics."""

import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import distributed as dist, multiprocessing as mp, nn
from torch.nn.parallel import DistributedDataParallel

import growmas as gm
from growmas.errors import ImportanceError, PlanError, RunError, SurgeryError

pytestmark = pytest.mark.skipif(
    not dist.is_available() or sys.platform == "win32", reason="needs torch.distributed with gloo"
)

X = torch.randn(24, 6, generator=torch.Generator().manual_seed(1))
Y = torch.arange(24) % 3
PLAN = gm.Plan(prune={"0": [1, 4]}, grow={"0": 3, "2": 2})


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
        )


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, mas: gm.MAS) -> None:
    for _ in range(steps):
        x, y = gm.distributed.own_rows((X, Y))
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        mas.penalty_grad_()
        optimizer.step()


def loop(*, wrapped: bool) -> dict[str, Any]:
    """Train, measure, edit and train on; in one process, or in each of two."""
    net = network()
    structure = gm.Structure(net, X[:2])
    mas = gm.MAS(net, strength=0.1)
    statistics = gm.ActivationStatistics(structure)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    model: nn.Module = (
        DistributedDataParallel(net, gradient_as_bucket_view=True) if wrapped else net
    )
    train(model, optimizer, 3, mas)
    shard = list(gm.distributed.own_share([X[:10], X[10:]]))
    mas.consolidate(gm.distributed.all_reduce(gm.importance_sum(net, shard)))
    statistics.update(shard)
    statistics = gm.distributed.all_reduce(statistics)
    torch.manual_seed(gm.distributed.rank())  # the state of process 0 is taken
    gm.distributed.apply(
        structure,
        PLAN if gm.distributed.is_main() else None,
        followers=[optimizer, mas, statistics],
        reconstruct=statistics,
    )
    if wrapped:
        assert isinstance(model, DistributedDataParallel)
        model = gm.distributed.rewrap(model)
        assert model.gradient_as_bucket_view
    train(model, optimizer, 4, mas)
    state = [optimizer.state[p] for p in net.parameters()]
    return {
        "parameters": [p.detach() for p in net.parameters()],
        "optimizer": [each[name] for each in state for name in ("exp_avg", "exp_avg_sq", "step")],
        "omega": list(mas.omega.values()),
        "moments": [each.scatter for each in statistics.moments.values()],
        "gradients": [p.grad for p in net.parameters()],
    }


def message(error: type[Exception], call: Any) -> str:
    try:
        call()
    except error as found:
        return str(found)
    return "nothing"


def refusals() -> dict[str, str]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

    rank = gm.distributed.rank()
    net = network()
    structure = gm.Structure(net, X[:2])
    other = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    nn.init.constant_(other[0].weight, float(rank))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.6 on random numbers of a CPU
        mesh = init_device_mesh("cpu", (2,))
        divided = parallelize_module(network(), mesh, {"0": ColwiseParallel()})
    found = {
        "no plan": message(PlanError, lambda: gm.distributed.apply(structure, None)),
        "unknown group": message(
            PlanError, lambda: gm.distributed.apply(structure, gm.Plan(grow={"fc": 2}))
        ),
        "other network": message(
            RunError,
            lambda: gm.distributed.apply(gm.Structure(other, X[:2]), gm.Plan(grow={"0": 2})),
        ),
        "tensor parallel": message(SurgeryError, lambda: gm.Structure(divided, X[:2])),
        "wrapper": message(SurgeryError, lambda: gm.Structure(DistributedDataParallel(net), X[:2])),
    }
    try:
        from torch.distributed.fsdp import fully_shard

        sharded = fully_shard(network(), mesh=init_device_mesh("cpu", (2,)))
        found["fsdp"] = message(SurgeryError, lambda: gm.distributed.unwrap(sharded))
    except (ImportError, RuntimeError, NotImplementedError):
        found["fsdp"] = ""
    return found


def norms() -> nn.BatchNorm1d:
    """The running statistics of a batch that is not shared evenly."""
    norm = nn.BatchNorm1d(6)
    rows = gm.distributed.own_rows(X[:7])
    norm(rows)
    gm.distributed.average_norms(norm, len(rows) / 7)
    return norm


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        found = {"loop": loop(wrapped=True), "refusals": refusals()}
        found["norms"] = norms().state_dict()
        torch.save(found, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("processes")
    mp.start_processes(worker, args=(str(folder),), nprocs=2, start_method="fork")
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]


def test_an_edit_in_two_processes_is_that_of_one(found: list[dict[str, Any]]) -> None:
    wanted = loop(wrapped=False)
    for name, tensors in wanted.items():
        ours = [each["loop"][name] for each in found]
        for one, two, want in zip(*ours, tensors, strict=True):
            assert torch.equal(one, two), name
            torch.testing.assert_close(one, want, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: n + m)


def test_running_statistics_of_norms_are_averaged(found: list[dict[str, Any]]) -> None:
    one, two = (each["norms"] for each in found)
    assert torch.equal(one["running_mean"], two["running_mean"])
    assert torch.equal(one["running_var"], two["running_var"])
    torch.testing.assert_close(one["running_mean"], norms().running_mean)


MESSAGES = {
    "no plan": "process 0 has no plan",
    "unknown group": "'fc'",
    "other network": "the networks of process 0 and process 1 differ in '0.weight'",
    "tensor parallel": "'0.weight' is a DTensor (tensor parallel, or fully_shard)",
    "wrapper": "is wrapped in DistributedDataParallel",
    "fsdp": "full_state_dict=True",
}


@pytest.mark.parametrize("case", MESSAGES)
def test_a_mistake_is_refused_in_every_process(found: list[dict[str, Any]], case: str) -> None:
    for part in found:
        if case == "fsdp" and not part["refusals"][case]:
            pytest.skip("this torch does not shard on the CPU")
        assert MESSAGES[case] in part["refusals"][case]


def test_without_a_process_group_everything_is_local() -> None:
    net = network()
    total = gm.importance_sum(net, [X])
    assert gm.distributed.all_reduce(total) is total
    mean = gm.distributed.all_reduce(total.importance(), samples=24)
    assert torch.allclose(mean["0.weight"], total.importance()["0.weight"])
    assert gm.distributed.own_rows(X) is X
    assert (gm.distributed.rank(), gm.distributed.size(), gm.distributed.is_main()) == (0, 1, True)
    assert gm.distributed.together(lambda: 3) == 3


WRONG = {
    "a mean without its count": (ImportanceError, lambda: gm.distributed.all_reduce({"a": X})),
    "a list": (ImportanceError, lambda: gm.distributed.all_reduce([X])),
    "no wrapper": (SurgeryError, lambda: gm.distributed.rewrap(network())),
    "no module": (SurgeryError, lambda: gm.distributed.unwrap("net")),
    "no plan": (PlanError, lambda: gm.distributed.apply(gm.Structure(network(), X[:2]), "grow")),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_one_message(case: str) -> None:
    error, call = WRONG[case]
    with pytest.raises(error, match=r"expected|give"):
        call()


def test_processes_that_torchrun_did_not_begin_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with (
        pytest.raises(RunError, match=r"RANK.* torchrun --nproc-per-node 2 -m growmas run"),
        gm.distributed.process_group(),
    ):
        pass
