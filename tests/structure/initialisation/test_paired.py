"""Fresh units in pairs: the function stays, in train mode too, and both sides learn at once."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cases import CONVNET, DROPOUT, MLP, SURGERY, Case, tensors
from torch import Tensor, nn

import growmas as gm
from growmas import MAS, Plan, Structure
from growmas.errors import PlanError
from growmas.models import ResNet
from growmas.structure.initialisation.paired import balanced, families
from growmas.structure.units.placement import placements


class Dense(nn.Module):
    """Three convolutions; each reads the outputs of all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.convs = nn.ModuleList([nn.Conv2d(4 + 3 * i, 3, 3, padding=1) for i in range(3)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(4 + 3 * i) for i in range(3)])
        self.head = nn.Linear(13, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = torch.cat([x, conv(norm(x).relu())], 1)
        return self.head(x.mean((2, 3)))


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.body, self.head = kind(5, 7, batch_first=True), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads, self.size = 4, 2
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, self.heads, self.size).unbind(2)
        scores = torch.einsum("nqhd,nkhd->nhqk", q, k).softmax(-1)
        x = x + self.out(torch.einsum("nhqk,nkhd->nqhd", scores, v).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm(x))))


gm.register_attention(Attention, project={"qkv": 3}, output="out", heads="heads")


def grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.PReLU(8),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3),
    )  # fmt: skip


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convnet": (lambda: CONVNET.model(), CONVNET.shape),
    "resnet": (lambda: ResNet((2, 8, 8), channels=(4, 6), blocks=1, head_sizes=[3]), (2, 8, 8)),
    "dense": (Dense, (2, 6, 6)),
    "grouped": (grouped, (2, 6, 6)),
    "gated": (Gated, (6,)),
    "lstm": (lambda: Recurrent(nn.LSTM), (4, 5)),
    "gru": (lambda: Recurrent(nn.GRU), (4, 5)),
    "heads and FFN": (
        lambda: nn.Sequential(Attention(), nn.Flatten(), nn.Linear(40, 3)),
        (5, 8),
    ),
    "encoder layer": (
        lambda: nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True),
        (5, 8),
    ),
}
by_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


