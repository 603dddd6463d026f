"""Warnings, the diagnosis and its tables, and the strength proposed."""

import copy
import io
import math
import re
import warnings
from functools import partial
from pathlib import Path

import pytest
import snapshots
import torch
from cases import CONVNET, MLP, TWO_HEADS
from rich.console import Console
from torch import Tensor, nn

from growmas import MAS, GrowmasWarning
from growmas.errors import DataError, PenaltyError
from growmas.penalty import Diagnosis, ParameterDiagnosis
from growmas.penalty.diagnosis import quantiles

DATA = [MLP.inputs(8, torch.float64, seed=n) for n in range(3)]
SGD = partial(torch.optim.SGD, lr=0.01)


@pytest.fixture
def model() -> nn.Module:
    return MLP.model(torch.float64)


def loss(model: nn.Module, x: Tensor) -> Tensor:
    return (model(x) - 1).square().mean()


def move(parameter: nn.Parameter, by: float = 0.1) -> None:
    with torch.no_grad():
        parameter.add_(by)


def steps(mas: MAS, x: Tensor, count: int) -> None:
    for _ in range(count):
        mas.model.zero_grad()
        loss(mas.model, x).backward()
        mas.penalty_grad_()


def messages(mas: MAS, x: Tensor, count: int) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        steps(mas, x, count)
    assert all(w.category is GrowmasWarning and w.filename == __file__ for w in caught)
    return [str(w.message) for w in caught]


def test_nothing_to_say_in_ordinary_training(model: nn.Module) -> None:
    mas = MAS(model, strength=0.01)
    mas.consolidate([DATA[0]])
    optimizer = SGD(model.parameters())
    for _ in range(101):
        optimizer.zero_grad()
        loss(model, DATA[1]).backward()
        mas.penalty_grad_()
        optimizer.step()
    assert mas.diagnose([DATA[1]], loss).findings == ()


def test_importance_that_is_zero(model: nn.Module) -> None:
    mas = MAS(model)
    with pytest.warns(GrowmasWarning, match="zero for every parameter: this task is not") as caught:
        mas.consolidate([DATA[0]], forward=lambda model, x: model(x) * 0)
    assert caught[0].filename == __file__
    assert "look for a detach" in mas.diagnose().findings[0]
    assert not any(mas.omega[name].any() for name in mas.omega)


def test_a_penalty_that_is_zero_although_something_moved() -> None:
    model = TWO_HEADS.model(torch.float64)
    mas = MAS(model)
    mas.consolidate([DATA[0]], forward=lambda model, x: model(x, 0))
    move(model.heads[1].weight)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for _ in range(9):
        mas.penalty_grad_()
    with pytest.warns(GrowmasWarning, match=r"exactly zero although 'heads.1.weight' moved .*opti"):
        mas.penalty_grad_()
    for _ in range(100):
        mas.penalty()
    assert len(mas.diagnose().findings) == 1


def test_a_penalty_that_may_be_zero() -> None:
    model = TWO_HEADS.model(torch.float64)
    mas = MAS(model)
    mas.consolidate([DATA[0]], forward=lambda model, x: model(x, 0))
    for _ in range(10):
        mas.penalty_grad_()  # nothing moved
    move(model.heads[1].weight)
    model.body.requires_grad_(False)
    model.heads[0].requires_grad_(False)
    for _ in range(100):
        mas.penalty_grad_()  # only what is free is trained
    mas.strength = 0.0
    move(model.body.weight)
    for _ in range(1000):
        mas.penalty_grad_()
    assert mas.diagnose().findings == ()


def test_a_penalty_that_swamps_the_loss_is_told_once_a_task(model: nn.Module) -> None:
    mas = MAS(model, strength=1e5)
    mas.consolidate([DATA[0]])
    move(model[0].weight)
    assert messages(mas, DATA[1], 9) == []
    (message,) = messages(mas, DATA[1], 191)
    times = float(re.search(r"is ([\d.e+]+) times that of the loss", message)[1])
    share = mas.diagnose([DATA[1]], loss).gradient_share
    assert times == pytest.approx(share, rel=0.01)
    assert mas.diagnose([DATA[1]], loss).findings == (message,)
    assert mas.diagnose().findings == ()
    mas.consolidate([DATA[1]])
    move(model[0].weight)
    assert len(messages(mas, DATA[2], 200)) == 1


