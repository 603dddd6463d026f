import copy
import operator

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import growmas as gm
from growmas.errors import DataError, PlanError, SurgeryError
from growmas.moments import Moments
from growmas.structure.reconstruction import reconstruction
from growmas.structure.reconstruction.consumers import consumers_of


def data(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(build):
    torch.manual_seed(0)
    return build().double().eval()


def mlp(bias=True):
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3, bias=bias))


def convnet(**options):
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 4, 3, **options),
    )  # fmt: skip


class Branches(nn.Module):
    """Two consumers of one group, one of them of a concatenation."""

    def __init__(self):
        super().__init__()
        self.stem, self.side = nn.Linear(6, 7), nn.Linear(6, 5)
        self.first, self.second = nn.Linear(7, 3), nn.Linear(12, 2)

    def forward(self, x):
        stem, side = self.stem(x).relu(), self.side(x).tanh()
        return self.first(stem), self.second(torch.cat([stem, side], -1))


def rows_of(layer, seen):
    """[rows, features] that multiply the flattened weight: slow and obvious."""
    if isinstance(layer, nn.Linear):
        return seen.reshape(-1, layer.in_features)
    patches = F.unfold(
        F.pad(seen, layer._reversed_padding_repeated_twice, mode="constant"),
        layer.kernel_size, dilation=layer.dilation, stride=layer.stride,
    )  # fmt: skip
    return patches.transpose(1, 2).flatten(0, 1)


def inputs_of(net, layer, x):
    seen = []
    handle = layer.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        net(x)
    handle.remove()
    return seen[0]


def reference(weight, old_bias, rows, kept):
    """Weights and bias that best give the layer's old output from the kept features, by lstsq.

    Ridge as further rows of data: √λ · (w − w_kept) = 0, after centring what a bias can take up.
    """
    outputs = rows @ weight.T
    seen = rows[:, kept]
    shift_in = seen.mean(0) if old_bias is not None else torch.zeros(len(kept)).double()
    shift_out = outputs.mean(0) if old_bias is not None else torch.zeros(len(weight)).double()
    ridge = reconstruction.RIDGE[0] + reconstruction.RIDGE[1] * (len(kept) / len(rows)) ** 2
    level = ridge * (seen - shift_in).square().sum(0).mean()
    design = torch.cat([seen - shift_in, level.sqrt() * torch.eye(len(kept)).double()])
    target = torch.cat([outputs - shift_out, level.sqrt() * weight[:, kept].T])
    solution = torch.linalg.lstsq(design, target).solution.T
    bias = None if old_bias is None else old_bias + shift_out - solution @ shift_in
    return solution, bias


