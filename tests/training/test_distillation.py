"""Distillation: the student comes closer, and nothing else moves."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader

import growmas as gm
from growmas.errors import DataError


def net(seed=0, norm=False):
    torch.manual_seed(seed)
    middle = [nn.BatchNorm1d(16)] if norm else []
    return nn.Sequential(nn.Linear(6, 16), *middle, nn.ReLU(), nn.Linear(16, 4))


def batches(count=4, size=32):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, 6, generator=generator) for _ in range(count)]


def test_a_student_comes_closer_and_the_teacher_stays():
    teacher, student = net(1, norm=True).train(), net(2, norm=True).eval()
    state = copy.deepcopy(teacher.state_dict())
    steps = []
    run = gm.distil(
        student, teacher, batches(), steps=200, progress=lambda step, loss: steps.append(step)
    )
    assert sum(run.losses[-10:]) < 0.2 * sum(run.losses[:10])
    assert steps == list(range(1, 201))
    assert all(torch.equal(value, state[name]) for name, value in teacher.state_dict().items())
    assert teacher.training
    assert not student.training


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
def test_any_optimizer_makes_the_steps(make):
    student = net(2)
    optimizer = make(student.parameters(), lr=0.05)
    run = gm.distil(student, net(1), batches(), steps=50, optimizer=optimizer, loss="mse")
    assert run.losses[-1] < run.losses[0]
    assert optimizer.param_groups[0]["lr"] == 0.05


def test_the_rate_rises_for_a_tenth_of_the_steps_and_falls_to_zero():
    rates = []
    hook = register_optimizer_step_pre_hook(lambda o, *_: rates.append(o.param_groups[0]["lr"]))
    try:
        gm.distil(net(2), net(1), batches(), steps=100, lr=0.01)
        gm.distil(net(2), net(1), batches(), steps=1, lr=0.01)
    finally:
        hook.remove()
    rates, (alone,) = rates[:100], rates[100:]
    assert rates[0] < 0.0011
    assert max(range(100), key=rates.__getitem__) == 9
    assert 0.009 < max(rates) < 0.01
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] < 0.0001
    assert alone == 0.01


def test_penalty_and_protection_hold():
    student, x = net(2), batches()
    mas = gm.MAS(student, strength=1e6)
    mas.consolidate(x)
    before = student[0].weight.detach().clone()
    gm.distil(student, net(1), x, steps=20, mas=mas)
    bound = float((student[0].weight - before).detach().abs().max())
    free = net(2)
    gm.distil(free, net(1), x, steps=20)
    assert bound < 0.5 * float((free[0].weight - before).detach().abs().max())
    protect = gm.HardProtection(student, fraction=0.5)
    protect.freeze(mas.omega)
    held = protect.frozen["0.weight"]
    before = student[0].weight.detach().clone()
    gm.distil(student, net(1), x, steps=20, protect=protect)
    assert torch.equal(student[0].weight[held], before[held])
    assert not torch.equal(student[0].weight, before)


def test_it_polishes_an_edit():
    model, x = net(3), batches()
    teacher, structure = copy.deepcopy(model), gm.Structure(model, x[0])
    structure.apply(structure.select(x, ratio=0.75), reconstruct=x)
    run = gm.distil(structure, teacher, x, steps=60)
    assert sum(run.losses[-4:]) < sum(run.losses[:4])  # the four batches, each once


def test_bad_input_is_refused_in_words():
    student, x = net(2), batches()
    cases = [
        ("other outputs|of the shapes", student, nn.Linear(6, 7), x, {}),
        ("the network itself", student, student, x, {}),
        ("expected another network", student, None, x, {}),
        ("no sample", student, net(1), [], {}),
        ("is a Tensor", student, net(1), x[0], {}),
        ("one sample", net(2, norm=True), net(1, norm=True), [x[0][:1]], {}),
        ("steps=0", student, net(1), x, {"steps": 0}),
        ("temperature=0", student, net(1), x, {"temperature": 0}),
        ("loss='ce'", student, net(1), x, {"loss": "ce"}),
        ("outputs are NaN", student, net(1), [x[0] * torch.nan], {}),
        ("temperature='2'", student, net(1), x, {"temperature": "2"}),
        ("lr=-1", student, net(1), x, {"lr": -1}),
        ("optimizer='adam': expected an opt", student, net(1), x, {"optimizer": "adam"}),
        ("mas=1.0: expected a growmas.MAS", student, net(1), x, {"mas": 1.0}),
        ("protect=0.5: expected a growmas.Hard", student, net(1), x, {"protect": 0.5}),
        ("progress=True: expected a function", student, net(1), x, {"progress": True}),
        ("holds no parameter", student, net(1), x, {"optimizer": SGD(net(1).parameters(), 0.1)}),
        ("no parameter of the network learns", net(2).requires_grad_(False), net(1), x, {}),
        ("pass loss='mse'", nn.Linear(6, 1), nn.Linear(6, 1), x, {}),
        ("does not go through", student, net(1), [x[0][:, :3]], {}),
    ]
    for words, model, teacher, data, options in cases:
        with pytest.raises(DataError, match=words):
            gm.distil(model, teacher, data, **options)


@pytest.mark.parametrize("bad", ["data", "teacher"])
def test_bad_data_leave_the_running_statistics_alone(bad):
    student, teacher, x = net(2, norm=True), net(1, norm=True), batches()
    if bad == "teacher":
        teacher[0].weight.data[0, 0] = torch.nan
    before = {name: each.clone() for name, each in student.state_dict().items()}
    with pytest.raises(DataError, match="outputs are NaN"):
        gm.distil(student, teacher, [x[0] * (torch.nan if bad == "data" else 1.0)])
    for name, each in student.state_dict().items():
        assert torch.equal(each, before[name]), name


class Counted(nn.Module):
    """Network that counts its forward passes."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.passes = inner, []

    def forward(self, x):
        self.passes.append(len(x))
        return self.inner(x)


