"""Local importance against autograd on each layer's own objective, sample by sample."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest
import snapshots
import torch
import torch.nn.functional as F
from cases import CONVNET, IMPORTANCE, MLP, Case
from torch import Tensor, nn

from growmas import hebbian_importance, mas_importance
from growmas.errors import DataError, ImportanceError

ACTIVATIONS = [
    nn.CELU(), nn.ELU(), nn.GELU(), nn.GLU(), nn.Hardshrink(), nn.Hardsigmoid(), nn.Hardswish(),
    nn.Hardtanh(), nn.LeakyReLU(), nn.LogSigmoid(), nn.Mish(), nn.PReLU(), nn.RReLU(), nn.ReLU(),
    nn.ReLU6(), nn.SELU(), nn.SiLU(), nn.Sigmoid(), nn.Softplus(), nn.Softshrink(), nn.Softsign(),
    nn.Tanh(), nn.Tanhshrink(), nn.Threshold(0.1, 0.0),
]  # fmt: skip
ALLOWED = {torch.float64: 1e-10, torch.float32: 1e-5}


def identity(z: Tensor) -> Tensor:
    return z


@dataclass(frozen=True, eq=False)
class Chain:
    """Layers one after the other.

    Attributes:
        build: The network.
        shape: Of one sample.
        fires: Position of a layer in the network -> its f.
    """

    name: str
    build: Callable[[], nn.Sequential]
    shape: tuple[int, ...]
    fires: dict[int, Callable[[Tensor], Tensor]]

    def model(self, dtype: torch.dtype) -> nn.Sequential:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = self.build()
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    nn.init.uniform_(module.weight, 0.5, 1.5)
                    nn.init.normal_(module.bias)
                    nn.init.normal_(module.running_mean)
        return model.eval().to(dtype)

    def inputs(self, dtype: torch.dtype, samples: int = 7) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        return torch.randn(samples, *self.shape, generator=generator).to(dtype)


def reference(
    model: nn.Sequential,
    fires: dict[int, Callable[[Tensor], Tensor]],
    samples: Iterable[Tensor],
) -> dict[str, Tensor]:
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    count = 0
    for x in samples:
        for n, layer in enumerate(model):
            seen, z = x.detach(), layer(x.detach().clone())
            if n in fires:
                z = layer(seen)
                objective = (fires[n](z) ** 2).sum()
                names = [name for name, _ in layer.named_parameters()]
                gradients = torch.autograd.grad(objective, list(layer.parameters()))
                for name, gradient in zip(names, gradients, strict=True):
                    total[f"{n}.{name}"] += gradient.abs()
            x = z.detach()
        count += 1
    return {name: t / count for name, t in total.items()}


def dense(activation: nn.Module) -> Callable[[], nn.Sequential]:
    return lambda: nn.Sequential(nn.Linear(5, 6), activation, nn.Linear(6, 4))


def conv(**options: object) -> Callable[[], nn.Sequential]:
    return lambda: nn.Sequential(nn.Conv2d(4, 6, 3, **options), nn.ReLU(), nn.Flatten())


def _frozen_norm(norm: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda z: F.relu(norm(z))


CHAINS = [
    *(
        Chain(type(f).__name__, dense(f), (5,), {0: f, 2: identity})
        for f in (nn.ReLU(), nn.LeakyReLU(0.2), nn.Tanh(), nn.GELU(), nn.Sigmoid(), nn.Softplus())
    ),
    Chain("no activation", lambda: nn.Sequential(nn.Linear(5, 3)), (5,), {0: identity}),
    Chain("in place", dense(nn.ReLU(inplace=True)), (5,), {0: F.relu, 2: identity}),
    Chain("tokens", dense(nn.ReLU()), (3, 5), {0: F.relu, 2: identity}),
    *(
        Chain(f"conv {options}", conv(**options), (4, 6, 5), {0: F.relu})
        for options in (
            {},
            {"stride": 2, "padding": 1},
            {"dilation": 2},
            {"groups": 2, "bias": False},
            {"padding": 1, "padding_mode": "circular"},
        )
    ),
    Chain(
        "conv1d, conv3d, transposed",
        lambda: nn.Sequential(
            nn.Conv1d(2, 3, 3),
            nn.ReLU(),
            nn.Unflatten(2, (2, 2, 2)),
            nn.Conv3d(3, 2, 2, padding=1),
            nn.ReLU(),
            nn.Flatten(3),
            nn.ConvTranspose2d(2, 3, 2, stride=2),
            nn.ReLU(),
        ),
        (2, 10),
        {0: F.relu, 3: F.relu, 6: F.relu},
    ),
    Chain(
        "pooling before the activation",
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten()),
        (1, 6, 6),
        {0: lambda z: F.relu(F.max_pool2d(z, 2))},
    ),
    Chain(
        "PReLU, itself a layer",
        lambda: nn.Sequential(nn.Linear(3, 4), nn.PReLU(4)),
        (3,),
        {0: nn.PReLU(4).double(), 1: identity},
    ),
]


def assert_close(found: dict[str, Tensor], wanted: dict[str, Tensor], allowed: float) -> None:
    assert found.keys() == wanted.keys()
    for name, want in wanted.items():
        assert found[name].shape == want.shape
        error = float((found[name].double() - want.double()).norm())
        assert error <= allowed * float(want.norm()), f"{name}: {error} of {float(want.norm())}"


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.name)
@pytest.mark.parametrize("dtype", ALLOWED, ids=["float64", "float32"])
@pytest.mark.parametrize("size", [1, 3, 256])
def test_equals_autograd_on_the_local_objective(
    chain: Chain, dtype: torch.dtype, size: int
) -> None:
    data = chain.inputs(torch.float64)
    wanted = reference(chain.model(torch.float64), chain.fires, data.split(1))
    found = hebbian_importance(chain.model(dtype), data.to(dtype).split(size))
    assert all(omega.dtype == dtype for omega in found.values())
    assert_close(found, wanted, ALLOWED[dtype])


def test_through_a_normalisation() -> None:
    def build() -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten())

    chain = Chain("batch norm", build, (2, 5, 5), {})
    model, data = chain.model(torch.float64), chain.inputs(torch.float64)
    fires = {0: _frozen_norm(model[1]), 1: F.relu}
    assert_close(
        hebbian_importance(model, data.split(4)), reference(model, fires, data.split(1)), 1e-10
    )


def test_hebbs_rule_by_hand() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
        net[0].bias.zero_()
        net[2].weight.copy_(torch.tensor([[1.0, 1.0]]))
        net[2].bias.zero_()
    found = hebbian_importance(net, [torch.tensor([[2.0, 1.0], [4.0, -3.0]])])
    # x = (2, 1): y = (2, 0); x = (4, −3): y = (4, 3). (2/N) Σ y_i |x_j| with N = 2
    assert found["0.weight"].tolist() == [[4 + 16, 2 + 12], [12, 9]]
    assert found["0.bias"].tolist() == [6, 3]
    # the last layer is linear: z = 2, then 7; (2/N) Σ |z| y_j
    assert found["2.weight"].tolist() == [[2 * 2 + 7 * 4, 7 * 3]]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda module: type(module).__name__)
def test_one_layer_is_its_whole_network(activation: nn.Module) -> None:
    """Which also says that every activation of torch is seen."""
    net, data = nn.Sequential(nn.Linear(4, 6), activation).double(), torch.randn(6, 4).double()
    assert_close(hebbian_importance(net, [data]), mas_importance(net, [data]), 1e-10)


class Called(nn.Module):
    """The same activation, called in every way there is."""

    def __init__(self, how: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.how = nn.Linear(5, 6), nn.Linear(6, 4), how

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.how(self.first(x)))


WAYS = [F.relu, torch.relu, Tensor.relu, torch.relu_, lambda z: z.clamp(min=0), nn.ReLU()]


@pytest.mark.parametrize("how", WAYS)
def test_an_activation_is_found_however_it_is_called(how: Callable[[Tensor], Tensor]) -> None:
    model, data = Called(how).double(), torch.randn(6, 5).double()
    chain = nn.Sequential(model.first, nn.ReLU(), model.last)
    wanted = reference(chain, {0: F.relu, 2: identity}, data.split(1))
    found = hebbian_importance(model, [data])
    assert torch.allclose(found["first.weight"], wanted["0.weight"], rtol=1e-10)
    assert torch.allclose(found["last.weight"], wanted["2.weight"], rtol=1e-10)


def test_an_activation_of_ones_own() -> None:
    def rough(z: Tensor) -> Tensor:
        return torch.where(z > 0.5, z * z, torch.zeros_like(z))

    model, data = Called(rough).double(), torch.randn(6, 5).double()
    chain = nn.Sequential(model.first, nn.Module(), model.last)
    chain[1].forward = rough
    wanted = reference(chain, {0: rough, 2: identity}, data.split(1))
    found = hebbian_importance(model, data.split(2), activation={"fir*": rough})
    assert torch.allclose(found["first.weight"], wanted["0.weight"], rtol=1e-10)
    plain = hebbian_importance(model, data.split(2))
    assert not torch.allclose(plain["first.weight"], wanted["0.weight"])


def test_only_the_first_activation_counts_and_a_sum_ends_the_way() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            z = self.a(x)
            return z.relu() + z.tanh() + (self.b(x) + x).relu()

    model, data = Branches().double(), torch.randn(5, 4).double()
    found = hebbian_importance(model, [data])
    for name, f in (("a", F.relu), ("b", identity)):
        wanted = reference(nn.Sequential(model.get_submodule(name)), {0: f}, data.split(1))
        assert torch.allclose(found[f"{name}.weight"], wanted["0.weight"], rtol=1e-10)


def test_a_layer_used_twice_is_summed_before_the_absolute_value() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.layer(x).relu())

    model, data = Twice().double(), torch.randn(5, 4).double()
    weight, total = model.layer.weight, torch.zeros(4, 4).double()
    for x in data:
        y = model.layer(x).relu()
        objective = y.square().sum() + model.layer(y.detach()).square().sum()
        total += torch.autograd.grad(objective, weight)[0].abs() / len(data)
    found = hebbian_importance(model, [data])
    assert torch.allclose(found["layer.weight"], total, rtol=1e-10)


class Flattened(nn.Module):
    """Samples and tokens in one dimension, or tokens first."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.layer, self.first = nn.Linear(4, 3), first

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            return self.layer(x.transpose(0, 1)).relu().transpose(0, 1)
        return self.layer(x.flatten(0, 1)).relu().unflatten(0, x.shape[:2])


