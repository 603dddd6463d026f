"""One shared head that grows: new classes get rows, old logits stay."""

import copy
from typing import Any

import pytest
import snapshots
import torch
import torch.nn.functional as F
from cases import CONVNET, MLP
from torch import Tensor, nn

from growmas import (
    MAS,
    ActivationStatistics,
    GrowmasError,
    Plan,
    Structure,
    TopologyHistory,
    TopologyTracker,
    Warmup,
    answer_by_view,
    mas_importance,
)
from growmas.errors import PlanError, SurgeryError

HEADS = {"mlp": (MLP, "4"), "convnet": (CONVNET, "9")}
by_name = pytest.mark.parametrize(("case", "head"), HEADS.values(), ids=HEADS)


def outputs(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, classes: int) -> None:
    y = torch.arange(len(x)) % classes
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


@by_name
@pytest.mark.parametrize("init", ["zero", "uniform"])
def test_old_logits_stay_and_new_ones_start_as_told(case: Any, head: str, init: str) -> None:
    structure, x = Structure(case.model().eval(), case.inputs(3)), case.inputs(5)
    before, layer = outputs(structure.model, x), structure.model.get_submodule(head)
    rows = layer.weight.detach().clone()
    edit = structure.grow_head(head, 2, init=init, bias=-4.0)
    after = outputs(structure.model, x)
    torch.testing.assert_close(after[:, :3], before)
    assert torch.equal(layer.weight[:3], rows)
    assert layer.out_features == 5
    assert (layer.bias[3:] == -4).all()
    assert bool(layer.weight[3:].any()) == (init == "uniform")
    if init == "zero":
        assert (after[:, 3:] == -4).all()
    assert edit.reason == f"2 classes added to {head!r}"
    assert structure.heads[head].births == (0,) * 5
    assert not edit.born
    structure.grow_head(head, 1)
    assert structure.heads[head].unit_ids == tuple(range(6))
    assert (layer.bias[5:] == 0).all()


def test_everything_follows() -> None:
    structure, x = Structure(MLP.model(), MLP.inputs(3)), MLP.inputs(12)
    model = structure.model
    optimizer, mas = torch.optim.Adam(model.parameters(), lr=0.01), MAS(model)
    statistics, warmup = ActivationStatistics(structure), Warmup(model, optimizer)
    average = torch.optim.swa_utils.AveragedModel(model)
    train(model, optimizer, x, 3)
    mas.consolidate([x])
    statistics.update([x])
    moments = {name: held.scatter.clone() for name, held in statistics.moments.items()}
    state = optimizer.state[model[4].weight]["exp_avg"].clone()
    omega, anchor = mas.omega["4.weight"].clone(), mas.anchor["4.weight"].clone()
    structure.grow_head("4", 2, followers=[optimizer, mas, statistics, warmup, average])
    moved = optimizer.state[model[4].weight]["exp_avg"]
    assert torch.equal(moved[:3], state)
    assert not moved[3:].any()
    assert torch.equal(mas.omega["4.weight"][:3], omega)
    assert not mas.omega["4.weight"][3:].any()
    assert torch.equal(mas.anchor["4.weight"][:3], anchor)
    assert float(mas.penalty().detach()) == 0
    assert {n: bool(torch.equal(h.scatter, moments[n])) for n, h in statistics.moments.items()} == {
        "2": True,
        "4": True,
    }
    assert average.module[4].weight.shape == (5, 5)
    before = model[4].weight.detach().clone()
    train(model, optimizer, x, 5)
    assert (model[4].weight[3:] != before[3:]).any(1).all(), "fresh rows learn"


def test_views_give_the_classes_of_then() -> None:
    structure, x = Structure(MLP.model(), MLP.inputs(3)), MLP.inputs(6)
    structure.begin_task("a")
    old = outputs(structure.model, x)
    structure.begin_task("b")
    structure.apply(Plan(grow={"2": 3}))
    structure.grow_head("4", 2, init="uniform")
    structure.begin_task("c")
    structure.grow_head("4", 1, init="uniform")
    structure.apply(Plan(grow={"2": 1}))
    for task, classes in (("a", 3), ("b", 5), ("c", 6)):
        slim = structure.extract(task)
        with structure.view(task) as model:
            found = outputs(model, x)
        torch.testing.assert_close(found, outputs(slim, x), rtol=1e-5, atol=1e-5)
        assert found.shape == (6, classes)
        assert slim[4].out_features == classes
    with structure.view("c"), structure.view("a"):
        torch.testing.assert_close(outputs(structure.model, x), old)
    with structure.view("a"), structure.view("c"):
        assert outputs(structure.model, x).shape == (6, 3)
    assert outputs(structure.model, x).shape == (6, 6)
    mixed = answer_by_view(structure, torch.tensor([0, 1, 2, 0, 1, 2]), x)
    assert (mixed == -torch.inf).sum(1).tolist() == [3, 1, 0, 3, 1, 0]
    with structure.view("a"):
        structure.model(x).square().sum().backward()
    grad = structure.model[4].weight.grad
    assert grad[:3].any()
    assert not grad[3:].any()


