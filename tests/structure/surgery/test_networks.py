"""Growing and pruning networks of many architectures, and what is said of those that refuse."""

import copy
from collections.abc import Callable
from typing import Any

import networks
import pytest
import torch
import torch.nn.functional as F
from surgery_laws import (
    check_fresh_units_learn,
    check_growing_and_pruning,
    check_random_plans,
)
from torch import Tensor, nn

from growmas import Plan, Structure
from growmas.errors import PlanError, SurgeryError

IMAGE, VECTOR, SEQUENCE = (2, 3, 4, 4), (2, 6), (2, 5, 8)

by_network = pytest.mark.parametrize("name", networks.OWN)


@by_network
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_growing_keeps_the_function_and_pruning_restores_all(name: str, training: bool) -> None:
    model, x = networks.own(name)
    check_growing_and_pruning(model.train(training), x)


@by_network
def test_fresh_units_are_not_dead(name: str) -> None:
    check_fresh_units_learn(*networks.own(name))


@by_network
def test_random_plans(name: str) -> None:
    check_random_plans(*networks.own(name), plans=24)


def test_groups_by_network() -> None:
    found = {}
    for name in networks.OWN:
        groups = Structure(*networks.own(name)).groups.values()
        found[name] = {group.name: f"{group.width} {group.kind}" for group in groups}
    assert found["DenseNet"] == {
        "first": "4 channels",
        "second": "5 channels",
        "third": "6 channels",
    }
    assert found["ResNeXt"] == {
        "reduce": "2 sets of 4 channels", "grouped": "3 sets of 4 channels", "expand": "8 channels"
    }  # fmt: skip
    assert found["GroupNorm, InstanceNorm"]["first"] == "4 sets of 3 channels"
    assert found["generator, NHWC"] == {"start": "6 sets of 4 neurons", "paint": "4 channels"}
    assert found["gated"]["both"] == "6 sets of 2 neurons"
    assert found["LSTM"]["recurrent"] == "7 hidden units"
    assert found["ViT, fused qkv"] == {
        "patches": "8 channels", "attention.heads": "4 attention heads", "up": "12 neurons"
    }  # fmt: skip


class Bags(nn.Module):
    """A bag of tokens, with one that stands for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bag, self.head = nn.EmbeddingBag(20, 6, padding_idx=0), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.bag(x))


class Cell(nn.Module):
    """One step of a recurrent layer."""

    def __init__(self, kind: type[nn.RNNCellBase]) -> None:
        super().__init__()
        self.body, self.cell, self.head = nn.Linear(6, 5), kind(5, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor, steps: int = 1) -> Tensor:
        state = None
        for _ in range(steps):
            state = self.cell(self.body(x), state)
        return self.head(state if isinstance(state, Tensor) else state[0])


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (Bags, (0,)),
        *((lambda kind=kind: Cell(kind), VECTOR) for kind in (nn.RNNCell, nn.GRUCell, nn.LSTMCell)),
        (lambda: nn.Sequential(nn.Linear(6, 5), nn.SyncBatchNorm(5), nn.Linear(5, 2)), VECTOR),
    ],
    ids=["EmbeddingBag", "RNNCell", "GRUCell", "LSTMCell", "SyncBatchNorm"],
)
def test_layers_of_other_kinds(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    model = networks.lively(build()).eval()
    x = torch.randint(0, 20, (3, 5)) if shape == (0,) else torch.randn(shape)
    check_growing_and_pruning(model, x)
    assert len(Structure(model, x).groups) >= 1


def test_a_state_handed_from_step_to_step_is_refused_by_name() -> None:
    structure = Structure(
        Cell(nn.LSTMCell), torch.randn(2, 6), forward=lambda model, x: model(x, steps=3)
    )
    assert structure.fixed["cell"] == "a layer reads it beside its input"


@pytest.mark.parametrize("init", ["zero_out", "split"])
def test_what_stands_for_nothing_stays_zero(init: str) -> None:
    model = nn.Sequential(nn.Embedding(9, 4, padding_idx=2), nn.Flatten(), nn.Linear(12, 2))
    Structure(model, torch.randint(0, 9, (2, 3))).apply(Plan(grow={"0": 3}), init=init)
    assert not model[0].weight[2].any()
    assert model[0].weight[[0, 1, *range(3, 9)], 4:].all()


class Net(nn.Module):
    """Layers, and a function of them and of the input."""

    def __init__(self, function: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def shuffled(m: Any, x: Tensor) -> Tensor:
    h = m.a(x)
    n, c, height, width = h.shape
    h = h.view(n, 2, c // 2, height, width).transpose(1, 2).reshape(n, c, height, width)
    return m.fc(F.relu(m.b(h)).mean((2, 3)))


class RawLinear(nn.Module):
    """Weights used without a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 8))
        self.a, self.b = nn.Linear(6, 8), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(F.linear(F.relu(self.a(x)), self.weight)))


