import copy

import pytest
import torch
import torch_pruning as tp
from torch import nn

import growmas as gm
from growmas.errors import PenaltyError


def mlp():
    return nn.Sequential(
        nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 3)
    ), torch.rand(32, 6)


def convnet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 2),
    ), torch.rand(16, 1, 8, 8)  # fmt: skip


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.inner = nn.Linear(6, 9), nn.Linear(9, 7)
        self.back, self.head = nn.Linear(7, 9), nn.Linear(9, 3)

    def forward(self, x):
        stream = self.stem(x).relu()
        return self.head((stream + self.back(self.inner(stream).relu())).relu())


def residual():
    return Residual(), torch.rand(32, 6)


def pruner(net, x, importance, **options):
    last = list(net.modules())[-1]
    return tp.pruner.BasePruner(net, x, importance, ignored_layers=[last], **options)


@pytest.mark.parametrize("which", ["out", "in", "both"])
@pytest.mark.parametrize("build", [mlp, convnet, residual])
def test_scores_are_the_structures_saliency(build, which):
    torch.manual_seed(0)
    net, x = build()
    omega = gm.mas_importance(net, [x])
    expected = gm.Structure(net, x).saliency(omega, which=which)
    importance = gm.MASPruningImportance(omega, which=which)
    graph = tp.DependencyGraph().build_dependency(net, x)
    seen = 0
    for name, module in net.named_modules():
        if name in expected:
            width = module.weight.shape[0]
            fn = graph.get_pruner_of_module(module).prune_out_channels
            scores = importance(graph.get_pruning_group(module, fn, list(range(width))))
            torch.testing.assert_close(scores, expected[name])
            seen += 1
    assert seen == len(expected)


@pytest.mark.parametrize("build", [mlp, convnet, residual])
def test_drives_a_real_pruner_to_what_the_plan_would_give(build):
    torch.manual_seed(0)
    net, x = build()
    omega = gm.mas_importance(net, [x])
    structure = gm.Structure(net, x)
    saliency = structure.saliency(omega)
    prune = {
        name: [group.unit_ids[i] for i in saliency[name].argsort()[: group.width // 2].tolist()]
        for name, group in structure.groups.items()
    }
    other = gm.Structure(copy.deepcopy(net), x)
    other.apply(gm.Plan(prune=prune))
    ratios = {
        net.get_submodule(n): len(ids) / structure.groups[n].width for n, ids in prune.items()
    }
    pruner(net, x, gm.MASPruningImportance(omega), pruning_ratio=0.5,
           pruning_ratio_dict=ratios).step()  # fmt: skip
    torch.testing.assert_close(net.eval()(x), other.model.eval()(x))


def test_global_pruning_compares_groups_by_normalised_importance():
    net, x = convnet()
    importance = gm.MASPruningImportance(gm.mas_importance(net, [x]), normalize="mean")
    before = sum(p.numel() for p in net.parameters())
    pruner(net, x, importance, pruning_ratio=0.4, global_pruning=True).step()
    assert sum(p.numel() for p in net.parameters()) < before
    assert net(x).shape == (16, 2)


def test_several_steps_need_importance_measured_anew():
    net, x = mlp()
    fixed = pruner(net, x, gm.MASPruningImportance(gm.mas_importance(net, [x])),
                   pruning_ratio=0.5, iterative_steps=2)  # fmt: skip
    fixed.step()
    with pytest.raises(PenaltyError, match=r"omega of '0.weight' has shape .*give|takes a"):
        fixed.step()
    net, x = mlp()
    calls = []

    def measure():
        calls.append(net[0].out_features)
        return gm.mas_importance(net, [x])

    anew = pruner(net, x, gm.MASPruningImportance(measure), pruning_ratio=0.5, iterative_steps=2)
    anew.step()
    anew.step()
    assert net[0].out_features == 5
    assert calls == [10, 7]


def test_mistakes_are_named():
    net, x = mlp()
    with pytest.raises(PenaltyError, match="criterion='no' is not known"):
        gm.MASPruningImportance({}, criterion="no")
    with pytest.raises(PenaltyError, match="omega has no entry for the weights of"):
        pruner(net, x, gm.MASPruningImportance({}), pruning_ratio=0.5).step()
