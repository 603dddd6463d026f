"""Renewal: units replaced in place, against `apply`, fresh optimizers and masked networks."""

import copy
from typing import Any

import pytest
import torch
from cases import SURGERY, Case, tensors
from torch import Tensor, nn

import growmas as gm
from growmas.errors import PlanError, SurgeryError

SOME = tuple(case for case in SURGERY if not case.together)

OPTIMIZERS: dict[str, Any] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "AdamW amsgrad": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True, weight_decay=0.1),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01, initial_accumulator_value=0.1),
    "Rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "ASGD": lambda p: torch.optim.ASGD(p, lr=0.01),
    "Adadelta": lambda p: torch.optim.Adadelta(p),
}


def run(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([t.flatten() for t in tensors(model(x))])


def mlp(width: int = 12) -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 8), nn.ReLU(), nn.Linear(8, 3)
    )
    return net, torch.randn(32, 6)


def train(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        torch.stack([t.square().mean() for t in tensors(net(x))]).sum().backward()
        optimizer.step()


@pytest.mark.parametrize("case", SOME, ids=lambda case: case.name)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_renewed_units_add_nothing_to_the_masked_network(case: Case, count: int):
    x = case.inputs(12, torch.float64)
    structure = gm.Structure(case.model(torch.float64).eval(), x)
    for name, group in structure.groups.items():
        if structure.why_not_renewed(name):
            continue
        units = group.unit_ids[: min(count, group.width)]
        twin = copy.deepcopy(structure.model)
        other = gm.Structure(twin, x)
        if count < group.width:
            other.apply(gm.Plan(replace={name: units}))  # zero columns: the masked network
        structure.renew({name: units})  # verified inside
        if count < group.width:
            expected = run(other.model, x)
            torch.testing.assert_close(run(structure.model, x), expected, rtol=1e-8, atol=1e-9)
        living = structure.groups[name]
        assert living.width == group.width
        assert living.unit_ids[len(units) :] == group.unit_ids[len(units) :]
        assert living.unit_ids[: len(units)] == tuple(range(group.next_id, living.next_id))


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_only_renewed_entries_change_and_their_state_is_fresh(kind: str):
    net, x = mlp()
    structure, optimizer = gm.Structure(net, x), OPTIMIZERS[kind](net.parameters())
    train(net, optimizer, x, 12)
    objects = [id(p) for p in net.parameters()]
    values = {n: p.detach().clone() for n, p in net.named_parameters()}
    states = {n: copy.deepcopy(optimizer.state[p]) for n, p in net.named_parameters()}
    edit = structure.renew({"0": [3, 7], "2": [1, 4]}, followers=[optimizer])
    assert objects == [id(p) for p in net.parameters()]
    assert edit.replaced_units == {"0": {12: 3, 13: 7}, "2": {8: 1, 9: 4}}
    renewed = {
        "0.weight": ([3, 7], []), "0.bias": ([3, 7], []), "2.weight": ([1, 4], [3, 7]),
        "2.bias": ([1, 4], []), "4.weight": ([], [1, 4]), "4.bias": ([], []),
    }  # fmt: skip
    fresh_net = copy.deepcopy(net)
    fresh = OPTIMIZERS[kind](fresh_net.parameters())
    for name, parameter in net.named_parameters():
        rows, columns = renewed[name]
        mask = torch.zeros(parameter.shape, dtype=torch.bool)
        mask[rows] = True
        if columns:
            mask[:, columns] = True
        assert torch.equal(parameter.detach()[~mask], values[name][~mask])
        assert not mask.any() or (parameter.detach()[mask] != values[name][mask]).all()
        assert not parameter.grad[mask].any()
        for key, state in optimizer.state[parameter].items():
            if not isinstance(state, Tensor) or state.shape != parameter.shape:
                assert torch.equal(torch.as_tensor(state), torch.as_tensor(states[name][key]))
                continue
            assert torch.equal(state[~mask], states[name][key][~mask])
            start = {"sum": 0.1, "step_size": 0.01}.get(key, 0.0)
            expected = (
                parameter.detach()[mask] if key == "ax" else torch.full_like(state[mask], start)
            )
            assert torch.equal(state[mask], expected), key
    assert fresh.param_groups  # made from the same parameters without complaint


def lengths(tensor: Tensor, dim: int, positions: Tensor) -> list[float]:
    """Return the length of the entries of each unit, entry by entry."""
    found = []
    for unit in positions:
        total = 0.0
        for position in unit:
            for value in tensor.select(dim, int(position)).flatten():
                total += float(value) ** 2
        found.append(total**0.5)
    return found


@pytest.mark.parametrize("case", SOME, ids=lambda case: case.name)
def test_mates_are_of_a_size_that_fits_the_units_that_live(case: Case):
    """Columns have about the size of living ones, rows √(default length · living length).

    The default length of n entries, the root of the mean square, is √(n / (3 fan_in)).
    """
    torch.manual_seed(5)
    x = case.inputs(12, torch.float64)
    structure = gm.Structure(case.model(torch.float64).eval(), x)
    with torch.no_grad():
        for parameter in structure.model.parameters():
            parameter.mul_(1 + 4 * torch.rand(()))  # as if trained
    for name, group in structure.groups.items():
        if structure.why_not_renewed(name) or group.width < 3:
            continue
        structure.renew({name: group.unit_ids[:2]})
        entries = structure.entries(name)
        made = {each.name for each in entries if each.role == "out"}
        for each in entries:
            both = each.role == "in" and each.name in made  # a layer that reads its own units
            if each.role == "norm" or each.tensor.dim() < 2 or both:
                continue
            first, second, *living = lengths(each.tensor.detach(), each.dim, each.positions)
            mean = sum(living) / len(living)
            if each.role == "out":
                entries = each.tensor[0].numel() if each.dim == 0 else each.tensor[:, 0].numel()
                default = (each.positions.shape[1] * entries / 3 / each.fan_in) ** 0.5
                assert first == pytest.approx(second)
                assert 0.6 * (mean * default) ** 0.5 < first < 1.32 * (mean * default) ** 0.5
            else:
                size = (sum(v**2 for v in living) / len(living)) ** 0.5
                size *= (len(living) / group.width) ** 0.5
                assert first == pytest.approx(second)
                assert 0.2 * size < first < 3**0.5 * size + 1e-9


def test_rows_and_their_biases_are_scaled_alike():
    """Where living rows are 100 times as long, newborns' rows and biases are 10 times as large."""

    def born(factor: float) -> tuple[Tensor, Tensor, Tensor]:
        net, x = mlp()
        structure = gm.Structure(net, x)
        with torch.no_grad():
            net[0].weight.mul_(factor)
        structure.renew({"0": [2, 5, 7]}, generator=torch.Generator().manual_seed(3))
        units = [2, 5, 7]
        return tuple(
            t.detach() for t in (net[0].weight[units], net[0].bias[units], net[2].weight[:, units])
        )

    (rows, biases, columns), (longer, larger, same) = born(1.0), born(100.0)
    torch.testing.assert_close(longer, 10 * rows)
    torch.testing.assert_close(larger, 10 * biases)
    torch.testing.assert_close(same, columns)


def test_a_layer_that_is_renewed_whole_and_one_of_zeros_start_at_the_default_length():
    net, x = mlp()
    structure = gm.Structure(net, x)
    with torch.no_grad():
        net[0].weight.mul_(100)
        net[4].weight.zero_()
    structure.renew({"0": range(12), "2": [1, 4]})
    assert float(net[0].weight.detach().abs().max()) <= 6**-0.5
    assert 0 < float(net[4].weight.detach()[:, [1, 4]].abs().max()) <= 8**-0.5


def test_units_with_columns_of_zero_have_rows_of_the_default_length():
    net, x = mlp()
    structure = gm.Structure(net, x)
    with torch.no_grad():
        net[0].weight.mul_(100)
    structure.renew({"0": [2, 5]}, paired=False)
    assert float(net[0].weight.detach()[[2, 5]].abs().max()) <= 6**-0.5
    assert not net[2].weight[:, [2, 5]].any()


@pytest.mark.parametrize("kind", [torch.optim.NAdam, torch.optim.RAdam])
def test_first_updates_without_a_warm_up_have_the_usual_size(kind: Any):
    net, x = mlp()
    structure, optimizer = gm.Structure(net, x), kind(net.parameters(), lr=1e-3)
    train(net, optimizer, x, 300)
    structure.renew({"0": [3, 7]}, followers=[optimizer])
    before = net[0].weight.detach().clone()
    train(net, optimizer, x, 1)
    moved = (net[0].weight.detach() - before).abs() / 1e-3
    assert float(moved[[3, 7]].max()) < 3


def test_importance_averages_and_statistics_follow():
    net, x = mlp()
    structure, mas = gm.Structure(net, x), gm.MAS(net)
    average = torch.optim.swa_utils.AveragedModel(net)
    mas.consolidate([x])
    statistics = gm.ActivationStatistics(structure)
    statistics.update([x])
    omega, anchor = dict(mas.omega), dict(mas.anchor)
    structure.renew({"0": [2, 5]}, followers=[mas, average, statistics])
    for name, rows, columns in (("0.weight", [2, 5], []), ("2.weight", [], [2, 5])):
        mask = torch.zeros(omega[name].shape, dtype=torch.bool)
        mask[rows] = True
        if columns:
            mask[:, columns] = True
        now = dict(net.named_parameters())[name].detach()
        assert not mas.omega[name][mask].any()
        assert torch.equal(mas.omega[name][~mask], omega[name][~mask])
        assert torch.equal(mas.anchor[name][mask], now[mask])
        assert torch.equal(mas.anchor[name][~mask], anchor[name][~mask])
        assert torch.equal(dict(average.module.named_parameters())[name][mask], now[mask])
    assert not statistics.moments["2"].mean[0, [2, 5]].any()
    statistics.check_current()


def test_a_network_with_norms_and_convolutions_is_renewed_by_channel():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(64, 3),
    )  # fmt: skip
    x = torch.randn(8, 2, 6, 6)
    structure = gm.Structure(net, x)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    train(net, optimizer, x, 5)
    structure.renew({"0": [1, 4], "3": [0, 2]}, followers=[optimizer])
    assert net[1].weight.detach()[[1, 4]].tolist() == [1.0, 1.0]
    assert net[1].running_var[[1, 4]].tolist() == [1.0, 1.0]
    columns = net[6].weight.detach().view(3, 4, 16)
    torch.testing.assert_close(columns[:, 0], -columns[:, 2])
    assert columns[:, 0].abs().max() > 0
    bound = (2 * 9) ** -0.5
    assert float(net[0].weight.detach()[[1, 4]].abs().max()) <= bound
    before = run(net.train(), x)
    assert torch.isfinite(before).all()


