"""Layers that read units as matrix products: transposed convolutions, attention, wide layers."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import growmas as gm
from growmas.errors import PlanError, SurgeryError
from growmas.structure.reconstruction import consumers, fitting
from growmas.structure.reconstruction.consumers import Consumer


def data(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("build", "shape", "options", "size"),
    [
        (nn.ConvTranspose1d, (7,), {"kernel_size": 3}, None),
        (nn.ConvTranspose1d, (7,), {"kernel_size": 2, "stride": 3, "output_padding": 2}, None),
        (nn.ConvTranspose2d, (5, 6), {"kernel_size": 4, "stride": 2, "padding": 1}, None),
        (nn.ConvTranspose2d, (4, 3), {"kernel_size": (3, 2), "stride": (2, 1)}, None),
        (nn.ConvTranspose2d, (4, 4), {"kernel_size": 1, "stride": 2, "padding": 1}, None),
        (nn.ConvTranspose2d, (4, 4), {"kernel_size": 3, "stride": 2, "padding": 1}, (8, 7)),
        (nn.ConvTranspose3d, (2, 3, 2), {"kernel_size": 3, "dilation": 2, "padding": 2}, None),
    ],
)
def test_a_transposed_convolution_is_a_product_of_rows(build, shape, options, size):
    layer = build(3, 5, bias=False, **options).double()
    consumer = Consumer("layer", layer, "layer.weight", 0)
    x = data(2, 3, *shape).double()
    output = layer(x) if size is None else layer(x, output_size=size)
    rows = consumer.sampled(x, output, None)
    matrix = consumer.matrix(layer.weight.detach())
    torch.testing.assert_close((rows @ matrix.mT)[0], consumer.given(output.detach(), None))
    torch.testing.assert_close(consumer.weight_of(matrix), layer.weight.detach())
    some = torch.tensor([0, 3, 8])
    torch.testing.assert_close(consumer.sampled(x, output, some), rows[:, some])
    if size is None:
        torch.testing.assert_close(torch.cat(list(consumer.rows(x)), 1), rows)


def off(net, before, x):
    """The share of the output's variance that was lost."""
    with torch.no_grad():
        return float((net(x) - before).var() / before.var())


def halved(build, x, how="batches"):
    """What half of the units of every group cost: when cut, and when chosen and repaired."""
    torch.manual_seed(0)
    net = build().eval()
    plain = copy.deepcopy(net)
    before = net(x).detach()
    structure = gm.Structure(net, x[:2])
    source = list(x.split(40))
    if how == "statistics":
        source = gm.ActivationStatistics(structure)
        source.update(x.split(40))
    plan = structure.select(source, ratio=0.5)
    structure.apply(plan, reconstruct=source)
    gm.Structure(plain, x[:2]).apply(gm.Plan(prune=plan.prune))
    return plan, off(plain, before, x), off(net, before, x)


def decoder():
    return nn.Sequential(
        nn.Conv2d(2, 12, 3, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(12, 8, 4, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.ConvTranspose2d(8, 2, 3, 1, 1),
    )  # fmt: skip


@pytest.mark.parametrize("how", ["batches", "statistics"])
def test_a_decoder_is_repaired(how):
    plan, cut, repaired = halved(decoder, F.interpolate(data(80, 2, 3, 3), 8, mode="bilinear"), how)
    assert {name: len(units) for name, units in plan.prune.items()} == {"0": 6, "2": 4}
    assert repaired < 0.6 * cut


class Encoder(nn.Module):
    def __init__(self, batch_first=True, norm_first=False):
        super().__init__()
        self.into, self.out = nn.Linear(6, 24), nn.Linear(24, 4)
        options = {"dropout": 0.0, "batch_first": batch_first, "norm_first": norm_first}
        self.layer = nn.TransformerEncoderLayer(24, 6, 32, **options)
        self.batch_first = batch_first

    def forward(self, x):
        x = self.into(x)
        if self.batch_first:
            return self.out(self.layer(x).mean(1))
        return self.out(self.layer(x.transpose(0, 1)).mean(0))


@pytest.mark.parametrize("options", [{}, {"batch_first": False}, {"norm_first": True}])
@pytest.mark.parametrize("how", ["batches", "statistics"])
def test_heads_of_torchs_attention_are_chosen_and_repaired(options, how):
    def build():
        return Encoder(**options)

    plan, cut, repaired = halved(build, data(80, 5, 6), how)
    assert {n: len(units) for n, units in plan.prune.items()} == {
        "layer.self_attn.heads": 3,
        "layer.linear1": 16,
    }
    assert repaired < 0.1 * cut
    assert "forward" not in vars(build().layer.self_attn)


def test_attention_that_hides_its_output_layer_is_named():
    net = nn.MultiheadAttention(8, 2, add_bias_kv=True, batch_first=True)

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.out = net, nn.Linear(8, 2)

        def forward(self, x):
            return self.out(self.inner(x, x, x)[0])

    structure = gm.Structure(Wrapped(), data(2, 3, 8))
    name = next(n for n in structure.groups if "heads" in n)
    with pytest.raises(SurgeryError, match="MultiheadAttention 'inner' does not call it"):
        structure.apply(gm.Plan(prune={name: [0]}), reconstruct=[data(4, 3, 8)])


def test_few_rows_give_the_same_fit_as_the_normal_equations():
    seen, now, wanted = data(2, 30, 40), data(2, 30, 3, seed=2), data(2, 30, 3, seed=3)
    for intercept in (True, False):
        dual = fitting.fitted(seen, now, wanted, (0.0, None), intercept=intercept)
        primal = by_normal_equations(seen, now, wanted, intercept)
        torch.testing.assert_close(dual.weight, primal, rtol=1e-3, atol=1e-5)


def by_normal_equations(seen, now, wanted, intercept):
    """The weights of the last of four fits, with targets that a rectifier leaves free."""
    x, y, z = seen.double(), now.double(), wanted.double()
    mean = x.mean(1, keepdim=True)
    design = x - mean if intercept else x
    target = z
    for turn in range(4):
        missing = target - y
        normal = fitting.ridged(design.mT @ design, x.shape[1])
        weight = torch.linalg.solve(normal, design.mT @ missing)
        shift = missing.mean(1, keepdim=True) - mean @ weight if intercept else 0
        if turn < 3:
            predicted = y + x @ weight + shift
            target = torch.where(z > 0, z, predicted.clamp(max=0))
    return weight


def flattened():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 6), nn.BatchNorm1d(6)
    )


