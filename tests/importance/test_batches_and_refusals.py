"""What may be passed as data, and what is said when it cannot be used."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from cases import CONVNET, MLP, Case
from torch import Tensor, nn

from growmas import (
    GrowmasError,
    GrowmasWarning,
    accumulate_importance,
    compare_estimators,
    distributed_importance,
    hebbian_importance,
    importance_sum,
    mas_importance,
)
from growmas.errors import DataError, ImportanceError

DATA = MLP.inputs(10)


class Pair(NamedTuple):
    inputs: Tensor
    labels: Tensor


class Keywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor, scale: float = 1.0, extra: None = None) -> Tensor:
        return self.head(self.norm(self.body(x)).relu() * scale)


def normed() -> nn.Module:
    torch.manual_seed(0)
    return Keywords()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.allclose(a[n], b[n], rtol=1e-5) for n in a)


@pytest.fixture
def plain() -> dict[str, Tensor]:
    return mas_importance(MLP.model(), [DATA])


def as_inputs_and_labels(x: Tensor) -> Any:
    return (x, torch.zeros(len(x), dtype=torch.long))


def as_list(x: Tensor) -> Any:
    return [x, torch.zeros(len(x), dtype=torch.long)]


def as_named_tuple(x: Tensor) -> Any:
    return Pair(x, torch.zeros(len(x), dtype=torch.long))


def as_inputs_and_number(x: Tensor) -> Any:
    return (x, 3)


def as_inputs_and_scalar_tensor(x: Tensor) -> Any:
    return (x, torch.tensor(3))


@pytest.mark.parametrize(
    "batch_of",
    [as_inputs_and_labels, as_list, as_named_tuple, as_inputs_and_number,
     as_inputs_and_scalar_tensor],
)  # fmt: skip
@pytest.mark.parametrize("model_of", [MLP.model, normed])
def test_labels_are_left_aside(
    batch_of: Callable[[Tensor], Any], model_of: Callable[[], nn.Module]
) -> None:
    plain = mas_importance(model_of(), [DATA])
    found = mas_importance(model_of(), [batch_of(part) for part in DATA.split(4)])
    assert same(found, plain)


@pytest.mark.parametrize("key", ["label", "labels", "target", "targets"])
def test_dicts_are_keyword_arguments_without_labels(key: str) -> None:
    model, plain = normed(), mas_importance(normed(), [DATA])
    batches = [{"x": part, key: torch.zeros(len(part))} for part in DATA.split(4)]
    assert same(mas_importance(model, batches), plain)


def test_dicts_may_hold_plain_values() -> None:
    plain = mas_importance(normed(), [DATA])
    assert same(mas_importance(normed(), [{"x": DATA, "scale": 1.0, "extra": None}]), plain)


@pytest.mark.parametrize("model_of", [MLP.model, normed])
def test_forward_gets_the_batch_as_it_was_given(model_of: Callable[[], nn.Module]) -> None:
    plain = mas_importance(model_of(), [DATA])
    named = mas_importance(
        model_of(), [as_named_tuple(DATA)], forward=lambda model, batch: model(batch.inputs)
    )
    assert same(named, plain)


def test_a_foreign_batch_goes_through_forward(plain: dict[str, Tensor]) -> None:
    class Foreign:
        def __init__(self, x: Tensor) -> None:
            self.x = x

    batches = [Foreign(part) for part in DATA.split(3)]
    found = mas_importance(MLP.model(), batches, forward=lambda model, batch: model(batch.x))
    assert same(found, plain)


def test_a_foreign_batch_needs_no_rule_either() -> None:
    plain = mas_importance(normed(), [DATA])
    found = mas_importance(
        normed(), [str(n) for n in range(10)], forward=lambda m, key: m(DATA[int(key)][None])
    )
    assert same(found, plain)


def test_a_loader_and_a_generator_are_read_once(plain: dict[str, Tensor]) -> None:
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(DATA), batch_size=4)
    assert same(mas_importance(MLP.model(), loader), plain)
    assert same(mas_importance(MLP.model(), (part for part in DATA.split(4))), plain)


def test_empty_batches_count_nothing(plain: dict[str, Tensor]) -> None:
    assert same(mas_importance(MLP.model(), [DATA[:0], DATA[:4], DATA[:0], DATA[4:]]), plain)


def test_it_works_where_gradients_are_switched_off(plain: dict[str, Tensor]) -> None:
    with torch.no_grad():
        assert same(mas_importance(MLP.model(), [DATA]), plain)


def test_nothing_measured_requires_gradients(plain: dict[str, Tensor]) -> None:
    assert not any(omega.requires_grad for omega in plain.values())


def test_a_tie_stands_under_its_first_name() -> None:
    net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    net[2].weight = net[0].weight
    assert list(mas_importance(net, [DATA])) == ["0.weight", "0.bias", "2.bias"]


def test_integer_parameters_are_not_measured() -> None:
    net = MLP.model()
    net.register_parameter("steps", nn.Parameter(torch.tensor(3), requires_grad=False))
    assert "steps" not in mas_importance(net, [DATA])


def test_a_parameter_without_entries_is_no_trouble() -> None:
    net = normed()
    net.register_parameter("nothing", nn.Parameter(torch.zeros(0)))
    assert mas_importance(net, [DATA])["nothing"].shape == (0,)
    only = nn.Sequential(nn.Flatten(1))
    only.register_parameter("nothing", nn.Parameter(torch.zeros(0)))
    with pytest.warns(GrowmasWarning, match="importance just measured is zero"):
        assert mas_importance(only, [DATA])["nothing"].shape == (0,)


@pytest.mark.parametrize("batches", [[], [DATA[:0]], iter(())])
def test_no_data_is_refused(batches: Any) -> None:
    with pytest.raises(DataError, match="no samples: importance needs at least one batch"):
        mas_importance(MLP.model(), batches)


@pytest.mark.parametrize("estimator", ["exact", "batch"])
def test_nan_inputs_are_refused_with_the_batch_named(estimator: str) -> None:
    bad = DATA[6:].clone()
    bad[1, 2] = torch.nan
    with pytest.raises(DataError, match=r"batch 1: .*NaN or infinite for 1 of 4 samples.*inputs"):
        mas_importance(MLP.model(), [DATA[:6], bad], estimator=estimator)


def test_infinite_parameters_are_refused() -> None:
    net = MLP.model()
    with torch.no_grad():
        net[4].bias[0] = torch.inf
    with pytest.raises(DataError, match=r"infinite .* look for NaN in the inputs or .*parameters"):
        mas_importance(net, [DATA])


def test_a_gradient_that_is_not_finite_never_becomes_importance() -> None:
    """√0 has a finite value and an infinite slope."""
    net = nn.Sequential(nn.Linear(6, 2, bias=False))
    with pytest.raises(GrowmasError, match=r"(?i)gradient.*(nan|finite)"):
        mas_importance(net, [torch.zeros(3, 6)], function=lambda out: out.abs().sum(1).sqrt())


def test_unknown_words_are_refused() -> None:
    with pytest.raises(ImportanceError, match=r"function='norm' .*'squared_norm', 'vector', or a"):
        mas_importance(MLP.model(), [DATA], function="norm")
    with pytest.raises(ImportanceError, match="estimator='fisher' is not known: give 'exact' or"):
        mas_importance(MLP.model(), [DATA], estimator="fisher")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda out: out.sum(), r"one scalar per sample, a tensor \[N\]; it returned \(\)"),
        (lambda out: out, r"it returned \(10, 3\)"),
        (lambda out: 3.0, "it returned float"),
        (lambda out: out.sum(0), "10 samples but the output has 3: the first dimension"),
    ],
)
def test_a_function_must_give_one_scalar_per_sample(
    function: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(ImportanceError, match=message):
        mas_importance(MLP.model(), [DATA], function=function)


class Gives(nn.Module):
    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.change = change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.layer(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y.sum(), r"expected tensors \[N, ...\]"),
        (lambda y: "words", "the model returned str"),
        (lambda y: (y, y[:1]), r"\(10, 3\), \(1, 3\) do not agree on the number of samples"),
        (lambda y: y.mT, "10 samples but the output has 3"),
        (lambda y: y.argmax(1), "the model returned Tensor"),
    ],
)
def test_outputs_must_have_one_row_per_sample(
    change: Callable[[Tensor], Any], message: str
) -> None:
    with pytest.raises(ImportanceError, match=message):
        mas_importance(Gives(change), [DATA])


@pytest.mark.parametrize("batch", ["words", 3, [1, 2], [], None])
def test_a_batch_that_cannot_be_passed_on_is_refused(batch: Any) -> None:
    with pytest.raises(
        DataError, match=r"cannot be passed to the model: give a tensor, .*forward="
    ):
        mas_importance(MLP.model(), [batch])


def norms_without_statistics(case: Case) -> nn.Module:
    net = case.model()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = None
    return net


def batchnorm1d() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.ReLU(), nn.Linear(4, 2)
    )


def test_samples_that_interact_are_refused() -> None:
    with pytest.raises(ImportanceError, match=r"depends on the rest of its batch.*BatchNorm"):
        mas_importance(norms_without_statistics(CONVNET), [CONVNET.inputs(8)])


def test_samples_that_cannot_be_alone_are_refused() -> None:
    with pytest.raises(ImportanceError, match="BatchNorm"):
        mas_importance(batchnorm1d(), [DATA])


def test_samples_that_interact_are_noticed_after_a_first_batch_of_one() -> None:
    data = CONVNET.inputs(9)
    with pytest.raises(ImportanceError, match="depends on the rest of its batch"):
        mas_importance(norms_without_statistics(CONVNET), [data[:1], data[1:]])


def test_a_contrast_between_samples_is_refused() -> None:
    net = MLP.model()
    with pytest.raises(ImportanceError, match="a contrast between samples"):
        mas_importance(net, [DATA], forward=lambda model, x: model(x) - model(x).mean(0))


def test_noise_is_refused() -> None:
    net = MLP.model()
    with pytest.raises(ImportanceError, match="or the forward pass is random"):
        mas_importance(
            net, [DATA], forward=lambda m, x: nn.functional.dropout(m(x), 0.5, training=True)
        )


def test_a_model_that_ignores_its_parameters_has_no_importance() -> None:
    for estimator in ("exact", "batch"):
        with pytest.warns(GrowmasWarning, match="importance just measured is zero"):
            found = mas_importance(
                MLP.model(), [DATA], forward=lambda model, x: x, estimator=estimator
            )
        assert not any(omega.any() for omega in found.values())


class JoinsLate(nn.Module):
    """The first two samples are as they are alone, until a third joins them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.layer(x)
        return hidden + hidden[2:].sum(0)