def test_a_scaled_gradient_is_compared_as_it_is(model: nn.Module) -> None:
    mas = MAS(model, strength=1.0)
    mas.consolidate([DATA[0]])
    move(model[0].weight, 0.01)
    share = mas.diagnose([DATA[1]], loss).gradient_share
    assert 1e-4 < share < 10
    for _ in range(10):
        model.zero_grad()
        (1e-6 * loss(model, DATA[1])).backward()
        mas.penalty_grad_(scale=1e-6)


def test_the_numbers_equal_plain_autograd(model: nn.Module) -> None:
    mas = MAS(model, strength={"*": 0.5, "2.*": 2.0}, exclude=["4.bias"])
    mas.consolidate([DATA[0]])
    mas.consolidate([DATA[1]])
    for p in model.parameters():
        move(p)
    model[2].bias.requires_grad_(False)
    found = mas.diagnose(DATA[1:], loss)
    names = [n for n, p in model.named_parameters() if n in mas.omega and p.requires_grad]
    tensors = [model.get_parameter(n) for n in names]
    penalty = mas.penalty()
    pull = torch.autograd.grad(penalty, tensors)
    push = [torch.autograd.grad(loss(model, x), tensors) for x in DATA[1:]]
    squares = [sum(float(g.square().sum()) for g in gradients) for gradients in push]
    assert found.penalty == pytest.approx(float(penalty.detach()))
    assert found.gradient == pytest.approx(math.sqrt(sum(float(g.square().sum()) for g in pull)))
    assert found.loss_gradient == pytest.approx(math.sqrt(sum(squares) / 2))
    assert found.loss == pytest.approx(sum(loss(model, x).item() for x in DATA[1:]) / 2)
    assert found.penalty_to_loss == pytest.approx(found.penalty / found.loss)
    assert found.gradient_share == pytest.approx(found.gradient / found.loss_gradient)
    by_name = {p.name: p for p in found.parameters}
    assert by_name.keys() == mas.omega.keys()
    assert (by_name["2.bias"].gradient, by_name["2.bias"].loss_gradient) == (0.0, 0.0)
    assert by_name["2.bias"].gradient_share is None
    for name, gradient in zip(names, pull, strict=True):
        assert by_name[name].gradient == pytest.approx(float(gradient.norm()))
        assert by_name[name].moved == pytest.approx(0.1)
        assert by_name[name].elements == gradient.numel()
        assert by_name[name].omega == quantiles(mas.omega[name])
    assert sum(p.penalty for p in found.parameters) == pytest.approx(found.penalty)


@pytest.mark.parametrize("count", [1, 2, 10, 99, 1000])
def test_quantiles_are_nearest_ranks(count: int) -> None:
    values = torch.arange(1, count + 1, dtype=torch.float64)[torch.randperm(count)]
    ranks = tuple(float(max(1, math.ceil(level * count))) for level in (0.5, 0.9, 0.99, 1.0))
    assert quantiles(values) == ranks
    assert quantiles(torch.zeros(0)) == (0.0,) * 4


def test_diagnosis_and_proposal_leave_no_trace() -> None:
    model = CONVNET.model(torch.float64).train()
    x = CONVNET.inputs(8, torch.float64)
    model(x).sum().backward()
    mas = MAS(model)
    mas.consolidate([x])
    move(model[0].weight)
    model[1].eval()
    before = (snapshots.of_model(model), snapshots.of_penalty(mas), snapshots.of_random_state())
    mas.diagnose([x], loss)
    mas.propose_strength([x, x], loss, optimizer=SGD)
    with pytest.raises(RuntimeError):
        mas.diagnose([x[:, :1]], loss)
    after = (snapshots.of_model(model), snapshots.of_penalty(mas), snapshots.of_random_state())
    assert after == before


def test_what_can_be_told_without_data_or_tasks(model: nn.Module) -> None:
    mas = MAS(model)
    nothing = mas.diagnose()
    assert (nothing.parameters, nothing.penalty, nothing.measured) == ((), 0.0, ())
    assert (nothing.loss, nothing.loss_gradient, nothing.gradient_share) == (None,) * 3
    with pytest.raises(PenaltyError, match="give batches and loss=lambda model, batch"):
        mas.diagnose([DATA[0]])
    with pytest.raises(DataError, match="batches is empty"):
        mas.diagnose([], loss)