@pytest.mark.parametrize("first", [False, True], ids=["flattened", "tokens first"])
@pytest.mark.parametrize("tokens", [2, 3, 6])
def test_samples_elsewhere_than_in_the_first_dimension(first: bool, tokens: int) -> None:
    """Also where the number of tokens happens to be the number of samples."""
    model = Flattened(first).double()
    data = torch.randn(6, tokens, 4).double()
    wanted = reference(nn.Sequential(model.layer), {0: F.relu}, data.split(1))
    found = hebbian_importance(model, [data])
    assert torch.allclose(found["layer.weight"], wanted["0.weight"], rtol=1e-10)


def test_tokens_first_where_nothing_cancels() -> None:
    """Two tokens of two samples: the sums agree whichever of them are taken for samples."""
    model = Flattened(first=True).double()
    for p in model.parameters():
        p.data.abs_()
    data = torch.rand(6, 2, 4, dtype=torch.float64)
    wanted = reference(nn.Sequential(model.layer), {0: F.relu}, data.split(1))
    found = hebbian_importance(model, [data])
    assert torch.allclose(found["layer.weight"], wanted["0.weight"], rtol=1e-10)


def test_samples_that_come_one_after_the_other() -> None:
    (branching,) = (case for case in IMPORTANCE if case.name == "branching")
    model, data = branching.model(torch.float64), branching.inputs(6, torch.float64)
    up = data[data.sum(1) > 0]
    wanted = reference(nn.Sequential(model.up), {0: identity}, up.split(1))
    found = hebbian_importance(model, [data])
    assert 0 < len(up) < 6
    assert torch.allclose(6 * found["up.weight"], len(up) * wanted["0.weight"], rtol=1e-10)