def test_samples_that_influence_the_first_two_are_noticed() -> None:
    with pytest.raises(ImportanceError, match=r"the output of one sample depends on the rest"):
        mas_importance(JoinsLate(), [DATA])


@pytest.mark.parametrize("measure", [mas_importance, hebbian_importance, importance_sum])
@pytest.mark.parametrize("batches", [DATA, {"x": DATA}, None, 3])
def test_one_batch_is_not_taken_for_batches(measure: Callable[..., Any], batches: Any) -> None:
    with pytest.raises(DataError, match=r"expected an iterable .*a single batch as \[batch\]"):
        measure(MLP.model(), batches)


@pytest.mark.parametrize("measure", [mas_importance, hebbian_importance])
@pytest.mark.parametrize(
    "change", [lambda x: x[:, :-1], lambda x: x.bfloat16(), lambda x: x.long()]
)
def test_a_batch_the_model_does_not_run_on(measure: Any, change: Any) -> None:
    good = MLP.inputs(4)
    with pytest.raises(DataError, match=r"the first batch: the model does not run on it \("):
        measure(MLP.model(), [change(good)])
    with pytest.raises(
        DataError, match=r"batch 1: the model does not run on it \(.*forward=lambda"
    ):
        measure(MLP.model(), [good, change(good)])


@pytest.mark.parametrize("forward", [5, "logits", {"head": 0}])
@pytest.mark.parametrize(
    "measure",
    [mas_importance, hebbian_importance, importance_sum, compare_estimators,
     distributed_importance],
)  # fmt: skip
def test_a_forward_that_cannot_be_called_is_refused(measure: Any, forward: Any) -> None:
    with pytest.raises(GrowmasError, match=r"forward=.* expected a function of \(model, batch\)"):
        measure(MLP.model(), [DATA], forward=forward)


@pytest.mark.parametrize("every", [0, -1, 1.5, "2", True])
def test_every_must_be_a_number_of_requests(every: Any) -> None:
    with (
        pytest.raises(GrowmasError, match=r"every=.*expected a whole number >= 1"),
        accumulate_importance(MLP.model(), every=every),
    ):
        pass


@pytest.mark.parametrize("measure", [mas_importance, hebbian_importance, importance_sum])
def test_a_model_must_be_a_module(measure: Any) -> None:
    with pytest.raises(GrowmasError, match=r"model=5: expected a torch.nn.Module"):
        measure(5, [DATA])