@pytest.mark.parametrize("how", ["batches", "statistics"])
@pytest.mark.parametrize(
    ("build", "shape", "group", "consumer"),
    [
        (mlp, (6,), "0", "2"),
        (lambda: mlp(bias=False), (6,), "0", "2"),
        (mlp, (4, 6), "0", "2"),
        (convnet, (2, 10, 10), "0", "4"),
        (lambda: convnet(padding=1, stride=2, dilation=2, bias=False), (2, 10, 10), "0", "4"),
        (lambda: nn.Sequential(*convnet()[:4], nn.Flatten(), nn.Linear(96, 3)), (2, 10, 10), "0",
         "5"),
    ],
    ids=["mlp", "no bias", "positions", "conv", "conv with options", "flatten"],
)  # fmt: skip
def test_equals_least_squares_on_explicit_activations(build, shape, group, consumer, how):
    net, x = seeded(build), data(600, *shape)
    old = copy.deepcopy(net.get_submodule(consumer))
    rows = rows_of(old, inputs_of(net, net.get_submodule(consumer), x))
    structure = gm.Structure(net, x[:4])
    removed = [1, 4]
    per_unit = rows.shape[1] // structure.groups[group].width
    kept = [f for f in range(rows.shape[1]) if f // per_unit not in removed]
    batches = x.split(250)
    source = batches
    if how == "statistics":
        source = gm.ActivationStatistics(structure)
        source.update(batches)
    structure.apply(gm.Plan(prune={group: removed}), reconstruct=source)
    weight, bias = reference(old.weight.detach().flatten(1), old.bias, rows, kept)
    new = net.get_submodule(consumer)
    torch.testing.assert_close(new.weight.flatten(1), weight)
    if bias is not None:
        torch.testing.assert_close(new.bias, bias)


@pytest.mark.parametrize("rows", [4, 7, 200])
def test_the_ridge_is_larger_where_rows_are_few(rows):
    """ρ = 1e-5 + 0.1 (|K| / R)², written out: the reference above takes it from the module."""
    seen, weight, kept = data(rows, 9, seed=3), data(2, 9, seed=4), [0, 1, 3, 4, 5, 7, 8]
    gone = torch.zeros(2, 9).double()
    gone[:, [2, 6]] = weight[:, [2, 6]]
    moments = Moments.of(torch.cat([seen, seen @ gone.T], 1)[None], 9)
    centred, lost_part = seen - seen.mean(0), (seen - seen.mean(0)) @ gone.T
    gram = centred[:, kept].T @ centred[:, kept]
    ridge = (1e-5 + 0.1 * (7 / rows) ** 2) * gram.trace() / 7
    expected = (
        torch.linalg.inv(gram + ridge * torch.eye(7).double()) @ centred[:, kept].T @ lost_part
    )
    found = reconstruction.ridge_solution(moments, torch.tensor(kept))
    torch.testing.assert_close(found[0], expected, rtol=1e-6, atol=1e-9)


def lost(net, structure, prune, x, **options):
    """Return the change of the output when units are removed, relative to its size."""
    with torch.no_grad():
        before = net(x)
        structure.apply(gm.Plan(prune=prune), **options)
        return float((net(x) - before).norm() / before.norm())


@pytest.mark.parametrize("how", ["batches", "statistics"])
def test_a_unit_that_others_can_say_loses_nothing(how):
    net, x = seeded(mlp), data(4000, 6)
    with torch.no_grad():  # 1 is a copy of 0; 2 is dead; 3 is constant
        net[0].weight[1], net[0].bias[1] = net[0].weight[0], net[0].bias[0]
        net[0].weight[2:4] = 0
        net[0].bias[2], net[0].bias[3] = -1.0, 2.0
    structure = gm.Structure(net, x[:4])
    source = gm.ActivationStatistics(structure)
    source.update([x])
    options = {"reconstruct": source if how == "statistics" else [x]}
    assert lost(net, structure, {"0": [1, 2, 3]}, x, **options) < 1e-3


def test_a_linear_combination_of_others_loses_nothing():
    net, x = seeded(lambda: nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))), data(4000, 6)
    assert lost(net, gm.Structure(net, x[:4]), {"0": [2, 5]}, x, reconstruct=[x]) < 1e-2


def test_several_readers_each_by_what_it_sees_and_concatenations():
    net, x = seeded(Branches), data(900, 6)
    structure, plan = gm.Structure(net, x[:4]), gm.Plan(prune={"stem": [0, 3], "side": [1]})
    tried = structure.dry_run(plan, batches=[x], reconstruct=[x])
    assert tried.reconstructed.relative_change < 0.7 * tried.after.relative_change
    old, seen = copy.deepcopy(net.second), inputs_of(net, net.second, x)
    structure.apply(plan, reconstruct=[x])
    kept = [f for f in range(12) if f not in (0, 3, 8)]
    weight, bias = reference(old.weight.detach(), old.bias, seen, kept)
    torch.testing.assert_close(net.second.weight, weight)
    torch.testing.assert_close(net.second.bias, bias)


def grouped():
    return nn.Sequential(
        nn.Conv1d(2, 4, 1), nn.ReLU(), nn.Conv1d(4, 6, 3, groups=2, bias=False), nn.Tanh(),
        nn.Conv1d(6, 3, 1),
    )  # fmt: skip