def test_attention_is_followed() -> None:
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).double()
    found = hebbian_importance(block, [torch.randn(4, 3, 8).double()])
    assert all(bool((omega > 0).any()) for omega in found.values())


def test_another_head_and_what_has_no_rule(caplog: pytest.LogCaptureFixture) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(3, 4, batch_first=True)
            self.heads = nn.ModuleList(nn.Linear(4, 2) for _ in range(2))

        def forward(self, x: Tensor, head: int) -> Tensor:
            return self.heads[head](self.rnn(x)[0][:, -1])

    with caplog.at_level(logging.WARNING, logger="growmas"):
        found = hebbian_importance(
            Net(), [torch.randn(4, 5, 3)], forward=lambda model, batch: model(batch, 1)
        )
    assert bool((found["heads.1.weight"] > 0).all())
    idle = [name for name, omega in found.items() if not bool(omega.any())]
    assert {"heads.0.weight", "rnn.weight_ih_l0", "rnn.bias_hh_l0"} <= set(idle)
    assert "rnn.weight_hh_l0" in caplog.text
    assert "heads" not in caplog.text


@pytest.mark.parametrize("case", [MLP, CONVNET], ids=lambda case: case.name)
def test_law_batches_and_order_do_not_matter(case: Case) -> None:
    model, data = case.model(torch.float64), case.inputs(9, torch.float64)
    whole = hebbian_importance(model, [data])
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    assert_close(hebbian_importance(model, data[order].split(4)), whole, 1e-10)