def test_views_of_earlier_tasks_leave_renewed_units_out():
    net, x = mlp()
    structure = gm.Structure(net, x)
    structure.begin_task("a")
    structure.begin_task("b")
    masked = copy.deepcopy(net)
    with torch.no_grad():
        masked[2].weight[:, [1, 2]] = 0.0
    structure.renew({"0": [1, 2]})
    train(net, torch.optim.SGD([net[0].weight], lr=0.0), x, 1)
    with structure.view("a"):
        torch.testing.assert_close(run(net, x), run(masked, x), rtol=1e-5, atol=1e-6)


# failures


class Failing:
    def follow(self, edit: gm.Plan) -> None:
        raise RuntimeError("the last one fails")


def test_everything_is_as_before_when_a_follower_fails():
    net, x = mlp()
    structure, optimizer, mas = (
        gm.Structure(net, x),
        torch.optim.Adam(net.parameters()),
        gm.MAS(net),
    )
    warmup = gm.Warmup(net, optimizer)
    mas.consolidate([x])
    train(net, optimizer, x, 3)
    before = copy.deepcopy((net.state_dict(), optimizer.state_dict(), mas.state_dict()))
    ids, random = structure.groups["0"].unit_ids, torch.get_rng_state()
    with pytest.raises(RuntimeError, match="the last one fails"):
        structure.renew({"0": [1, 2]}, followers=[optimizer, warmup, mas, Failing()])
    after = (net.state_dict(), optimizer.state_dict(), mas.state_dict())
    for one, other in zip(before, after, strict=True):
        assert str(one) == str(other)
    assert structure.groups["0"].unit_ids == ids
    assert torch.equal(torch.get_rng_state(), random)
    assert warmup.born == {}


