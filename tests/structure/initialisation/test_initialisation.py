import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cases import CONVNET, MLP, MLP_BATCHNORM, RESIDUAL_CONV, SURGERY, TIED, Case, tensors
from torch import Tensor, nn

import growmas as gm
from growmas import MAS, GradMax, Plan, Structure, TopologyHistory, TopologyTracker
from growmas.errors import DataError, GrowmasError, PlanError, SurgeryError
from growmas.structure import Lineage, Newborns
from growmas.structure.initialisation.split import SplitUnits
from growmas.structure.units.placement import placements

UNTIED = tuple(case for case in SURGERY if not case.together)


def outputs(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([t.flatten() for t in tensors(model(x))])


def structure_of(case: Case, dtype: torch.dtype = torch.float64) -> tuple[Structure, Tensor]:
    x = case.inputs(12, dtype)
    generator = torch.Generator().manual_seed(0)
    return Structure(case.model(dtype).eval(), x, generator=generator), x


# twins


@pytest.mark.parametrize("case", UNTIED, ids=lambda case: case.name)
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_splitting_keeps_the_function(case: Case, noise: float):
    structure, x = structure_of(case)
    before = outputs(structure.model, x)
    grow = dict.fromkeys(structure.groups, 3)
    removed = {name: [0] for name in list(structure.groups)[:1]}
    structure.apply(Plan(grow=grow), init=SplitUnits(noise=noise))
    torch.testing.assert_close(outputs(structure.model, x), before, rtol=1e-10, atol=1e-10)
    structure.apply(Plan(replace=removed), init=SplitUnits(noise=noise))  # verified inside


def test_twins_are_as_asked_for():
    structure, _ = structure_of(MLP_BATCHNORM)
    model = structure.model
    old = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    edit = structure.apply(
        Plan(grow={"0": 3}), init=SplitUnits(parents={"0": [5, 5, 1]}, noise=0.0)
    )
    assert edit.parents == {"0": {7: 5, 8: 5, 9: 1}}
    order = [*range(7), 5, 5, 1]
    for name in ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"):
        assert torch.equal(model.state_dict()[name], old[name][order])
    shares = torch.ones(7, dtype=torch.float64)
    shares[5], shares[1] = 1 / 3, 1 / 2
    torch.testing.assert_close(model[3].weight, (old["3.weight"] * shares)[:, order])


def test_the_most_salient_units_are_split_in_turn():
    structure, _ = structure_of(MLP)
    saliency = {name: torch.arange(group.width) for name, group in structure.groups.items()}
    plan = Plan(grow={"0": 2, "2": 6}, prune={"0": [7]})
    edit = structure.apply(plan, init=SplitUnits(saliency=saliency))
    assert edit.parents["0"] == {8: 6, 9: 5}
    assert list(edit.parents["2"].values()) == [4, 3, 2, 1, 0, 4]
    columns = structure.model[2].weight.detach().square().sum(0)
    best = structure.groups["0"].unit_ids[int(columns.argmax())]
    assert structure.apply(Plan(grow={"0": 1}), init="split").parents == {"0": {10: best}}


def test_importance_after_a_split_is_what_a_measurement_finds():
    structure, x = structure_of(CONVNET)
    mas = MAS(structure.model)
    mas.consolidate([x])
    structure.apply(
        Plan(grow={"0": 2, "4": 1, "7": 1}), followers=[mas], init=SplitUnits(noise=0.0)
    )
    again = MAS(structure.model)
    again.consolidate([x])
    for name in mas.omega:
        torch.testing.assert_close(mas.omega[name], again.omega[name], rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(mas.anchor[name], again.anchor[name])
    assert float(mas.penalty().detach()) < 1e-20


def test_noise_sets_twins_apart_for_good():
    apart = {}
    for noise in (0.0, 0.01):
        structure, x = structure_of(MLP)
        model = structure.model
        structure.apply(Plan(grow={"0": 1}), init=SplitUnits(parents={"0": [2]}, noise=noise))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        rows = model[0].weight.detach()
        apart[noise] = float((rows[2] - rows[8]).abs().max())
    assert apart[0.0] == 0.0
    assert apart[0.01] > 1e-4


def test_parents_that_cannot_be_are_listed():
    structure, _ = structure_of(MLP)
    with pytest.raises(PlanError) as caught:
        structure.apply(
            Plan(grow={"0": 2, "2": 1}, prune={"2": [0]}),
            init=SplitUnits(parents={"0": [99], "2": [0], "9": [1]}),
        )
    for part in (
        "'0' grows by 2 units but has 1 parents", "'0' has no unit 99",
        "unit 0 of '2' is removed by the same plan", "'9' grows by 0 units",
    ):  # fmt: skip
        assert part in str(caught.value)
    with pytest.raises(PlanError, match="saliency of '0': expected 8 numbers, got 3"):
        structure.apply(Plan(grow={"0": 1}), init=SplitUnits(saliency={"0": torch.ones(3)}))
    with pytest.raises(PlanError, match="the plan removes all units of '0'"):
        structure.apply(Plan(replace={"0": range(8)}), init="split")


def test_tied_layers_are_not_split():
    structure, x = structure_of(TIED)
    before = outputs(structure.model, x)
    with pytest.raises(SurgeryError):
        structure.apply(Plan(grow=dict.fromkeys(structure.groups, 1)), init="split")
    assert torch.equal(outputs(structure.model, x), before)


def test_the_history_shows_parents(tmp_path: Any):
    structure, _ = structure_of(MLP)
    with TopologyTracker(structure, tmp_path / "run.db") as tracker:
        structure.apply(Plan(grow={"0": 1}), init=SplitUnits(parents={"0": [4]}))
        tracker.snapshot("a")
    with TopologyHistory(tmp_path / "run.db") as history:
        assert history.unit("0", 8).parent == 4


# gradients as large as they can be


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(tensors(model(batch[0]))[0], batch[1])


def two_layers(activation: nn.Module) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 8), activation, nn.Linear(8, 4)).double()