def test_grouped_convolutions_are_fitted_block_by_block():
    net, x = seeded(grouped), data(500, 2, 7)
    structure = gm.Structure(net, x[:4])
    (group,) = (g for g in structure.groups.values() if ("2", "in") in
                {(m.layer, m.side) for m in g.members})  # fmt: skip
    (member,) = (m for m in group.members if m.side == "in")
    old, seen = copy.deepcopy(net[2]), inputs_of(net, net[2], x)
    structure.apply(gm.Plan(prune={group.name: [0]}), reconstruct=[x])
    for block, channels in enumerate(((0, 1), (2, 3))):
        rows = seen[:, channels].unfold(2, 3, 1).transpose(1, 2).reshape(-1, 6)
        gone = [channels.index(c) for c in member.positions[0].tolist() if c in channels]
        kept = [f for f in range(6) if f // 3 not in gone]
        weight = old.weight[3 * block : 3 * block + 3].detach().flatten(1)
        expected, _ = reference(weight, None, rows, kept)
        found = net[2].weight[3 * block : 3 * block + 3].flatten(1)
        torch.testing.assert_close(found, expected)


def deep():
    return nn.Sequential(
        nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3)
    )


def test_all_layers_at_once_with_growth_in_the_same_plan():
    net, x = seeded(deep), data(2000, 6)
    structure = gm.Structure(net, x[:4])
    plan = gm.Plan(prune={"0": [0, 1, 2], "2": [3, 4, 5]}, grow={"0": 4, "2": 2})
    with torch.no_grad():
        before = net(x)
        cut = gm.Structure(copy.deepcopy(net), x[:4])
        cut.apply(plan)
        at_once = gm.Structure(copy.deepcopy(net), x[:4])
        statistics = gm.ActivationStatistics(at_once)
        statistics.update([x])
        at_once.apply(plan, reconstruct=statistics)
        structure.apply(plan, reconstruct=[x])
        errors = [float((model(x) - before).norm()) for model in (cut.model, at_once.model, net)]
    assert errors[0] > 2 * errors[1]
    assert errors[1] > errors[2]  # in turn, errors of the first layer are made good by the second
    assert not net[2].weight[:, -4:].any()  # fresh columns are still zero
    assert not net[4].weight[:, -2:].any()


def test_anchors_copies_and_optimizers_see_the_final_values():
    net, x = seeded(deep), data(500, 6)
    structure, mas = gm.Structure(net, x[:4]), gm.MAS(net)
    optimizer = torch.optim.Adam(net.parameters())
    net(x).square().mean().backward()
    optimizer.step()
    average = torch.optim.swa_utils.AveragedModel(net)
    mas.consolidate([x])
    edit = structure.apply(
        gm.Plan(prune={"0": [0, 1], "2": [3]}),
        followers=[optimizer, mas, average],
        reconstruct=[x],
    )
    assert set(edit.corrections) == {"2.weight", "2.bias", "4.weight", "4.bias"}
    parameters = dict(net.named_parameters())
    for name, anchor in mas.anchor.items():
        torch.testing.assert_close(anchor, parameters[name].detach())
        torch.testing.assert_close(dict(average.module.named_parameters())[name], parameters[name])
    assert float(mas.penalty().detach()) < 1e-20
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == set(
        map(id, net.parameters())
    )


class Failing:
    def follow(self, edit):
        raise RuntimeError("no")


def test_a_late_failure_takes_everything_back():
    net, x = seeded(deep), data(300, 6)
    structure = gm.Structure(net, x[:4])
    statistics = gm.ActivationStatistics(structure)
    statistics.update([x])
    before = {n: (p, p.detach().clone()) for n, p in net.named_parameters()}
    held = statistics.state_dict()
    for source in ([x], statistics):
        with pytest.raises(RuntimeError, match="no"):
            structure.apply(
                gm.Plan(prune={"0": [1]}), followers=[statistics, Failing()], reconstruct=source
            )
    for name, parameter in net.named_parameters():
        assert parameter is before[name][0]
        assert torch.equal(parameter, before[name][1])
    assert structure.groups["0"].width == 16
    for name, state in statistics.state_dict().items():
        assert state.keys() == held[name].keys()
        for key, value in state.items():
            same = torch.equal if isinstance(value, torch.Tensor) else operator.eq
            assert same(value, held[name][key])


def test_bad_data_is_refused_and_nothing_changes():
    net, x = seeded(deep), data(50, 6)
    structure, plan = gm.Structure(net, x[:4]), gm.Plan(prune={"0": [1]})
    with pytest.raises(DataError, match="no sample reached '2', which read '0'"):
        structure.apply(plan, reconstruct=[])
    spoiled = x.clone()
    spoiled[3, 2] = float("nan")
    with pytest.raises(DataError, match="input of '2' is NaN or infinite"):
        structure.apply(plan, reconstruct=[x, spoiled])
    assert structure.groups["0"].width == net[0].out_features == 16