def test_a_wrong_analysis_is_found_at_the_first_renewal_of_a_group():
    class Hidden(nn.Module):
        """Adds the first unit to the output outside of any layer."""

        leak = False

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 5), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x).relu()) + (self.a.weight[1, 0] * 10 if self.leak else 0)

    net, x = Hidden(), torch.randn(8, 6)
    structure = gm.Structure(net, x)
    net.leak = True
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    with pytest.raises(SurgeryError, match="would move the output"):
        structure.renew({"a": [1, 2]})
    assert all(torch.equal(p.detach(), before[n]) for n, p in net.named_parameters())


@pytest.mark.parametrize(
    ("units", "error", "message"),
    [
        ({"9": [0]}, PlanError, "no group '9'"),
        ({"4": [0]}, PlanError, "group '4' cannot change"),
        ({"0": [99]}, PlanError, "unit 99 does not exist"),
        ({"0": [1, 1]}, PlanError, "a unit is named twice"),
        ({"0": 3}, PlanError, "expected a list of ids"),
    ],
)
def test_units_that_cannot_be_renewed_are_refused(units: Any, error: Any, message: str):
    net, x = mlp()
    with pytest.raises(error, match=message):
        gm.Structure(net, x).renew(units)


def test_a_group_behind_norms_and_a_view_are_refused():
    net = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2))
    structure = gm.Structure(net, torch.rand(3, 4))
    with pytest.raises(PlanError, match="'0'"):
        structure.renew({"0": [1, 2]})
    net, x = mlp()
    structure = gm.Structure(net, x)
    with structure.view(0), pytest.raises(SurgeryError, match="inside a view"):
        structure.renew({"0": [1, 2]})