def two_convolutions(activation: nn.Module, **options: Any) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=(1, 2), **options),
        activation,
        nn.Conv2d(4, 3, (2, 3), padding="same", dilation=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ).double()


NETWORKS: dict[str, tuple[Callable[[nn.Module], nn.Module], tuple[int, ...], str]] = {
    "linear": (two_layers, (6,), "2"),
    "conv": (two_convolutions, (2, 9, 8), "2"),
}
by_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


def batches_for(shape: tuple[int, ...], classes: int = 3) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    return [
        (
            torch.randn(n, *shape, generator=generator, dtype=torch.float64),
            torch.randint(classes, (n,), generator=generator),
        )
        for n in (7, 5)
    ]


def gradient(model: nn.Module, batches: Any, parameter: Tensor) -> Tensor:
    losses = torch.stack([loss_of(model, batch) for batch in batches])
    return torch.autograd.grad(losses.sum(), [parameter])[0].detach()


@by_network
@pytest.mark.parametrize("activation", [nn.Identity(), nn.Tanh(), nn.ReLU()])
def test_rows_give_columns_as_much_gradient_as_they_can(network: Any, activation: nn.Module):
    """Against the closed form for a linear network, and against a search of 300 directions."""
    build, shape, reader = network
    batches = batches_for(shape)
    structure = Structure(build(activation), batches[0][0])
    model = structure.model
    before = outputs(model, batches[1][0])
    structure.apply(Plan(grow={"0": 1}), init=GradMax(batches, loss_of))
    torch.testing.assert_close(outputs(model, batches[1][0]), before)
    rows, columns = model[0].weight, model.get_submodule(reader).weight
    length = rows[:-1].detach().flatten(1).norm(dim=1).mean()
    torch.testing.assert_close(rows[-1].detach().norm(), length)
    assert model[0].bias[-1] == 0
    found = gradient(model, batches, columns)[:, -1].norm()
    generator = torch.Generator().manual_seed(0)
    tried = []
    for _ in range(300):
        direction = torch.randn(rows[-1].shape, generator=generator, dtype=torch.float64)
        row = direction / direction.norm() * length
        tried.append(_columns_gradient(model, batches, columns, row).norm())
    if isinstance(activation, nn.Identity):
        assert found > torch.stack(tried).max()
    else:  # not linear: as good as the best few of 300
        assert found > torch.stack(tried).quantile(0.98)
        assert found > 0.95 * torch.stack(tried).max()
    if isinstance(activation, nn.Identity):
        units = torch.eye(rows[-1].numel(), dtype=rows.dtype).view(-1, *rows[-1].shape)
        jacobian = torch.stack([_columns_gradient(model, batches, columns, e) for e in units])
        torch.testing.assert_close(found, torch.linalg.matrix_norm(jacobian, ord=2) * length)


def _columns_gradient(model: nn.Module, batches: Any, columns: Tensor, row: Tensor) -> Tensor:
    with torch.no_grad():
        model[0].weight[-1] = row
    return gradient(model, batches, columns)[:, -1].flatten()