def test_layers_that_cannot_be_refitted_are_named():
    net = seeded(lambda: nn.Sequential(nn.Conv2d(1, 4, 1), nn.ConvTranspose2d(4, 2, 2, groups=2)))
    structure = gm.Structure(net, data(2, 1, 4, 4))
    with pytest.raises(
        SurgeryError, match=r"cannot refit '1' \(a transposed convolution in groups"
    ):
        structure.apply(gm.Plan(prune={"0": [1]}), reconstruct=[data(9, 1, 4, 4)])
    assert "transposed" in gm.ActivationStatistics(structure).skipped["1"]


def test_a_generator_of_batches_is_read_once():
    net, x = seeded(deep), data(300, 6)
    plan = gm.Plan(prune={"0": [1], "2": [2]})
    other = copy.deepcopy(net)
    gm.Structure(net, x[:4]).apply(plan, reconstruct=(part for part in x.split(100)))
    gm.Structure(other, x[:4]).apply(plan, reconstruct=x.split(100))
    assert torch.equal(net[4].weight, other[4].weight)


def test_half_precision_and_user_hooks():
    net, x = mlp(), data(400, 6).float()
    with torch.no_grad():
        net[0].weight[1], net[0].bias[1] = net[0].weight[0], net[0].bias[0]
    net, x = net.bfloat16(), x.bfloat16()
    handle = net[2].register_forward_hook(lambda module, args, output: None)
    structure = gm.Structure(net, x[:4])
    structure.apply(gm.Plan(prune={"0": [1]}), reconstruct=[x])
    assert list(net[2]._forward_hooks) == [handle.id]
    assert net[2].weight.dtype == torch.bfloat16


# Statistics


def statistics_on(net, x, **options):
    statistics = gm.ActivationStatistics(gm.Structure(net, x[:4]), **options)
    statistics.update(x.split(64))
    return statistics


@pytest.mark.parametrize(
    ("build", "shape"), [(deep, (6,)), (convnet, (2, 10, 10))], ids=["mlp", "conv"]
)
def test_statistics_are_mean_and_covariance_of_what_layers_see(build, shape):
    net, x = seeded(build), data(150, *shape)
    for name, held in statistics_on(net, x).moments.items():
        layer = net.get_submodule(name)
        rows = rows_of(layer, inputs_of(net, layer, x))
        assert held.count == len(rows)
        torch.testing.assert_close(held.mean[0], rows.mean(0))
        torch.testing.assert_close(held.scatter[0] / (len(rows) - 1), rows.T.cov())


def test_statistics_add_up_and_merge():
    net, x = seeded(deep), data(150, 6)
    whole, structure = statistics_on(net, x), gm.Structure(net, x[:4])
    parts = [gm.ActivationStatistics(structure) for _ in range(2)]
    parts[0].update([x[:40]])
    parts[1].update([x[40:90]])
    parts[1].update([x[90:]])
    parts[0].merge(parts[1])
    for name, held in whole.moments.items():
        torch.testing.assert_close(parts[0].moments[name].scatter, held.scatter)
        torch.testing.assert_close(parts[0].moments[name].mean, held.mean)


def test_units_born_later_count_as_zero_in_what_was_seen():
    net, x = seeded(deep), data(100, 6)
    structure = gm.Structure(net, x[:4])
    statistics = gm.ActivationStatistics(structure)
    statistics.update([x])
    structure.apply(gm.Plan(prune={"0": [3]}, grow={"0": 2}), followers=[statistics])
    statistics.update([x])
    rows = inputs_of(net, net[2], x)
    early = torch.cat([rows[:, :15], torch.zeros(100, 2)], dim=1)
    both = torch.cat([early, rows])
    torch.testing.assert_close(statistics.moments["2"].mean[0], both.mean(0))
    torch.testing.assert_close(statistics.moments["2"].scatter[0] / 199, both.T.cov())