# history


def test_listeners_hear_of_renewals_in_batches_and_the_history_has_one_row_a_unit(tmp_path: Any):
    net, x = mlp()
    structure, heard = gm.Structure(net, x), []
    tracker = gm.TopologyTracker(structure, tmp_path / "h.db")
    structure.subscribe(heard.append)
    structure.begin_task("a")
    for first in range(0, 12, 2):
        structure.renew({"0": [first, first + 1]}, reason="low", cause={"policy": "test"})
    assert heard == []
    structure.renew({"0": [12, 13]})  # born in what was not told yet
    assert [len(edit.born["0"]) for edit in heard] == [12]
    assert heard[0].cause == {"policy": "test", "renewals": 6}
    structure.begin_task("b")
    assert [len(edit.born["0"]) for edit in heard] == [12, 2]
    structure.renew({"2": [0, 1]})
    tracker.snapshot(omega=gm.mas_importance(net, [x]))
    structure.renew({"2": [8, 9]})
    structure.apply(gm.Plan(grow={"2": 1}))
    tracker.close()
    with gm.TopologyHistory(tmp_path / "h.db") as history:
        assert history.unit("0", 24).replaced == 12
        assert (history.unit("0", 12).replaced, history.unit("0", 12).replaced_by) == (0, 24)
        assert history.unit("0", 12).death_task == "a"
        assert history.unit("2", 8).birth_task == "b"
    assert len(heard) == 5


def test_a_tracker_made_later_starts_with_the_units_of_then(tmp_path: Any):
    net, x = mlp()
    structure = gm.Structure(net, x)
    structure.renew({"0": [0, 1]})
    with gm.TopologyTracker(structure, tmp_path / "h.db"):
        structure.renew({"0": [2, 12]})
    with gm.TopologyHistory(tmp_path / "h.db") as history:
        assert history.unit("0", 15).replaced == 12


def test_a_listener_that_fails_hears_again():
    net, x = mlp()
    structure, heard = gm.Structure(net, x), []

    def listen(edit: gm.Plan) -> None:
        if not heard:
            heard.append(None)
            raise OSError("the disk is full")
        heard.append(edit)

    structure.subscribe(listen)
    structure.renew({"0": [0, 1]})
    with pytest.raises(OSError, match="disk"):
        structure.tell()
    structure.tell()
    assert heard[1].died == {"0": (0, 1)}
