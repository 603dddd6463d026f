"""Repair through norms, residual sums and rectifiers."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import growmas as gm
from growmas.errors import DataError
from growmas.structure.reconstruction.endings import endings
from growmas.structure.reconstruction.fitting import free_beyond


def data(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Block(nn.Module):
    def __init__(self, width, *, shortcut=False, inplace=False):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.short = nn.Conv2d(width, width, 1) if shortcut else nn.Identity()
        self.inplace = inplace

    def forward(self, x):
        branch = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.inplace:
            branch += self.short(x)
            return F.relu_(branch)
        return F.relu(branch + self.short(x))


class Residual(nn.Module):
    def __init__(self, width=12, **options):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(*[Block(width, **options) for _ in range(3)])
        self.head = nn.Linear(width, 5)

    def forward(self, x):
        return self.head(self.blocks(F.relu(self.norm(self.stem(x)))).mean((2, 3)))


def lively(build=Residual, **options):
    """A network whose norms have statistics of data, and gains of many sizes."""
    torch.manual_seed(0)
    net = build(**options)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(torch.rand_like(module.weight) + 0.3)
                module.bias.copy_(torch.randn_like(module.bias) * 0.3)
        net.train()
        for seed in range(30):
            net(images(seed=seed))
    return net.eval()


def images(count=64, seed=0):
    """Images with structure: mixtures of few patterns."""
    patterns = data(8, 3 * 8 * 8, seed=99)
    return (data(count, 8, seed=seed) @ patterns).reshape(count, 3, 8, 8) / 3


def layers(net):
    return {n: m for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


def off(net, before, x):
    with torch.no_grad():
        return float((net(x) - before(x)).norm() / before(x).norm())


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("shortcut", [False, True])
def test_what_follows_a_layer_is_found(inplace, shortcut):
    net = lively(shortcut=shortcut, inplace=inplace)
    found = endings(layers(net), lambda: net(images(2)))
    for index, block in enumerate(net.blocks):
        first, last = found[f"blocks.{index}.conv1"], found[f"blocks.{index}.conv2"]
        assert first.norm.weight is block.bn1.weight
        assert (first.summed, first.bounds) == (False, (0.0, None))
        assert last.norm.var is block.bn2.running_var
        assert (last.summed, last.bounds) == (True, (0.0, None))
        if shortcut:
            assert not found[f"blocks.{index}.short"].summed  # only the deeper one corrects
            assert f"blocks.{index}.short" in last.skip
    assert found["head"].norm is None


def test_what_others_read_too_is_not_an_ending():
    class Read(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)
            self.twice = nn.Conv2d(2, 2, 1)

        def forward(self, x):
            y = self.conv(x)
            return self.twice(self.twice(self.norm(y) + y.mean()))

    net = Read().eval()
    found = endings(layers(net), lambda: net(torch.rand(1, 1, 2, 2)))
    assert found["conv"].norm is None
    assert found["twice"].bounds == (None, None)


def test_beyond_a_bound_any_prediction_beyond_it_is_right():
    wanted, predicted = torch.tensor([1.0, -1, -1, 7, 7]), torch.tensor([5.0, -3, 2, 8, 5])
    assert free_beyond(wanted, predicted, (0.0, 6.0)).tolist() == [1.0, -3.0, 0.0, 8.0, 6.0]


@pytest.mark.parametrize("options", [{}, {"shortcut": True}, {"inplace": True}])
def test_a_residual_network_keeps_its_function(options):
    net = lively(**options)
    x, fresh, before = images(400, seed=5), images(100, seed=6), copy.deepcopy(net)
    structure = gm.Structure(net, x[:4])
    plan = structure.select([x[:200], x[200:]], ratio=0.34)
    cut = gm.Structure(copy.deepcopy(net), x[:4])
    cut.apply(plan)
    edit = structure.apply(plan, reconstruct=[x[:200], x[200:]])
    assert off(net, before, fresh) < 0.4 * off(cut.model, before, fresh)
    for name, correction in edit.corrections.items():  # survivors change by what is stated only
        now = {**dict(net.named_parameters()), **dict(net.named_buffers())}[name]
        was = {**dict(cut.model.named_parameters()), **dict(cut.model.named_buffers())}[name]
        torch.testing.assert_close(now, was + correction, rtol=1e-5, atol=1e-6)
    assert {"blocks.0.bn1.running_var", "blocks.0.bn2.weight"} <= set(edit.corrections)


def test_train_mode_agrees_with_eval_mode_after_a_repair():
    net, x = lively(), images(600, seed=5)
    structure = gm.Structure(net, x[:4])
    structure.apply(structure.select([x], ratio=0.34), reconstruct=[x])
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)][1:]
    for norm in norms:
        seen = []
        hook = norm.register_forward_pre_hook(lambda module, args, seen=seen: seen.append(args[0]))
        with torch.no_grad():
            net(x)
        hook.remove()
        torch.testing.assert_close(seen[0].mean((0, 2, 3)), norm.running_mean, rtol=0.1, atol=0.1)
        torch.testing.assert_close(seen[0].var((0, 2, 3)), norm.running_var, rtol=0.15, atol=0.02)


def test_a_repaired_residual_branch_makes_up_for_the_skip():
    """A branch whose units say what the skip lost is fitted to give it back."""
    net, x = lively(), images(400, seed=5)
    before = copy.deepcopy(net)
    structure = gm.Structure(net, x[:4])
    stream = next(g for g in structure.groups.values() if "stem" in g.layers)
    plan = structure.select([x], ratio={stream.name: 0.34})
    structure.apply(plan, reconstruct=[x])
    assert off(net, before, images(100, seed=6)) < 0.35


def test_statistics_are_refused_where_errors_add_up():
    net, x = lively(), images(400, seed=5)
    structure = gm.Structure(net, x[:4])
    statistics = gm.ActivationStatistics(structure, tolerance=0.01)
    statistics.update([x])
    state = copy.deepcopy(net.state_dict())
    plan = structure.select(statistics, ratio=0.5)
    with pytest.raises(DataError, match=r"residual stream 'stem' would be off by \d+\.\d%"):
        structure.apply(plan, reconstruct=statistics)
    for name, value in net.state_dict().items():
        assert torch.equal(value, state[name])
    bearing = gm.ActivationStatistics(structure, tolerance=10)
    bearing.update([x])
    structure.apply(plan, reconstruct=bearing)


def test_moving_averages_and_views_of_tasks_stay_finite():
    net, x = lively(), images(300, seed=5)
    average = torch.optim.swa_utils.AveragedModel(net, use_buffers=True)
    with torch.no_grad():
        for name, buffer in average.module.named_buffers():
            if name.endswith("running_var"):
                buffer.mul_(0.05)
    structure = gm.Structure(net, x[:4])
    plan = structure.select([x], ratio=0.5)
    structure.apply(plan, reconstruct=[x], followers=[average])
    for name, buffer in average.module.named_buffers():
        assert not name.endswith("running_var") or (buffer > 0).all()
    kept = lively()
    structure = gm.Structure(kept, x[:4])
    structure.begin_task("a")
    structure.remember_norms(affine=True)
    structure.begin_task("b")
    variances = {n: b.clone() for n, b in kept.named_buffers() if n.endswith("running_var")}
    edit = structure.apply(structure.select([x], ratio=0.34), reconstruct=[x])
    for name, buffer in kept.named_buffers():  # views have statistics of their own: none moves
        if name in variances:
            assert torch.equal(buffer, edit.reindex(name, variances[name]))
    with structure.view(0), torch.no_grad():
        assert kept(x).isfinite().all()


def test_rows_are_drawn_alike_before_and_after(monkeypatch):
    monkeypatch.setattr("growmas.structure.reconstruction.recording.ROWS", 50)
    net, x = lively(), images(100, seed=5)
    before = copy.deepcopy(net)
    structure = gm.Structure(net, x[:4])
    plan = structure.select([x], ratio=0.2)
    structure.apply(plan, reconstruct=[x[:60], x[60:]])
    assert off(net, before, x) < 1.0


def test_the_order_of_a_shuffling_loader_does_not_matter():
    net, x = lively(), images(200, seed=5)
    loader = torch.utils.data.DataLoader(x, batch_size=50, shuffle=True)
    before = copy.deepcopy(net)
    structure = gm.Structure(net, x[:4])
    structure.apply(structure.select([x], ratio=0.34), reconstruct=loader)
    assert off(net, before, images(100, seed=6)) < 0.6
