"""Models and batches that once crashed, were changed, or gave a wrong importance."""

from typing import Any

import pytest
import reference
import snapshots
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.checkpoint import checkpoint

from growmas import (
    DataError,
    GrowmasError,
    GrowmasWarning,
    ImportanceError,
    accumulate_importance,
    hebbian_importance,
    importance_sum,
    mas_importance,
)

DATA = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def close(found: dict[str, Tensor], wanted: dict[str, Tensor], rtol: float = 1e-10) -> None:
    assert found.keys() == wanted.keys()
    for name, want in wanted.items():
        error = float((found[name].double() - want.double()).norm())
        assert error <= rtol * float(want.double().norm()), name


class Sine(nn.Module):
    """A parameter without a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.phase = nn.Linear(4, 3), nn.Parameter(torch.linspace(0.1, 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * torch.sin(self.phase)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_of_half_precision_do_not_fall_short(dtype: torch.dtype) -> None:
    """2,000 equal terms: sums in bfloat16 would stop growing at 256 of them."""
    model = Sine().to(dtype)
    one = DATA[:1].to(dtype)
    alone = mas_importance(model, [one])
    found = mas_importance(model, [one.expand(500, -1)] * 4)
    close(found, alone, 0.02)


def test_complex_parameters_are_refused_by_name() -> None:
    model = nn.Sequential(nn.Linear(4, 3).double())
    model.register_parameter("wave", nn.Parameter(torch.zeros(2, dtype=torch.complex128)))
    with pytest.raises(GrowmasError, match=r"'wave' is complex.*view_as_real"):
        mas_importance(model, [DATA])
    assert set(mas_importance(model, [DATA], parameters=("0.*",))) == {"0.weight", "0.bias"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_models_that_cannot_be_followed_are_refused_in_words() -> None:
    script = nn.Sequential(torch.jit.script(nn.Linear(4, 3).double()))
    lazy = nn.Sequential(nn.LazyLinear(3))
    meta = nn.Linear(4, 3, device="meta")
    for model, message in (
        (script, r"submodule '0' is compiled by torch.jit"),
        (lazy, r"'0.weight' is lazy .* call the model once"),
        (meta, r"'weight' is on the meta device"),
    ):
        with pytest.raises(GrowmasError, match=message):
            mas_importance(model, [DATA])


@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_batches_are_refused_in_words() -> None:
    with pytest.raises(GrowmasError, match=r"batch 0 has a tensor of layout .*sparse.*to_dense"):
        mas_importance(nn.Linear(4, 3).double(), [DATA.to_sparse()])


def test_a_compiled_model_has_the_names_of_the_model() -> None:
    model = nn.Linear(4, 3).double()
    compiled = torch.compile(model)
    assert set(importance_sum(compiled, [DATA]).sums) == {"weight", "bias"}
    close(mas_importance(compiled, [DATA]), mas_importance(model, [DATA]))
    close(hebbian_importance(compiled, [DATA]), hebbian_importance(model, [DATA]))


class Silent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).detach()


def gather(model: nn.Module, batches: list[Tensor]) -> Any:
    with accumulate_importance(model) as running:
        for batch in batches:
            model(batch)
    return running.importance()


@pytest.mark.parametrize("measure", [mas_importance, importance_sum, gather])
def test_an_importance_of_zero_is_warned_of_wherever_it_is_measured(measure: Any) -> None:
    with pytest.warns(GrowmasWarning, match="zero for every parameter"):
        measure(Silent(), [DATA])


def test_a_local_importance_of_zero_is_warned_of() -> None:
    model = nn.Sequential(nn.Linear(4, 3).double())
    with pytest.warns(GrowmasWarning, match="zero for every parameter"):
        hebbian_importance(model, [DATA * 0], activation={"0": lambda z: z * 0})


class Seq2Seq(nn.Module):
    """An output such as Hugging Face's, with the states of the encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        state = self.encoder(x).tanh()
        return {"logits": self.head(state), "encoder_last_hidden_state": state}


def test_of_sequence_to_sequence_outputs_the_logits_are_measured() -> None:
    model = Seq2Seq().double()
    wanted = reference.importance(model, DATA.split(1), forward=lambda m, x: m(x)["logits"])
    close(mas_importance(model, [DATA]), wanted)

    def states(output: dict[str, Tensor]) -> Tensor:
        return output["encoder_last_hidden_state"].square().sum(1)

    asked = mas_importance(model, [DATA], function=states)
    assert not asked["head.weight"].any()


def test_a_packed_sequence_is_not_taken_apart() -> None:
    gru = nn.GRU(4, 3).double()
    parts = [DATA[:3], DATA[3:], DATA[:1]]
    samples = [pack_sequence([part]) for part in parts]

    def last(model: nn.Module, packed: Any) -> Tensor:
        return model(packed)[1][-1]

    found = mas_importance(gru, [pack_sequence(parts, enforce_sorted=False)], forward=last)
    close(found, reference.importance(gru, samples, forward=last))