@by_network
@pytest.mark.parametrize("activation", [nn.Identity(), nn.Tanh(), nn.SiLU()])
def test_the_papers_rule_gives_rows_the_singular_values(network: Any, activation: nn.Module):
    build, shape, reader = network
    batches = batches_for(shape)
    structure = Structure(build(activation), batches[0][0])
    model = structure.model
    before = outputs(model, batches[1][0])
    structure.apply(Plan(grow={"0": 2}), init=GradMax(batches, loss_of, zero="rows"))
    torch.testing.assert_close(outputs(model, batches[1][0]), before)
    rows, columns = model[0].weight, model.get_submodule(reader).weight
    assert not rows[-2:].any()
    length = columns[:, :-2].transpose(0, 1).flatten(1).norm(dim=1).mean()
    found = gradient(model, batches, rows)[-2:].flatten(1)
    slope = 0.5 if isinstance(activation, nn.SiLU) else 1.0
    jacobian = []
    for unit in torch.eye(columns[:, 0].numel(), dtype=columns.dtype):
        with torch.no_grad():
            columns[:, -1] = unit.view_as(columns[:, 0])
        jacobian.append(gradient(model, batches, rows)[-1].flatten() / slope)
    values = torch.linalg.svdvals(torch.stack(jacobian))[:2]
    torch.testing.assert_close(found.norm(dim=1), slope * values * length)
    assert abs(float(found[0] @ found[1])) < 1e-10


def test_gradmax_learns_faster_than_chance():
    """After one step of SGD on the same batches the loss is lower than from random rows."""
    batches = batches_for((6,), classes=4)
    after: list[float] = []
    for init in ("zero_out", GradMax(batches, loss_of)):
        structure = Structure(
            two_layers(nn.ReLU()), batches[0][0], generator=torch.Generator().manual_seed(1)
        )
        structure.apply(Plan(grow={"0": 4}), init=init)
        model = structure.model
        optimizer = torch.optim.SGD([model[2].weight], lr=0.1)
        sum(loss_of(model, batch) for batch in batches).backward()
        optimizer.step()
        with torch.no_grad():
            after.append(float(sum(loss_of(model, batch) for batch in batches)))
    assert after[1] < after[0]


def test_gradmax_on_neighbours_with_a_norm_between_and_other_heads():
    structure, x = structure_of(MLP_BATCHNORM)
    y = torch.randint(2, (len(x),))
    plan = Plan(grow={"0": 2, "3": 3, "6": 9}, prune={"0": [1], "3": [0]})
    model = copy.deepcopy(structure.model)
    edit = structure.apply(plan, init=GradMax([(x, y)], loss_of))
    assert not any(torch.isnan(p).any() for p in structure.model.parameters())
    for reader, group in (("3", "0"), ("6", "3"), ("8", "6")):
        born = structure.groups[group].indices(edit.born[group])
        assert not structure.model.get_submodule(reader).weight[:, born].any()
    assert len(model[0].weight) == 7


def test_gradmax_refuses_by_name():
    batches = batches_for((6,))
    with pytest.raises(PlanError, match="at least one batch"):
        GradMax([], loss_of)
    with pytest.raises(PlanError, match="zero='both'"):
        GradMax(batches, loss_of, zero="both")
    structure = Structure(two_layers(nn.ReLU()), batches[0][0])
    with pytest.raises(SurgeryError, match="slope 0 at 0"):
        structure.apply(Plan(grow={"0": 1}), init=GradMax(batches, loss_of, zero="rows"))
    with pytest.raises(PlanError, match="the plan removes all its units"):
        structure.apply(Plan(replace={"0": range(8)}), init=GradMax(batches, loss_of))
    for case, group, reason in (
        (CONVNET, "0", "resized between two convolutions"),
        (RESIDUAL_CONV, "stem", "2 layers give its units"),
    ):
        structure, x = structure_of(case)
        y = torch.randint(2, (len(x),))
        with pytest.raises(PlanError, match=reason):
            structure.apply(Plan(grow={group: 1}), init=GradMax([(x, y)], loss_of))
    structure, x = structure_of(MLP_BATCHNORM)
    with pytest.raises(PlanError, match="BatchNorm would divide"):
        structure.apply(Plan(grow={"0": 1}), init=GradMax(batches, loss_of, zero="rows"))


# what is common to all


