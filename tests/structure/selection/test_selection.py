"""Structure.select: against a slow twin that solves every least squares problem anew."""

import copy

import pytest
import torch
from torch import nn

import growmas as gm
from growmas.errors import DataError, PlanError
from growmas.structure.reconstruction.consumers import consumers_of
from growmas.structure.selection.elimination import RIDGE, Elimination, Reading
from growmas.structure.units.placement import placements


def data(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(build):
    torch.manual_seed(0)
    return build().double().eval()


def mlp():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def convolutions():
    return nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 2, bias=False))


def normed():
    net = nn.Sequential(nn.Conv1d(2, 6, 3), nn.ReLU(), nn.Conv1d(6, 4, 2), nn.BatchNorm1d(4))
    with torch.no_grad():
        net[3].weight.copy_(torch.tensor([3.0, 0.1, 1.0, -2.0]))
        net[3].running_var.copy_(torch.tensor([0.5, 2.0, 1.0, 4.0]))
    return net


def grouped():
    return nn.Sequential(nn.Conv1d(2, 8, 1), nn.ReLU(), nn.Conv1d(8, 6, 3, groups=2), nn.Tanh())


def flattened():
    return nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 4, 3))


class TwoReaders(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.side = nn.Linear(6, 7), nn.Linear(6, 5)
        self.first, self.second = nn.Linear(7, 3), nn.Linear(12, 2)

    def forward(self, x):
        stem, side = self.stem(x).relu(), self.side(x).tanh()
        return self.first(stem), self.second(torch.cat([stem, side], -1))


def input_of(net, layer, x):
    seen = []
    hook = layer.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        net(x)
    hook.remove()
    return seen[0]


def twin(structure, name, x, count):
    """Units in the order of removal, and each reader's relative error, by solving anew."""
    group = structure.groups[name]
    readers = []
    for consumer in consumers_of(structure.model, {name: group})[name]:
        rows = torch.cat(list(consumer.rows(input_of(structure.model, consumer.module, x))), 1)
        weight = consumer.matrix(consumer.module.weight.detach()).clone()
        after = list(structure.model)[-1] if isinstance(structure.model, nn.Sequential) else None
        normal = isinstance(after, nn.BatchNorm1d)
        if normal:
            gain = after.weight / (after.running_var + after.eps).sqrt()
            weight *= gain.detach().view(1, -1, 1)
        if consumer.module.bias is not None or normal:
            rows = rows - rows.mean(1, keepdim=True)
        c = rows.mT @ rows / rows.shape[1]
        for block in c:
            block += RIDGE * block.trace() / len(block) * torch.eye(len(block))
        places = [
            p for p in placements(structure.model, group, ["in"]) if p.layer == consumer.layer
        ]
        features = torch.cat([p.positions for p in places], 1)
        features = [consumer.of_channels(unit).tolist() for unit in features]
        readers.append((weight, c, features))

    def missed(reader, gone):
        weight, c, features = reader
        out = [f for unit in gone for f in features[unit]]
        kept = [f for f in range(c.shape[-1]) if f not in out]
        total, all_ = 0.0, 0.0
        for w, block in zip(weight, c, strict=True):
            k, d = block[kept][:, kept], block[out][:, out]
            between = block[kept][:, out]
            left = d - between.T @ torch.linalg.solve(k, between)
            total += (w[:, out] @ left @ w[:, out].T).trace()
            all_ += (w @ block @ w.T).trace()
        return float(total / all_)

    gone = []
    for _ in range(count):
        costs = {
            u: sum(missed(r, [*gone, u]) for r in readers)
            for u in range(group.width)
            if u not in gone
        }
        gone.append(min(costs, key=costs.__getitem__))
    return [group.unit_ids[u] for u in gone], [missed(r, gone) for r in readers]


@pytest.mark.parametrize(
    ("build", "shape", "name"),
    [
        (mlp, (200, 6), "0"),
        (convolutions, (30, 2, 7, 7), "0"),
        (normed, (50, 2, 9), "0"),
        (grouped, (50, 2, 9), "0"),
        (flattened, (100, 1, 4, 4), "0"),
        (TwoReaders, (200, 6), "stem"),
    ],
)
@pytest.mark.parametrize("how", ["batches", "statistics"])
def test_equals_the_slow_twin(build, shape, name, how):
    net, x = seeded(build), data(*shape)
    structure = gm.Structure(net, x[:4])
    before = copy.deepcopy(net.state_dict())
    source = [x[:17], x[17:]]
    if how == "statistics":
        source = gm.ActivationStatistics(structure)
        source.update([x])
    group = structure.groups[name]
    count = group.width - 2
    plan = structure.select(source, widths={name: 2})
    order, errors = twin(structure, name, x, count)
    assert list(plan.prune[name]) == order
    found = list(plan.cause["predicted_error"][name].values())
    torch.testing.assert_close(torch.tensor(found), torch.tensor(errors), rtol=1e-4, atol=1e-7)
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_unit_that_others_can_say_goes_first_and_costs_nothing():
    net, x = seeded(mlp), data(300, 6)
    with torch.no_grad():
        net[0].weight[5], net[0].bias[5] = 2 * net[0].weight[2], 2 * net[0].bias[2]
        net[0].weight[7], net[0].bias[7] = 0.0, -1.0  # dead
    plan = gm.Structure(net, x[:4]).select([x], ratio=0.25)
    assert plan.prune["0"][0] == 7
    assert plan.prune["0"][1] in (2, 5)
    assert plan.cause["value"]["0"] < 1e-3


def test_targets():
    net, x = seeded(mlp), data(100, 6)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 3))
    x = x.float()
    structure = gm.Structure(net, x[:4])
    assert {n: len(u) for n, u in structure.select([x], ratio=0.5).prune.items()} == {
        "0": 4,
        "2": 5,
    }
    assert len(structure.select([x], ratio={"2": 0.39}).prune["2"]) == 3
    assert set(structure.select([x], widths={"2": 4}).prune) == {"2"}
    for name in ("flops", "parameters"):
        plan = structure.select([x], **{name: 0.5})
        before, after = (getattr(structure.cost(p), name) for p in (None, plan))
        assert 0.3 * before < after <= 0.5 * before
        assert getattr(structure.cost(structure.select([x], **{name: after})), name) <= after
    assert not structure.select([x], flops=1.0)
    rounded = structure.select([x], ratio=0.4, round_to=4)
    assert [structure.groups[n].width - len(u) for n, u in rounded.prune.items()] == [8 - 0, 8][1:]
    kept = structure.select([x], ratio=0.5, keep={"0": [0, 1, 2]}, protected=["2"])
    assert set(kept.prune) == {"0"}
    assert not {0, 1, 2} & set(kept.prune["0"])


