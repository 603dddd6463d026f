"""Optimizers that were not told of an edit are named when they next step."""

import warnings

import pytest
import torch

from growmas import Plan, Structure
from growmas.errors import GrowmasWarning, SurgeryError


def network() -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    return net, torch.rand(5, 4)


def step(net: torch.nn.Module, x: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    net(x).sum().backward()
    optimizer.step()


def test_a_forgotten_optimizer_is_named_once_for_each_edit() -> None:
    net, x = network()
    structure, optimizer = Structure(net, x), torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        structure.apply(Plan(grow={"0": 1}))
        with pytest.warns(GrowmasWarning, match=r"SGD still holds 3 parameters .*'0.weight'"):
            step(net, x, optimizer)
        step(net, x, optimizer)


def test_followers_new_optimizers_and_others_are_left_alone() -> None:
    net, x = network()
    other = torch.nn.Linear(4, 2)
    optimizer, apart = (torch.optim.Adam(m.parameters()) for m in (net, other))
    structure = Structure(net, x)
    structure.apply(Plan(grow={"0": 1}), followers=[optimizer])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(net, x, optimizer)
        step(other, x, apart)
        step(net, x, torch.optim.SGD(net.parameters(), lr=0.1))


def test_an_edit_that_was_rolled_back_replaces_nothing() -> None:
    net, x = network()
    structure, optimizer = Structure(net, x), torch.optim.SGD(net.parameters(), lr=0.1)

    class Fails:
        def follow(self, edit: object) -> None:
            raise SurgeryError("no")

    with pytest.raises(SurgeryError, match="no"):
        structure.apply(Plan(grow={"0": 1}), followers=[Fails()])
    structure.dry_run(Plan(grow={"0": 1}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(net, x, optimizer)