def test_the_teacher_answers_each_batch_of_a_list_once(monkeypatch):
    found = []
    for data, forward in (
        (batches(), None),
        (batches(), lambda model, x: model(x)),
        (DataLoader(torch.cat(batches()), 32), None),
    ):
        student, teacher = net(2), Counted(net(1))
        generator = torch.Generator().manual_seed(0)
        gm.distil(student, teacher, data, steps=12, forward=forward, generator=generator)
        found.append((len(teacher.passes), student[0].weight.detach()))
    assert [passes for passes, _ in found] == [4, 12, 12]
    assert torch.equal(found[0][1], found[1][1])
    monkeypatch.setattr("growmas.training.distillation._REMEMBERED", 2 * 32 * 4)
    teacher = Counted(net(1))
    gm.distil(net(2), teacher, batches(), steps=12)
    assert len(teacher.passes) == 2 + 2 * 3  # two of the four are kept


def test_a_small_batch_is_refused_before_the_first_step():
    student, x = net(2, norm=True), batches()
    before = student[0].weight.detach().clone()
    with pytest.raises(DataError, match="one sample"):
        gm.distil(student, net(1, norm=True), [*x, x[0][:1]])
    assert torch.equal(student[0].weight, before)


def test_the_classes_of_maps_lie_along_the_second_axis():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 5, 4, 3, generator=generator)

    class Map(nn.Module):
        def __init__(self, shift):
            super().__init__()
            self.shift = nn.Parameter(shift)

        def forward(self, x):
            return x + self.shift

    zero = torch.zeros(1, 5, 4, 3)
    same = Map(zero + torch.randn(1, 1, 4, 3, generator=generator))  # the same for all classes
    other = Map(zero + torch.randn(1, 5, 1, 1, generator=generator))
    for student, known in ((same, True), (other, False)):
        (loss,) = gm.distil(student, Map(zero), [maps], steps=1).losses
        assert (loss < 1e-6) is known
    sequences = Map(torch.randn(1, 5, 1, generator=generator))  # [N, tokens, classes]
    (loss,) = gm.distil(sequences, Map(torch.zeros(1, 5, 1)), [maps[..., 0]], steps=1).losses
    assert loss < 1e-6