def run(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([t.flatten() for t in tensors(model(x))])


def growing(structure: Structure, count: int) -> Plan:
    return Plan(
        grow={n: count for n, g in structure.groups.items() if g.can_grow and not g.residual}
    )


@pytest.mark.parametrize("case", SURGERY, ids=lambda case: case.name)
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_pairs_keep_the_function(case: Case, count: int):
    x = case.inputs(12, torch.float64)
    structure = Structure(case.model(torch.float64).eval(), x)
    before = run(structure.model, x)
    structure.apply(Plan(grow=dict.fromkeys(structure.groups, count)), init="paired")
    torch.testing.assert_close(run(structure.model, x), before, rtol=1e-10, atol=1e-10)


@by_network
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_pairs_in_all_groups_keep_the_function_in_train_mode_too(network: Any, mode: str):
    build, shape = network
    torch.manual_seed(0)
    x = torch.randn(16, *shape)
    structure = Structure(build(), x)
    model = structure.model
    model(x)  # running statistics that are not the first ones
    model.train(mode == "train")
    before = run(copy.deepcopy(model), x)
    edit = structure.apply(growing(structure, 3), init="paired", calibrate=[x])
    assert edit.mates
    assert not edit.parents
    after = run(model, x)
    assert float((after - before).abs().max()) <= 2e-6 * max(1.0, float(before.abs().max()))


@by_network
def test_both_sides_of_every_mate_get_a_gradient_at_once(network: Any):
    build, shape = network
    torch.manual_seed(0)
    x = torch.randn(16, *shape)
    structure = Structure(build(), x)
    model = structure.model
    edit = structure.apply(growing(structure, 6), init="paired")
    torch.stack([t.square().mean() for t in tensors(model(x))]).sum().backward()
    for name, units in edit.born.items():
        group = structure.groups[name]
        for role in ("in", "out"):
            found = 0.0
            for place in placements(model, group, (role,)):
                if place.tensor.grad is not None:
                    along = place.tensor.grad.movedim(place.axis.dim, 0)
                    found += float(along[place.positions[group.indices(units)]].abs().sum())
            assert found > 0, (name, role)


def test_mates_are_as_the_recipe_says():
    """Against the recipe written out: rows of the mean length, v of the size of living entries."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 400), nn.ReLU(), nn.Linear(400, 300)).double()
    with torch.no_grad():
        net[0].weight *= torch.rand(400, 1, dtype=torch.float64) * 20
        net[2].weight *= 7
    old = copy.deepcopy(net)
    structure = Structure(net, torch.rand(4, 6).double())
    edit = structure.apply(Plan(grow={"0": 201}), init="paired")
    assert edit.mates["0"][:2] == ((400, 401), (402, 403))
    assert edit.mates["0"][-1] == (598, 599, 600)
    rows, columns = net[0].weight.detach(), net[2].weight.detach()
    length = old[0].weight.norm(dim=1).mean()
    torch.testing.assert_close(rows[400:].norm(dim=1), length.expand(201))
    size = old[2].weight.square().mean().sqrt() * (400 / 601) ** 0.5
    for family in edit.mates["0"]:
        assert torch.equal(rows[family[0]], rows[family[1]])
        assert net[0].bias[family[0]] == net[0].bias[family[1]]
        assert float(columns[:, list(family)].sum(1).abs().max()) < 1e-12
    torch.testing.assert_close(columns[:, 400:598].std(), size, rtol=0.02, atol=0)
    torch.testing.assert_close(columns[:, 598:].std(), size, rtol=0.1, atol=0)


def test_living_columns_of_a_grouped_convolution_set_the_size():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 8, 1), nn.Conv2d(8, 64, 1, groups=2), nn.Flatten())
    net.append(nn.Linear(64, 2))
    structure = Structure(net, torch.rand(3, 2, 1, 1))
    before = net[1].weight.detach().square().mean().sqrt()
    width = structure.groups["0"].width
    edit = structure.apply(Plan(grow={"0": 2 * width}), init="paired")
    fresh = structure.groups["0"].indices(edit.born["0"])
    columns = net[1].weight.detach()[:, fresh]
    torch.testing.assert_close(columns.square().mean().sqrt(), before / 3**0.5, rtol=0.2, atol=0)


def test_a_single_newborn_starts_as_with_zero_columns():
    made = []
    for init in ("zero_out", "paired"):
        torch.manual_seed(0)
        net = MLP.model()
        torch.manual_seed(1)
        Structure(net, MLP.inputs(3)).apply(Plan(grow={"0": 1}), init=init)
        made.append(net.state_dict())
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])


def test_units_that_replace_all_others_start_from_the_layers_own_default():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 48))
    structure = Structure(net, torch.rand(4, 6))
    structure.apply(Plan(replace={"0": range(64)}), init="paired", verify=False)
    size = net[2].weight.detach().square().mean().sqrt()
    torch.testing.assert_close(size, torch.tensor((3 * 64) ** -0.5), rtol=0.1, atol=0)
    assert float(net[0].weight.detach().abs().max()) <= 6**-0.5


@pytest.mark.parametrize("count", range(1, 9))
def test_families_are_pairs_and_a_last_three(count: int):
    units = tuple(range(10, 10 + count))
    found = families(units)
    assert tuple(u for family in found for u in family) == (units if count > 1 else ())
    assert [len(f) for f in found[:-1]] == [2] * max(0, len(found) - 1)
    assert count < 2 or len(found[-1]) == (3 if count % 2 else 2)


def test_columns_of_a_family_are_balanced_with_variance_one():
    for family in (2, 3):
        drawn = balanced(family, (20_000,), torch.Generator().manual_seed(0))
        assert float(drawn.sum(0).abs().max()) < 1e-12
        assert abs(float(drawn.square().mean()) - 1) < 0.03


def test_importance_of_mates_is_zero_and_their_anchor_their_value():
    net, x = MLP.model(), MLP.inputs(12)
    structure, mas = Structure(net, x), MAS(net)
    mas.consolidate([x])
    structure.apply(Plan(grow={"0": 4, "2": 2}), followers=[mas], init="paired")
    assert float(mas.penalty().detach()) == 0
    assert not mas.omega["0.weight"][-4:].any()
    assert not mas.omega["2.weight"][:, -4:].any()
    assert torch.equal(mas.anchor["2.weight"], net[2].weight.detach())


def test_dropout_is_exact_in_eval_mode():
    x = DROPOUT.inputs(8)
    structure = Structure(DROPOUT.model(), x)
    structure.model.eval()
    before = run(structure.model, x)
    structure.apply(growing(structure, 2), init="paired")
    torch.testing.assert_close(run(structure.model, x), before, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_paired_is_refused_in_words():
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(11, 6), nn.Linear(6, 11, bias=False)
            self.head.weight = self.table.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.table(x).tanh()).sum(1)

    words = Structure(Words(), torch.randint(11, (5, 3)))
    with pytest.raises(PlanError, match=r"'\w+\.weight' is tied.*init='zero_out'"):
        words.apply(Plan(grow={"table": 2}), init="paired")
    norm = Structure(
        nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2)), torch.rand(3, 4)
    )
    with pytest.raises(PlanError, match="'0': its units pass norms over all channels"):
        norm.apply(Plan(grow={"0": 2}), init="paired")


# by group


def test_each_group_may_start_in_its_own_way():
    x = MLP.inputs(12)
    structure = Structure(MLP.model(), x)
    before = run(structure.model, x)
    y = torch.randint(3, (12,))

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1])

    edit = structure.apply(
        Plan(grow={"0": 2, "2": 3}), init={"0": "paired", "2": gm.GradMax([(x, y)], loss)}
    )
    assert edit.mates == {"0": ((8, 9),)}
    torch.testing.assert_close(run(structure.model, x), before, rtol=1e-5, atol=1e-6)
    assert not structure.model[4].weight[:, -3:].any()
    edit = structure.apply(Plan(grow={"0": 1, "2": 2}), init={"0": "split", "2": "paired"})
    assert edit.parents["0"]
    assert edit.mates == {"2": ((8, 9),)}
    torch.testing.assert_close(run(structure.model, x), before, rtol=1e-5, atol=1e-6)
    edit = structure.apply(Plan(grow={"0": 2, "2": 2}), init={"2": "paired"})
    assert list(edit.mates) == ["2"]
    assert not structure.model[2].weight[:-2, -2:].any()  # "0" starts with zero columns


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ({"9": "paired"}, "init: no group '9'"),
        ({"4": "paired"}, "init: group '4' cannot change"),
        ({"0": "pared"}, "group '0': init='pared' is not known"),
        ({"0": {"0": "paired"}}, "expected the name of a group and an initialisation"),
        ({0: "paired"}, "expected the name of a group"),
        ({"0": gm.Paired}, "group '0': init=.* is not known"),
        ("pairs", "init='pairs' is not known: give 'zero_out', 'paired', 'split'"),
    ],
)
def test_wrong_initialisations_get_one_clear_message(init: Any, message: str):
    structure = Structure(MLP.model(), MLP.inputs(3))
    with pytest.raises(PlanError, match=message):
        structure.apply(Plan(grow={"0": 2}), init=init)
    assert structure.groups["0"].width == 8


# gradients as large as they can be, through a flatten


def flattened(pool: nn.Module) -> nn.Sequential:
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.Identity(), pool, nn.Flatten(), nn.LazyLinear(3)
    )
    net(torch.rand(2, 2, 6, 6))
    return net.double()


@pytest.mark.parametrize("pool", [nn.Identity(), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)])
@pytest.mark.parametrize("zero", ["columns", "rows"])
def test_gradmax_through_a_flatten_gives_the_largest_gradient(pool: nn.Module, zero: Any):
    """Against the Jacobian of the gradient, taken by autograd one entry after another."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(7, 2, 6, 6, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (7,), generator=generator)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1])

    structure = Structure(flattened(pool), x)
    model, batches = structure.model, [(x, y)]
    before = run(model, x)
    edit = structure.apply(Plan(grow={"0": 1}), init=gm.GradMax(batches, loss, zero=zero))
    torch.testing.assert_close(run(model, x), before)
    born = structure.groups["0"].indices(edit.born["0"])
    member = next(m for m in structure.groups["0"].members if m.side == "in")
    at = member.positions[born[0]]
    rows, columns = model[0].weight, model[4].weight
    tensor = columns if zero == "columns" else rows

    def gradient() -> Tensor:
        found = torch.autograd.grad(loss(model, (x, y)), [tensor])[0].detach()
        return (found[:, at] if zero == "columns" else found[born[0]]).flatten()

    found = gradient().norm()
    other = rows[born[0]] if zero == "columns" else columns[:, at]
    length, jacobian = other.detach().norm(), []
    for unit in torch.eye(other.numel(), dtype=torch.float64):
        with torch.no_grad():
            if zero == "columns":
                rows[born[0]] = unit.view_as(other)
            else:
                columns[:, at] = unit.view_as(other)
        jacobian.append(gradient())
    best = torch.linalg.svdvals(torch.stack(jacobian))[0]
    torch.testing.assert_close(found, best * length)


def test_gradmax_says_which_pooling_it_cannot_follow():
    x = torch.rand(4, 2, 6, 6)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.MaxPool2d((1, 3)), nn.Flatten(), nn.Linear(48, 3)
    )

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return model(batch).square().mean()

    with pytest.raises(PlanError, match="6 × 6 pixels become 12 before a Linear"):
        Structure(net, x).apply(Plan(grow={"0": 1}), init=gm.GradMax([x], loss))