def test_a_wide_layer_is_chosen_for_pixel_by_pixel_and_repaired(monkeypatch):
    monkeypatch.setattr(consumers, "WIDE", 100)
    plan, cut, repaired = halved(flattened, data(400, 1, 8, 8))
    assert len(plan.prune["0"]) == 4
    assert repaired < 0.5 * cut
    torch.manual_seed(0)
    structure = gm.Structure(flattened().eval(), data(2, 1, 8, 8))
    statistics = gm.ActivationStatistics(structure)
    with pytest.raises(PlanError, match="288 features, more than"):
        structure.select(statistics, ratio={"0": 0.5})
    with pytest.raises(SurgeryError, match="288 features, more than"):
        structure.apply(gm.Plan(prune={"0": [1]}), reconstruct=statistics)


def test_a_choice_pixel_by_pixel_finds_the_unit_that_others_say(monkeypatch):
    monkeypatch.setattr(consumers, "WIDE", 100)
    torch.manual_seed(0)
    net = flattened().eval()
    with torch.no_grad():
        net[0].weight[5], net[0].bias[5] = 2 * net[0].weight[2], 2 * net[0].bias[2]
    x = data(400, 1, 8, 8)
    before = net(x).detach()
    structure = gm.Structure(net, x[:2])
    plan = structure.select([x], widths={"0": 7})
    assert plan.prune["0"][0] in (2, 5)
    structure.apply(plan, reconstruct=[x])
    assert off(net, before, x) < 1e-3


class Attended(nn.Module):
    """A layer read by the projections of an attention layer, and a layer that another reads."""

    def __init__(self):
        super().__init__()
        self.first, self.attention = nn.Linear(3, 8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.inner, self.head = nn.Linear(8, 12), nn.Linear(12, 2)

    def forward(self, x):
        x = self.first(x)
        x = x * self.attention(x, x, x, need_weights=False)[0]
        return self.head(self.inner(x).relu())


def test_what_an_attention_layer_reads_is_left_alone_with_a_reason():
    torch.manual_seed(0)
    net, x = Attended(), data(40, 5, 3)
    structure = gm.Structure(net, x[:2])
    plan = structure.select([x], flops=0.9)
    assert "inner" in plan.prune
    assert "first" not in plan.prune
    assert "a MultiheadAttention is not" in plan.cause["skipped"]["first"]
    assert "a MultiheadAttention is not" in gm.ActivationStatistics(structure).skipped["attention"]


def test_a_linear_layer_of_timm_is_known_by_its_name():
    kind = type(
        "Linear", (nn.Linear,), {"forward": lambda self, x: F.linear(x, *self.parameters())}
    )
    kind.__module__ = "timm.layers.linear"
    plan, cut, repaired = halved(
        lambda: nn.Sequential(nn.Linear(3, 16), nn.ReLU(), kind(16, 2)), data(400, 3)
    )
    assert len(plan.prune["0"]) == 8
    assert repaired < 0.5 * cut