class Ones:
    """A way to start of one's own."""

    def prepare(self, structure: Structure, plan: Plan) -> Callable[[Newborns], Lineage]:
        def fill(newborns: Newborns) -> Lineage:
            for name in newborns.born:
                for place in placements(newborns.model, newborns.groups[name], ["out"]):
                    fresh = place.positions[newborns.indices(name)].flatten()
                    with torch.no_grad():
                        place.tensor.index_fill_(place.axis.dim, fresh, 1.0)
            return Lineage()

        return fill


def test_an_initialisation_of_ones_own():
    structure, _ = structure_of(MLP)
    structure.apply(Plan(grow={"0": 2}), init=Ones())
    assert structure.model[0].weight[-2:].eq(1).all()
    for wrong in ("gradmax", 3, GradMax):
        with pytest.raises(
            PlanError, match=r"'zero_out', 'paired', 'split', SplitUnits\(...\), GradMax"
        ):
            structure.apply(Plan(grow={"0": 2}), init=wrong)


@pytest.mark.parametrize("init", ["zero_out", "split", GradMax(batches_for((6,), 2), loss_of)])
def test_generators_are_rewound_by_a_rollback(init: Any):
    structure, _ = structure_of(MLP)

    def fail(edit: Any) -> None:
        raise RuntimeError("no")

    stop = structure.subscribe(fail)
    state = structure.generator.get_state()
    with pytest.raises(RuntimeError, match="no"):
        structure.apply(Plan(grow={"0": 2}), init=init)
    assert torch.equal(structure.generator.get_state(), state)
    stop()


# statistics of fresh channels


@pytest.mark.parametrize("case", [CONVNET, MLP_BATCHNORM, RESIDUAL_CONV], ids=lambda c: c.name)
def test_fresh_norms_are_calibrated_on_data(case: Case):
    structure, x = structure_of(case)
    model, before = structure.model.train(), outputs(structure.model.eval(), x)
    old = {n: b.clone() for n, b in model.named_buffers()}
    edit = structure.apply(
        Plan(grow=dict.fromkeys(structure.groups, 2)), calibrate=[x[:5], (x[5:], "label")]
    )
    torch.testing.assert_close(outputs(model, x), before)
    seen: dict[str, Tensor] = {}
    norms = {n: m for n, m in model.named_modules() if hasattr(m, "running_mean")}
    for name, norm in norms.items():
        norm.register_forward_pre_hook(lambda m, args, name=name: seen.update({name: args[0]}))
    outputs(model, x)
    assert norms
    for name, norm in norms.items():
        fresh = edit.changes[f"{name}.running_mean"][0].fresh
        values = seen[name].movedim(1, 0).flatten(1)[fresh]
        torch.testing.assert_close(norm.running_mean[fresh], values.mean(1))
        torch.testing.assert_close(norm.running_var[fresh], values.var(1))
        for kind in ("running_mean", "running_var"):
            survivors = [i for i in range(len(norm.running_mean)) if i not in fresh.tolist()]
            assert torch.equal(getattr(norm, kind)[survivors], old[f"{name}.{kind}"])


def test_twins_keep_the_statistics_of_their_parents():
    structure, x = structure_of(MLP_BATCHNORM)
    structure.apply(Plan(grow={"0": 1}), init=SplitUnits(parents={"0": [2]}), calibrate=[x])
    norm = structure.model[1]
    assert norm.running_mean[-1] == norm.running_mean[2]


def test_calibration_needs_data_and_ends_with_nothing_changed():
    structure, x = structure_of(MLP_BATCHNORM)
    before = {name: tensor.clone() for name, tensor in structure.model.state_dict().items()}
    for batches in ([], [x[:1]]):
        with pytest.raises(DataError, match="at least two values"):
            structure.apply(Plan(grow={"0": 1}), calibrate=batches)
        for name, tensor in structure.model.state_dict().items():
            assert torch.equal(tensor, before[name])
    with pytest.raises(GrowmasError, match="cannot be passed to the model"):
        structure.apply(Plan(grow={"0": 1}), calibrate=["a"])
    structure.apply(
        Plan(grow={"0": 1}), calibrate=[{"a": x}], calibrate_forward=lambda m, b: m(b["a"])
    )
    assert not math.isclose(float(structure.model[1].running_var[-1]), 1.0)
    plain, x = structure_of(MLP)
    plain.apply(Plan(grow={"0": 1}), calibrate=[])  # nothing to calibrate


def test_the_former_name_of_split_units_still_works():
    assert gm.Split is SplitUnits