def test_law_scaling_a_layer_by_c_scales_its_weights_by_c_and_the_next_by_c_squared() -> None:
    """Prediction for ReLU layers without bias: y → c y, so Ω₁ = 2yx → c Ω₁ and Ω₂ → c² Ω₂."""
    model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False))
    model, data = model.double(), torch.randn(5, 4).double()
    before = hebbian_importance(model, [data])
    with torch.no_grad():
        model[0].weight *= 3.0
    after = hebbian_importance(model, [data])
    assert_close(after, {"0.weight": 3 * before["0.weight"], "2.weight": 9 * before["2.weight"]},
                 1e-10)  # fmt: skip


def test_small_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = CONVNET.model(torch.float64), CONVNET.inputs(5, torch.float64)
    whole = hebbian_importance(model, [data])
    monkeypatch.setattr("growmas.importance.hebbian.CHUNK_ELEMENTS", 1)
    assert_close(hebbian_importance(model, [data]), whole, 1e-10)


@pytest.mark.parametrize("case", IMPORTANCE, ids=lambda case: case.name)
def test_a_measured_model_is_bit_identical(case: Case) -> None:
    model = case.model()
    for n, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(n % 2 == 0)
    before, random_state = snapshots.of_model(model), snapshots.of_random_state()
    hebbian_importance(model, case.inputs(6).split(4))
    assert snapshots.of_model(model) == before
    assert snapshots.of_random_state() == random_state


def test_no_gradient_is_taken_through_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every graph made is that of one layer: it ends at a copy of the layer's own output."""
    ends = []
    real = torch.autograd.grad

    def spy(outputs: Tensor, inputs: Tensor, *rest: object, **options: object) -> object:
        ends.append(inputs)
        return real(outputs, inputs, *rest, **options)

    model, data = MLP.model(), MLP.inputs(4)
    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "grad", spy)
        hebbian_importance(model, [data])
    assert ends
    assert all(isinstance(z, Tensor) and z.is_leaf and len(z) <= 4 for z in ends)


def test_errors() -> None:
    model, data = MLP.model(), MLP.inputs(4)
    with pytest.raises(DataError, match="no samples"):
        hebbian_importance(model, [])
    with pytest.raises(DataError, match="batch 1: the model's output is NaN"):
        hebbian_importance(model, [data, data * float("nan")])
    with pytest.raises(ImportanceError, match=r"activation=\['fc9'\] does not match any layer"):
        hebbian_importance(model, [data], activation={"fc9": F.relu})
    with pytest.raises(ImportanceError, match="has a rule for local importance"):
        hebbian_importance(
            nn.GRU(3, 4, batch_first=True),
            [torch.randn(2, 5, 3)],
            forward=lambda model, batch: model(batch)[0],
        )

    class Overwrites(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            z = self.layer(x)
            x.relu_()
            return z + x

    with pytest.raises(ImportanceError, match=r"layer.weight.* is overwritten .* inplace=False"):
        hebbian_importance(Overwrites(), [torch.randn(2, 3)])
    wrapped = [{"inputs": torch.randn(2, 3, 4), "note": torch.zeros(5)}]
    with pytest.raises(ImportanceError, match="an output of 6 rows for 2 samples"):
        hebbian_importance(
            Flattened(first=False), wrapped, forward=lambda model, batch: model(batch["inputs"])
        )