def test_importance_in_a_view_is_that_of_the_extracted_network() -> None:
    structure, x = Structure(MLP.model(), MLP.inputs(3)), MLP.inputs(6)
    structure.begin_task("a")
    structure.begin_task("b")
    structure.grow_head("4", 2, init="uniform")
    with structure.view("a"):
        found = mas_importance(structure.model, [x])
    wanted = mas_importance(structure.extract("a"), [x])
    torch.testing.assert_close(found["4.weight"][:3], wanted["4.weight"])
    assert not found["4.weight"][3:].any()
    torch.testing.assert_close(found["0.weight"], wanted["0.weight"])


def test_surgery_and_checkpoints_of_a_head_that_grew() -> None:
    structure, x = Structure(MLP.model(), MLP.inputs(3)), MLP.inputs(6)
    structure.begin_task("a")
    structure.begin_task("b")
    structure.grow_head("4", 2)
    structure.apply(Plan(prune={"2": [0]}, grow={"2": 2, "0": 1}))
    fresh = Structure(MLP.model(seed=7), MLP.inputs(3))
    optimizer = torch.optim.SGD(fresh.model.parameters(), lr=0.1)
    swapped = fresh.load_state_dict(copy.deepcopy(structure.state_dict()))
    fresh.model.load_state_dict(structure.model.state_dict())
    given = optimizer.param_groups[0]["params"]
    assert {id(swapped.get(p, p)) for p in given} == {id(p) for p in fresh.model.parameters()}
    assert fresh.heads["4"].births == (0, 0, 0, 1, 1)
    for task in ("a", "b"):
        with structure.view(task), fresh.view(task):
            assert torch.equal(outputs(fresh.model, x), outputs(structure.model, x))
    for one in (structure, fresh):
        one.grow_head("4", 1)
    assert torch.equal(outputs(fresh.model, x), outputs(structure.model, x))


def test_the_history_hears_of_it(tmp_path: Any) -> None:
    structure = Structure(MLP.model(), MLP.inputs(3))
    with TopologyTracker(structure, tmp_path / "h.db") as tracker:
        structure.begin_task("a")
        structure.grow_head("4", 2)
        tracker.snapshot(omega=mas_importance(structure.model, [MLP.inputs(4)]))
    with TopologyHistory(tmp_path / "h.db") as history:
        widths = {layer.name: layer.out_width for layer in history.layers("a")}
        assert widths["4"] == 5


class Normalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.fc(x))).log_softmax(1)


class Fixed(Normalised):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.fc(x))).view(-1, 3)


class Summed(Normalised):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.fc(x))).sum(1)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.mid, self.head = nn.Linear(6, 4), nn.Linear(4, 6), nn.Linear(6, 4)
        self.head.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.mid(F.relu(self.first(x)))))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            Normalised,
            "with 2 more rows in 'head' old logits would move by .* let it return logits",
        ),
        (Fixed, r"with 2 more rows in 'head' the forward pass fails .* in view\(\)"),
        (Summed, "with 2 more rows in 'head' no output of the model is wider"),
        (Tied, "'head' cannot be a head that grows: its weight is tied to another layer's"),
    ],
)
def test_models_whose_old_logits_would_change_are_refused(model: Any, message: str) -> None:
    structure = Structure(model(), torch.randn(4, 6))
    before, random_state = snapshots.of_model(structure.model), snapshots.of_random_state()
    optimizer = torch.optim.SGD(structure.model.parameters(), lr=0.1)
    held = snapshots.of_optimizer(optimizer)
    with pytest.raises(GrowmasError, match=message):
        structure.grow_head("head", 2, followers=[optimizer], init="uniform")
    assert snapshots.of_model(structure.model) == before
    assert snapshots.of_random_state() == random_state
    assert snapshots.of_optimizer(optimizer) == held
    assert structure.heads == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", 2), "layer 'nowhere' does not exist in the model; its last Linear is '9'"),
        (("0", 2), r"'0' cannot be a head .* other layers read it: grow it with Plan\(grow="),
        (("1", 2), r"'1' cannot be a head that grows: other layers read it"),
        (("2", 2), "'2' cannot be a head that grows: register_layer tells"),
        (("9", 0), "classes=0: expected the number of classes to add to '9', 1 or more"),
        (("9", 1.5), r"classes=1.5: expected"),
        (("9", True), "classes=True: expected"),
        (("9", 1, {"init": "ones"}), "init='ones' is not known: expected 'zero', 'uniform'"),
        (("9", 1, {"bias": "low"}), "bias='low': expected a number, or None"),
        (("9", 1, {"followers": [3]}), "int cannot follow"),
    ],
)
def test_mistakes(arguments: Any, message: str) -> None:
    structure = Structure(CONVNET.model(), CONVNET.inputs(3))
    layer, classes, *options = arguments
    before = snapshots.of_model(structure.model)
    with pytest.raises((PlanError, SurgeryError), match=message):
        structure.grow_head(layer, classes, **(options[0] if options else {}))
    assert snapshots.of_model(structure.model) == before


def test_in_a_view_it_is_refused() -> None:
    structure = Structure(MLP.model(), MLP.inputs(3))
    with structure.view(0), pytest.raises(SurgeryError, match="inside a view"):
        structure.grow_head("4", 1)


def test_a_segmentation_head() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    x = torch.randn(2, 2, 5, 5)
    structure = Structure(model, x)
    structure.begin_task("a")
    structure.begin_task("b")
    before = outputs(model, x)
    structure.grow_head("2", 2, bias=1.0)
    torch.testing.assert_close(outputs(model, x)[:, :3], before)
    with structure.view("a"):
        torch.testing.assert_close(outputs(model, x), before)
