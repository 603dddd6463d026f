"""The warm-up of fresh entries, against an optimizer that is as young as they are."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

import growmas as gm
from growmas.errors import SurgeryError
from growmas.structure.followers import young

KINDS: dict[str, Any] = {
    "Adam": lambda p: optim.Adam(p, lr=0.01),
    "weight decay": lambda p: optim.Adam(p, lr=0.01, weight_decay=0.1, eps=1e-3),
    "amsgrad": lambda p: optim.Adam(p, lr=0.01, amsgrad=True, betas=(0.8, 0.99)),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.3),
    "AdamW, amsgrad, foreach": lambda p: optim.AdamW(p, lr=0.01, amsgrad=True, foreach=True),
    "fused": lambda p: optim.Adam(p, lr=0.01, fused=True),
}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 2), nn.Flatten(),
        nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, 3),
    ).double()  # fmt: skip


def gradients(parameters: list[Tensor], generator: torch.Generator) -> list[Tensor]:
    return [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]


def fresh_entries(structure: Any, edit: gm.Edit) -> dict[str, Tensor]:
    """Parameter name -> mask of the entries that an edit made, axis by axis."""
    found = {}
    for name, parameter in structure.model.named_parameters():
        mask = torch.zeros(parameter.shape, dtype=torch.bool)
        for change in edit.changes.get(name, ()):
            mask.index_fill_(change.dim, change.fresh, True)
        found[name] = mask
    return found


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_fresh_entries_move_as_under_a_fresh_optimizer(make: Any):
    """The slow twin: an optimizer made at the birth, given the same gradients and values."""
    net, x = network(), torch.rand(4, 2, 5, 5).double()
    structure = gm.Structure(net, x)
    optimizer = make(net.parameters())
    warmup, generator = gm.Warmup(net, optimizer), torch.Generator().manual_seed(0)
    for _ in range(40):
        for parameter, gradient in zip(
            net.parameters(), gradients([*net.parameters()], generator), strict=True
        ):
            parameter.grad = gradient
        optimizer.step()
    plan = gm.Plan(grow=dict.fromkeys(structure.groups, 2))
    edit = structure.apply(plan, followers=[optimizer, warmup])
    fresh = fresh_entries(structure, edit)
    ours = dict(net.named_parameters())
    theirs = {n: nn.Parameter(p.detach().clone()) for n, p in ours.items()}
    twin = make(theirs.values())
    for _ in range(90):
        drawn = gradients([*ours.values()], generator)
        for mine, its, gradient in zip(ours.values(), theirs.values(), drawn, strict=True):
            mine.grad, its.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        twin.step()
        for name, mask in fresh.items():
            torch.testing.assert_close(ours[name][mask], theirs[name][mask], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["amsgrad", "AdamW"])
def test_tensors_that_numpy_cannot_read_are_corrected_by_torch(name: str, monkeypatch: Any):
    monkeypatch.setattr(young, "_library", lambda tensor: torch)
    test_fresh_entries_move_as_under_a_fresh_optimizer(KINDS[name])


def test_old_entries_move_as_without_a_warmup():
    moved = []
    for warm in (False, True):
        net, x = network(), torch.rand(4, 2, 5, 5).double()
        structure, optimizer = gm.Structure(net, x), optim.Adam(net.parameters(), lr=0.01)
        generator = torch.Generator().manual_seed(0)
        followers: list[Any] = [optimizer, *([gm.Warmup(net, optimizer)] if warm else [])]
        edit = None
        for step in range(160):
            if step == 20:
                edit = structure.apply(gm.Plan(grow={"0": 1, "5": 2}), followers=followers)
            for p, g in zip(
                net.parameters(), gradients([*net.parameters()], generator), strict=True
            ):
                p.grad = g
            optimizer.step()
        masks = fresh_entries(structure, edit)
        moved.append({n: p.detach()[~masks[n]] for n, p in net.named_parameters()})
    assert all(torch.equal(moved[0][name], moved[1][name]) for name in moved[0])


def test_an_entry_is_as_old_as_the_younger_of_its_row_and_its_column():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    net = net.double()
    structure = gm.Structure(net, torch.rand(2, 3).double())
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    warmup = gm.Warmup(net, optimizer)

    def steps(count: int) -> Tensor:
        for _ in range(count):
            before = net[2].weight.detach().clone()
            for parameter in net.parameters():
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
        return (before - net[2].weight.detach()) / 0.01

    steps(500)
    structure.apply(gm.Plan(grow={"0": 1}), followers=[optimizer, warmup])
    steps(30)
    structure.apply(gm.Plan(grow={"2": 1}), followers=[optimizer, warmup])
    torch.testing.assert_close(steps(1), torch.ones(6, 5).double(), rtol=0, atol=5e-5)
    torch.testing.assert_close(steps(99), torch.ones(6, 5).double(), rtol=0, atol=5e-5)
    assert warmup.born == {}
    torch.testing.assert_close(steps(1), torch.ones(6, 5).double(), rtol=0, atol=5e-5)
    torch.testing.assert_close(steps(900), torch.ones(6, 5).double(), rtol=0, atol=5e-5)


def test_heads_that_are_not_trained_do_not_grow_older():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(3, 4)
            self.heads = nn.ModuleList([nn.Linear(4, 2), nn.Linear(4, 2)])

        def forward(self, x: Tensor) -> list[Tensor]:
            return [head(self.body(x).relu()) for head in self.heads]

    net = Two().double()
    structure = gm.Structure(net, torch.rand(2, 3).double())
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    warmup = gm.Warmup(net, optimizer)

    def steps(count: int, head: int) -> list[Tensor]:
        for _ in range(count):
            before = [h.weight.detach().clone() for h in net.heads]
            optimizer.zero_grad()
            for p in (*net.body.parameters(), *net.heads[head].parameters()):
                p.grad = torch.ones_like(p)
            optimizer.step()
        return [(b - h.weight.detach()) / 0.01 for b, h in zip(before, net.heads, strict=True)]

    steps(300, 0)
    steps(300, 1)
    structure.apply(gm.Plan(grow={"body": 2}), followers=[optimizer, warmup])
    one = torch.ones(2, 6).double()
    for count, head in ((3, 0), (20, 1), (90, 0), (85, 1), (50, 0)):
        moved = steps(count, head)
        torch.testing.assert_close(moved[head], one, rtol=0, atol=5e-5)
        assert not moved[1 - head].any()
    assert warmup.born == {}


def test_a_state_of_another_network_is_refused():
    net = nn.Linear(3, 2)
    warmup = gm.Warmup(net, optim.Adam(net.parameters()))
    for state in ({"other": {0: torch.zeros(2)}}, {"weight": {0: torch.zeros(3)}}):
        with pytest.raises(SurgeryError, match="of another network"):
            warmup.load_state_dict(state)
    warmup.load_state_dict({"weight": {"0": torch.zeros(2)}})