class Shifted(nn.Module):
    """A parameter of no layer, added to the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.randn(8))
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(x) + self.shift))


class Projected(nn.Module):
    """An LSTM whose hidden units are read through projections."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(8, 9, proj_size=3, batch_first=True, num_layers=2)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(x)[0])


class Heads(nn.Module):
    """Attention whose number of heads is written into its code."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (m(x).unflatten(-1, (4, 2)).transpose(1, 2) for m in (self.q, self.k, self.v))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def conv(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


# what it is -> (network, shape of its input, group, what is said of it)
REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str, str]] = {
    "constant in view": (
        lambda: Net(
            lambda m, x: m.fc(F.relu(m.a(x)).view(-1, 8 * 16)), a=conv(3, 8), fc=nn.Linear(128, 2)
        ),
        IMAGE, "a", r"forward pass fails.*view\(\) or reshape\(\)",
    ),
    "softmax over channels": (
        lambda: Net(lambda m, x: m.b(m.a(x).softmax(-1)), a=nn.Linear(6, 8), b=nn.Linear(8, 2)),
        VECTOR, "a", r"an operation runs over its channels \(Softmax\)",
    ),
    "norm over channels": (
        lambda: Net(lambda m, x: m.b(F.normalize(m.a(x))), a=nn.Linear(6, 8), b=nn.Linear(8, 2)),
        VECTOR, "a", r"an operation runs over its channels \(LinalgVectorNorm\)",
    ),
    "mask of one channel": (
        lambda: Net(
            lambda m, x: m.c(m.a(x) * m.b(x).sigmoid()).mean((2, 3)),
            a=conv(3, 8), b=conv(3, 1), c=conv(8, 2),
        ),
        IMAGE, "b", "its only channel is spread over 8 others",
    ),
    "single group of GroupNorm": (
        lambda: nn.Sequential(conv(3, 8), nn.GroupNorm(1, 8), conv(8, 2), nn.Flatten()),
        IMAGE, "0", "it passes '1': it is one single norm group",
    ),
    "post-norm": (
        lambda: Net(
            lambda m, x: m.c(m.norm(F.relu(m.a(x)) + m.b(x))),
            a=nn.Linear(6, 8), b=nn.Linear(6, 8), norm=nn.LayerNorm(8), c=nn.Linear(8, 2),
        ),
        VECTOR, "a", "it passes 'norm': its statistics run over all channels",
    ),
    "attention with a constant number of heads": (Heads, SEQUENCE, "q.heads", "forward pass fails"),
    "joined with the input": (
        lambda: Net(
            lambda m, x: m.c(F.relu(x + m.b(F.relu(m.a(x))))),
            a=nn.Linear(6, 5), b=nn.Linear(5, 6), c=nn.Linear(6, 2),
        ),
        VECTOR, "b", "it is joined with the input of the network",
    ),
}  # fmt: skip


# what it is -> (network, shape of its input, the units of one of its groups)
FOLLOWED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "channel shuffle": (
        lambda: Net(shuffled, a=conv(3, 8), b=conv(8, 6), fc=nn.Linear(6, 2)),
        IMAGE, "4 sets of 2 channels",
    ),
    "PixelShuffle": (
        lambda: Net(
            lambda m, x: m.b(F.pixel_shuffle(m.a(x), 2)).mean((2, 3)), a=conv(3, 8), b=conv(2, 2)
        ),
        IMAGE, "2 sets of 4 channels",
    ),
    "glu": (
        lambda: Net(lambda m, x: m.b(F.glu(m.a(x))), a=nn.Linear(6, 8), b=nn.Linear(4, 2)),
        VECTOR, "4 sets of 2 neurons",
    ),
    "parameter added": (Shifted, VECTOR, "8 neurons"),
    "weight without a layer": (RawLinear, VECTOR, "5 neurons"),
    "bidirectional": (
        lambda: networks.Sequence(nn.LSTM, bidirectional=True), (0,), "7 sets of 2 hidden units"
    ),
    "projections": (lambda: Projected(), SEQUENCE, "3 projections"),
    "tokens mixed": (
        lambda: Net(
            lambda m, x: m.c(m.b(m.a(x).transpose(1, 2)).transpose(1, 2)),
            a=nn.Linear(8, 6), b=nn.Linear(5, 5), c=nn.Linear(6, 2),
        ),
        SEQUENCE, "6 neurons",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", FOLLOWED)
def test_operations_are_followed(what: str) -> None:
    build, shape, units = FOLLOWED[what]
    model = networks.lively(build())
    x = torch.randint(0, 20, (2, 5)) if shape == (0,) else torch.randn(shape)
    groups = Structure(model, x).groups.values()
    assert units in [f"{group.width} {group.kind}" for group in groups]
    check_growing_and_pruning(model, x)


@pytest.mark.parametrize("what", REFUSED)
def test_refusals_say_why_and_change_nothing(what: str) -> None:
    build, shape, name, message = REFUSED[what]
    model = networks.lively(build())
    x = torch.randint(0, 20, (2, 5)) if shape == (0,) else torch.randn(shape)
    structure = Structure(model, x)
    assert (name in structure.groups) != (name in structure.fixed)
    state = copy.deepcopy(model.state_dict())
    plans = [Plan(grow={name: 1})]
    if name in structure.groups:
        plans.append(Plan(prune={name: structure.groups[name].unit_ids[:1]}))
    for plan in plans:
        with pytest.raises((PlanError, SurgeryError), match=message):
            structure.apply(plan)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_spectral_norm_is_refused_by_name() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    nn.utils.parametrizations.spectral_norm(model[2])
    assert "(spectral_norm)" in Structure(model, torch.randn(2, 6)).fixed["0"]


def test_a_layer_within_heads_is_named_with_its_group() -> None:
    structure = Structure(networks.ViT(networks.FusedHeads).eval(), torch.randn(2, 3, 8, 8))
    heads = next(group for group in structure.groups.values() if "heads" in group.kind)
    qkv = next(m.layer for m in heads.members if m.side == "out" and m.axes.out)
    said = f"no group '{qkv}'; .* belongs to .*'{heads.name}' .*The size of a head"
    with pytest.raises(PlanError, match=said):
        structure.apply(Plan(grow={qkv: 1}))


def test_a_layout_that_does_not_fit_is_named() -> None:
    class Odd(networks.FusedHeads):
        pass

    networks.register_attention(Odd, project={"qkv": 2}, output="out", heads="five")
    model = Odd(8, 4)
    model.five = 5
    with pytest.raises(
        SurgeryError, match=r"'qkv' into heads: expected a multiple of 10 chan.* got 24"
    ):
        Structure(model, torch.randn(2, 5, 8))


def test_layouts_of_single_units_keep_their_blocks() -> None:
    """A single head's q, k and v lie in one run, yet a second head must come between."""
    model = networks.lively(networks.ViT(networks.FusedHeads))
    x = torch.randn(2, 3, 8, 8)
    structure = Structure(model, x)
    structure.apply(Plan(prune={"attention.heads": [0, 1, 2]}))
    expected = model(x)
    structure = Structure(model, x)
    structure.apply(Plan(grow={"attention.heads": 3}))
    torch.testing.assert_close(model(x), expected)
    assert model.attention.heads == 4