def test_statistics_leave_no_trace_and_survive_a_checkpoint():
    net, x = seeded(convnet), data(20, 2, 10, 10)
    net.train()
    before = copy.deepcopy(net.state_dict())
    statistics = statistics_on(net, x)
    assert net.training
    assert not net[4]._forward_hooks
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    other = gm.ActivationStatistics(gm.Structure(net, x[:4]))
    other.load_state_dict(statistics.state_dict())
    assert torch.equal(other.moments["4"].scatter, statistics.moments["4"].scatter)


def test_statistics_refuse_what_does_not_fit():
    net, x = seeded(deep), data(60, 6)
    structure = gm.Structure(net, x[:4])
    with pytest.raises(PlanError, match=r"no group 'no'; the 2 groups are '0', '2'"):
        gm.ActivationStatistics(structure, groups=["no"])
    statistics = gm.ActivationStatistics(structure, groups=["0"])
    with pytest.raises(DataError, match="no sample reached a layer that reads units"):
        statistics.update([])
    with pytest.raises(DataError, match="'2' is NaN or infinite"):
        statistics.update([x, x * float("nan")])
    assert statistics.moments["2"].count == 0
    with pytest.raises(DataError, match="no sample reached '2'"):
        structure.apply(gm.Plan(prune={"0": [0]}), reconstruct=statistics)
    statistics.update([x])
    with pytest.raises(DataError, match="no sample reached '4', which read '2'"):
        structure.apply(gm.Plan(prune={"2": [0]}), reconstruct=statistics)
    with pytest.raises(DataError, match="layers '4' differ"):
        statistics.merge(gm.ActivationStatistics(structure))
    structure.apply(gm.Plan(prune={"0": [0]}))
    with pytest.raises(DataError, match=r"'2' \(16 features seen, 15 now\); pass them in"):
        structure.apply(gm.Plan(prune={"0": [1]}), reconstruct=statistics)


def test_transposed_linear_layers_of_gpt2():
    layer = pytest.importorskip("transformers.pytorch_utils").Conv1D
    plain, x = seeded(mlp), data(300, 6)
    other = nn.Sequential(layer(8, 6), nn.ReLU(), layer(3, 8)).double()
    with torch.no_grad():
        for index in (0, 2):
            other[index].weight.copy_(plain[index].weight.T)
            other[index].bias.copy_(plain[index].bias)
    for net in (plain, other):
        gm.Structure(net, x[:4]).apply(gm.Plan(prune={"0": [1, 4]}), reconstruct=[x])
    torch.testing.assert_close(other[2].weight.T, plain[2].weight)
    torch.testing.assert_close(other[2].bias, plain[2].bias)


def test_empty_batches_are_passed_over():
    net, x = seeded(convnet), data(40, 2, 10, 10)
    statistics = statistics_on(net, x)
    statistics.update([x[:0], x])
    assert statistics.moments["4"].count == 2 * 40 * 4
    gm.Structure(net, x[:4]).apply(gm.Plan(prune={"0": [1]}), reconstruct=[x[:0], x])


def test_tied_readers_are_named():
    net = seeded(lambda: nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)))
    net[2].weight = net[0].weight
    found = consumers_of(net, gm.Structure(seeded(mlp), data(2, 6)).groups)
    assert found["0"][0].problem == "'2.weight' is tied to another layer"


class Attention(nn.Module):
    """An attention block whose heads and whose hidden units both have one consumer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.1, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.layer(x).mean(1))


def test_hidden_units_of_a_transformer_in_spite_of_its_fused_path():
    net, x = seeded(Attention), data(300, 5, 8)
    structure = gm.Structure(net, x[:4])
    plan = gm.Plan(prune={"layer.linear1": [0, 3, 4, 7, 9]})
    tried = structure.dry_run(plan, batches=[x], reconstruct=[x])
    assert tried.reconstructed.relative_change < 0.8 * tried.after.relative_change


def test_batches_of_another_shape_are_refused_in_words() -> None:
    net, before = seeded(mlp), seeded(mlp).state_dict()
    structure = gm.Structure(net, data(2, 6))
    with pytest.raises(DataError, match=r"does not go through the network.*forward="):
        structure.apply(gm.Plan(prune={"0": [1]}), reconstruct=[data(4, 5)])
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert structure.groups["0"].width == 8