class Drifts(nn.Module):
    """Weights that a forward pass moves for good."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.layer, self.how = nn.Linear(4, 3).double(), how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "data":
            self.layer.weight.data.mul_(0.9)
        elif self.how == "no_grad":
            with torch.no_grad():
                self.layer.weight.clamp_(-0.1, 0.1)
        elif self.how == "attribute":
            self.last = x.detach()
        elif self.how == "moved":
            self.layer = self.layer.to(torch.float32)
            return self.layer(x.float()).double()
        else:
            self.layer.bias = nn.Parameter(self.layer.bias.detach() + 1)
        return self.layer(x)


@pytest.mark.parametrize("how", ["data", "no_grad", "attribute", "moved", "parameter"])
def test_weights_and_attributes_that_a_forward_pass_changes_are_put_back(how: str) -> None:
    model = Drifts(how)
    before = snapshots.of_model(model)
    try:
        mas_importance(model, [DATA])
    except GrowmasError:
        assert how in ("data", "parameter")
    assert snapshots.of_model(model) == before


class NearKinks(nn.Module):
    """Inputs of ReLUs that are 0 but for rounding, as in float32 networks."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        z = self.first(x)
        flip = 1e-12 if len(x) > 1 else -1e-12
        z = torch.where(x[:, :1] > 0.5, z * 1e-13 + flip, z)
        return self.last(z.relu())


def test_a_flipped_kink_is_not_taken_for_samples_that_interact() -> None:
    data = DATA.clone()
    data[:, 0] = torch.tensor([1.0, 0, 0, 0, 0, 0])
    model = NearKinks().double()
    found = mas_importance(model, [data])
    assert all(omega.isfinite().all() for omega in found.values())


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_an_offset_does_not_hide_an_influence(offset: float, dtype: torch.dtype) -> None:
    layer = nn.Linear(4, 3).to(dtype)

    def forward(model: nn.Module, x: Tensor) -> Tensor:
        y = model(x)
        return y + 2 * y.mean(0) + offset

    with pytest.raises(GrowmasError, match="depends on the rest of its batch"):
        mas_importance(layer, [DATA.to(dtype)], forward=forward)


def test_parameters_that_are_left_out_cost_nothing() -> None:
    model = Sine().double()
    model.layer.weight.requires_grad_(False)
    whole = mas_importance(model, [DATA])
    for parameters, names in (
        ("trainable", {"layer.bias", "phase"}),
        (("layer.*",), {"layer.weight", "layer.bias"}),
        (["phase"], {"phase"}),
    ):
        found = mas_importance(model, [DATA], parameters=parameters)
        close(found, {name: whole[name] for name in names if name in found})
        assert set(found) == names
    for wrong in ("some", ("head.*",)):
        with pytest.raises(GrowmasError, match=r"parameters="):
            mas_importance(model, [DATA], parameters=wrong)
    assert not model.layer.weight.requires_grad


class _Renews(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.layer.weight = nn.Parameter(self.layer.weight.detach())
        return self.layer(x)


def test_a_parameter_that_is_put_in_anew_while_it_is_measured_is_refused_and_restored() -> None:
    model = _Renews()
    weight = model.layer.weight
    with pytest.raises(ImportanceError, match="another parameter in the place of 'weight'"):
        mas_importance(model, [torch.rand(2, 3)])
    assert model.layer.weight is weight


def test_a_batch_without_values_is_refused_in_words() -> None:
    with pytest.raises(DataError, match="meta device"):
        mas_importance(nn.Linear(3, 2), [torch.rand(2, 3, device="meta")])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_nested_tensor_is_refused_in_words() -> None:
    nested = torch.nested.nested_tensor([torch.rand(2, 3), torch.rand(1, 3)])
    with pytest.raises(DataError, match="layout nested"):
        mas_importance(nn.Linear(3, 2), [nested])


def test_under_autocast_the_rules_are_used_without_a_warning() -> None:
    """Parameters and objective are float32, but gradients have the precision of bfloat16."""

    class Half(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return super().forward(x).float()

    torch.manual_seed(3)
    model, data = Half(nn.Linear(90, 80), nn.Tanh(), nn.Linear(80, 10)), torch.randn(12, 90)
    found = mas_importance(model, [data])  # warnings are errors here
    close(found, reference.importance(model, data.split(1)), 0.02)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("samples", [1, 6])
@pytest.mark.parametrize("below", ["a layer", "inputs with gradients"])
def test_a_checkpoint_of_the_old_kind_is_refused_with_the_remedy(below: str, samples: int) -> None:
    """Its parameters are not in the graph: with nothing to measure below it, Ω would be 0."""

    class Saving(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            y = self[0](x) if below == "a layer" else x.clone().requires_grad_()
            inner = nn.Sequential(self[1], self[2])
            return self[3](checkpoint(inner, y, use_reentrant=True))

    model = Saving(nn.Linear(4, 4), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    before = snapshots.of_model(model)
    with pytest.raises(ImportanceError, match="use_reentrant=False"):
        mas_importance(model, [DATA[:samples]])
    assert snapshots.of_model(model) == before
