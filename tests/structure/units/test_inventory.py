"""The inventory of some layers: the same slots as that of the whole model, ties included."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import growmas as gm
from growmas.structure.units.groups import with_shared_positions
from growmas.structure.units.inventory import Inventory


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))


def tied_in_another_layer() -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4), nn.Linear(4, 6))
    net[3].weight = net[0].weight
    return net


def tied_in_one_layer() -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 6))
    net[0].again = net[0].weight
    return net


def tied_among_the_layers() -> nn.Module:
    net = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    net[1].bias = net[0].bias
    return net


def tied_as_a_buffer() -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.BatchNorm1d(6))
    net[2].running_mean = net[1].running_mean
    return net


def one_module_twice() -> nn.Module:
    layer = nn.Linear(6, 6)
    return nn.Sequential(layer, nn.ReLU(), layer)


class OfItsOwn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.gain = nn.Linear(4, 6), nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * self.gain


@pytest.mark.parametrize(
    ("build", "layers"),
    [
        (plain, ["0", "1"]),
        (tied_in_another_layer, ["0"]),
        (tied_in_another_layer, ["0", "3"]),
        (tied_in_one_layer, ["0"]),
        (tied_among_the_layers, ["0", "1"]),
        (tied_as_a_buffer, ["0", "1"]),
        (one_module_twice, ["0"]),
        (OfItsOwn, ["", "layer"]),
    ],
)
def test_some_layers_have_the_slots_that_the_whole_model_gives_them(
    build: Any, layers: list[str]
) -> None:
    model = build()
    whole, some = Inventory(model), Inventory(model, layers)
    for layer in layers:
        module = some.modules[layer]
        assert module is whole.modules[layer]
        for held in (module._parameters, module._buffers):
            for tensor in [each for each in held.values() if each is not None]:
                name = whole.names[id(tensor)]
                assert some.names[id(tensor)] == name
                assert some.tensors[name] is tensor
                assert some.slots[name] == whole.slots[name]
    assert some.modules[""] is model


def test_a_compiled_part_is_seen() -> None:
    model = plain()
    assert not Inventory(model, ["0"]).compiled
    model[2].compile(backend="eager")
    assert Inventory(model, ["0"]).compiled


def test_a_tie_made_after_the_structure_follows() -> None:
    net = nn.ModuleDict({"a": nn.Linear(4, 6), "b": nn.Linear(6, 2)})
    structure = gm.Structure(
        net, torch.rand(5, 4), forward=lambda net, x: net["b"](net["a"](x).relu())
    )
    net["spare"] = nn.Module()
    net["spare"].bias = net["a"].bias
    structure.apply(gm.Plan(grow={"a": 2}))
    assert net["spare"].bias is net["a"].bias
    assert len(net["a"].bias) == 8


@pytest.mark.parametrize("tied_to", ["parameter", "module", "wrapped"])
def test_a_tie_made_between_two_edits_follows(tied_to: str) -> None:
    net = nn.ModuleDict({"a": nn.Linear(4, 6), "b": nn.Linear(6, 2)})
    structure = gm.Structure(
        net, torch.rand(5, 4), forward=lambda net, x: net["b"](net["a"](x).relu())
    )
    structure.apply(gm.Plan(grow={"a": 2}))
    net["a"].bias = nn.Parameter(net["a"].bias.detach() + 1.0)  # a user's own, since the edit
    match tied_to:
        case "parameter":
            net["spare"] = nn.Linear(4, 8)
            net["spare"].bias = net["a"].bias
        case "module":
            net["spare"] = net["a"]
        case "wrapped":
            net["spare"] = nn.Sequential(nn.ModuleList([nn.Identity(), net["a"]]))
    before = net["a"].bias
    structure.apply(gm.Plan(grow={"a": 1}))
    holders = [m for m in net.modules() if "bias" in m._parameters and m is not net["b"]]
    assert all(m.bias is net["a"].bias for m in holders)
    assert torch.equal(net["a"].bias[:8], before)
    net["a"].bias = nn.Parameter(torch.zeros(9))  # no longer that of the other module
    structure.apply(gm.Plan(prune={"a": [0]}))
    assert torch.equal(net["a"].bias, torch.zeros(8))
    if tied_to == "parameter":
        assert len(net["spare"].bias) == 9


def test_modules_that_hold_each_other_are_walked_once() -> None:
    model = plain()
    model[2].whole = model
    model.register_module("nothing", None)
    assert Inventory(model, ["0"]).slots.keys() == {"0.weight", "0.bias"}


def test_equal_positions_are_one_object_and_stay_so() -> None:
    structure = gm.Structure(plain(), torch.rand(5, 4))
    for _ in range(2):
        positions = [member.positions for member in structure.groups["0"].members]
        assert len({id(each) for each in positions}) == 1
        structure.apply(gm.Plan(grow={"0": 2}, prune={"0": [structure.groups["0"].unit_ids[0]]}))
    group = structure.groups["0"]
    assert all(
        torch.equal(a.positions, b.positions)
        for a, b in zip(with_shared_positions(group).members, group.members, strict=True)
    )