def test_multiples_count_channels_where_a_unit_has_several():
    """A head of BERT is one entry of the attention module, and 8 channels of its projections."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=32, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=16, max_position_embeddings=8, num_labels=2,
    )  # fmt: skip
    net = transformers.BertForSequenceClassification(config).eval()
    batches = [{"input_ids": torch.arange(48).reshape(8, 6) % 20}]
    structure = gm.Structure(net, batches[0])
    (heads,) = (name for name in structure.groups if name.endswith("heads"))
    for multiple, left in ((8, 3), (16, 4)):
        plan = structure.select(batches, groups=[heads], ratio=0.25, round_to=multiple)
        assert 4 - len(plan.prune.get(heads, ())) == left
    plan = gm.Plan(prune={heads: [0]}, round_to=8)
    assert structure.explain(plan).groups[0].width == (4, 3)


def test_multiples_hold_for_every_layer_of_gated_units():
    """Two neurons of the first layer make one of the second, whose width is a multiple too."""

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.into, self.out = nn.Linear(6, 48), nn.Linear(24, 3)

        def forward(self, x):
            a, b = self.into(x).chunk(2, -1)
            return self.out(a.sigmoid() * b)

    x = torch.rand(100, 6)
    structure = gm.Structure(seeded(Gated).float(), x[:4])
    structure.apply(structure.select([x], ratio=0.2, round_to=8), reconstruct=[x])
    assert structure.model.out.in_features == 24  # 20 is not a multiple, nor is any above it
    structure.apply(structure.select([x], ratio=0.4, round_to=8), reconstruct=[x])
    assert structure.model.out.in_features == 16


def test_gains_of_a_reader_weigh_its_rows():
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.rand(100, 6)
    gm.add_gains(net, x)
    with torch.no_grad():
        net[2].gain.copy_(torch.rand(4) * 3)
    given = gm.Structure(net, x[:4]).select([x], widths={"0": 4})
    folded = gm.Structure(gm.fold_gains(net), x[:4]).select([x], widths={"0": 4})
    assert given.prune == folded.prune
    assert given.cause["value"]["0"] == pytest.approx(folded.cause["value"]["0"], rel=1e-4)


def test_the_prediction_is_shown():
    net, x = seeded(mlp), data(100, 6)
    structure = gm.Structure(net, x[:4])
    plan = structure.select([x], ratio=0.5)
    (effect,) = structure.explain(plan).groups
    assert effect.predicted_error == pytest.approx(plan.cause["value"]["0"])
    assert "predicted error" in str(structure.explain(plan))
    assert "predicted error of readers" in str(structure.dry_run(plan, reconstruct=[x]))
    assert gm.Plan.from_json(plan.to_json()) == plan


def test_a_covariance_that_rounding_left_indefinite_has_finite_costs():
    covariance = torch.eye(3, dtype=torch.float64)
    covariance[0, 1] = covariance[1, 0] = 1.001
    reading = Reading(torch.ones(1, 1, 3), covariance[None], torch.arange(3)[:, None])
    costs = Elimination([reading]).costs()
    assert costs.isfinite().all()
    assert (costs > 0).all()


def test_importance_is_a_weight_or_a_guard():
    net, x = seeded(mlp), data(100, 6)
    structure = gm.Structure(net, x[:4])
    omega = {n: torch.zeros_like(p) for n, p in net.named_parameters()}
    free = structure.select([x], ratio=0.5).prune["0"]
    omega["2.weight"][:, free[0]] = 1.0
    guarded = structure.select([x], ratio=0.5, omega=omega, guard=0.9).prune["0"]
    weighed = structure.select([x], ratio=0.5, omega=omega, weight=10.0).prune["0"]
    assert free[0] not in guarded
    assert free[0] not in weighed
    assert len(guarded) == len(weighed) == 4


def test_bad_input_is_refused_in_words():
    net, x = seeded(mlp), data(100, 6)
    structure = gm.Structure(net, x[:4])
    cases = [
        (DataError, "needs unlabelled data", (None,), {"ratio": 0.5}),
        (DataError, "no sample", ([],), {"ratio": 0.5}),
        (DataError, "no sample", ([x[:0]],), {"ratio": 0.5}),
        (DataError, "is a Tensor", (x,), {"ratio": 0.5}),
        (DataError, "constant", ([x[:1].expand(9, 6)],), {"ratio": 0.5}),
        (DataError, "constant", ([x[:1]],), {"ratio": 0.5}),
        (DataError, "NaN", ([x * torch.nan],), {"ratio": 0.5}),
        (DataError, "does not go through", ([x[:, :4]],), {"ratio": 0.5}),
        (PlanError, "one of ratio=", ([x],), {}),
        (PlanError, "got ratio and flops", ([x],), {"ratio": 0.5, "flops": 0.5}),
        (PlanError, "at least one unit", ([x],), {"ratio": 1.0}),
        (PlanError, "at least one unit", ([x],), {"ratio": -0.1}),
        (PlanError, "from 1 to 8", ([x],), {"widths": {"0": 0}}),
        (PlanError, "no group 'z'", ([x],), {"widths": {"z": 3}}),
        (PlanError, "expected the share", ([x],), {"flops": 1.5}),
        (PlanError, "cannot become fewer", ([x],), {"flops": 1}),
        (PlanError, "round_to", ([x],), {"ratio": 0.5, "round_to": 0}),
        (PlanError, "need omega", ([x],), {"ratio": 0.5, "guard": 0.5}),
        (PlanError, "no group 'z'", ([x],), {"ratio": 0.5, "round_to": {"z": 4}}),
        (PlanError, "keep='0': expected ids", ([x],), {"ratio": 0.5, "keep": "0"}),
        (PlanError, "unit 8 does not exist", ([x],), {"ratio": 0.5, "keep": {"0": [3, 8]}}),
        (PlanError, "weight='a'", ([x],), {"ratio": 0.5, "weight": "a"}),
        (PlanError, "guard=True", ([x],), {"ratio": 0.5, "guard": True}),
        (PlanError, "no group 'other'", ([x],), {"ratio": 0.5, "groups": "other"}),
        (DataError, "forward='f' is a str", ([x],), {"ratio": 0.5, "forward": "f"}),
    ]
    for error, words, args, options in cases:
        with pytest.raises(error, match=words):
            structure.select(*args, **options)