def printed(found: object, encoding: str) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    Console(width=130, file=file).print(found)
    file.flush()
    return "".join(line.rstrip() + "\n" for line in raw.getvalue().decode(encoding).splitlines())


QUANTILES = (0.0, 0.25, 1234.5, 1e-7)
BY_HAND = Diagnosis(
    parameters=(
        ParameterDiagnosis("body.weight", 1200, 0.5, QUANTILES, 0.01, 0.75, 3.0, 4.0),
        ParameterDiagnosis("body.bias", 30, 2.0, (0.0,) * 4, 0.0, 0.25, 4.0, 0.0),
    ),
    penalty=1.0,
    loss=2.0,
    gradient=5.0,
    loss_gradient=4.0,
    measured=({"body.weight": QUANTILES}, {"body.weight": QUANTILES, "body.bias": QUANTILES}),
    findings=("something is wrong: do this",),
)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_tables(encoding: str, request: pytest.FixtureRequest) -> None:
    text = printed(BY_HAND, encoding)
    golden = Path(__file__).parent / "golden" / f"diagnosis_{encoding}.txt"
    if request.config.getoption("--regenerate"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_a_table_before_the_first_task(model: nn.Module) -> None:
    assert "all" in printed(MAS(model).diagnose(), "ascii")


def scaled(factor: float) -> MAS:
    """Ω of a network whose output is `factor` times as large, on the same parameters."""
    mas = MAS(MLP.model(torch.float64))
    mas.consolidate([DATA[0]], forward=lambda model, x: factor * model(x))
    return mas


def test_proposals_scale_as_predicted() -> None:
    def proposal(mas: MAS, share: float = 0.1) -> float:
        return mas.propose_strength(DATA[1:], loss, optimizer=SGD, share=share)

    one = proposal(scaled(1.0))
    assert proposal(scaled(3.0)) == pytest.approx(one / 9)
    assert proposal(scaled(1.0), share=0.4) == pytest.approx(4 * one)
    other = scaled(1.0)
    other.strength = 17.0
    assert proposal(other) == pytest.approx(one)


def test_at_the_proposed_strength_the_share_is_as_stated() -> None:
    mas = scaled(1.0)
    mas.strength = mas.propose_strength([DATA[1]], loss, optimizer=SGD, share=0.25)
    before = mas.diagnose([DATA[1]], loss).loss_gradient
    optimizer = SGD(mas.model.parameters())
    loss(mas.model, DATA[1]).backward()
    optimizer.step()
    assert mas.diagnose().gradient / before == pytest.approx(0.25)


def test_more_steps_propose_less() -> None:
    few, many = (scaled(1.0).propose_strength(DATA[1:] * n, loss, optimizer=SGD) for n in (1, 10))
    assert few > 2 * many


def test_proposals_refuse_what_tells_nothing(model: nn.Module) -> None:
    mas = MAS(model)
    with pytest.raises(PenaltyError, match="nothing is held yet: call consolidate"):
        mas.propose_strength([DATA[0]], loss, optimizer=SGD)
    mas.consolidate([DATA[0]])
    ask = partial(mas.propose_strength, optimizer=SGD)
    with pytest.raises(PenaltyError, match="share=0: expected a finite number > 0"):
        ask([DATA[0]], loss, share=0)
    with pytest.raises(DataError, match="batches is empty"):
        ask([], loss)
    with pytest.raises(PenaltyError, match="must use the model that it is given, which is a copy"):
        ask([DATA[0]], lambda copied, x: loss(model, x))
    with pytest.raises(PenaltyError, match="diverged: lower the learning rate"):
        ask(DATA * 20, loss, optimizer=partial(torch.optim.SGD, lr=1e30))
    with pytest.raises(PenaltyError, match="no parameter with importance moved"):
        ask([DATA[0]], loss, optimizer=partial(torch.optim.SGD, lr=0.0))


def test_a_penalty_can_be_copied(model: nn.Module) -> None:
    mas = MAS(model, strength={"*": 1.0})
    mas.consolidate([DATA[0]])
    mas.penalty_grad_()
    twin = copy.deepcopy(mas)
    move(twin.model[0].weight)
    assert float(mas.penalty().detach()) == 0.0
    assert float(twin.penalty_grad_()) > 0.0
