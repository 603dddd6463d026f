"""What is refused before anything is touched, and what is said."""

from typing import Any

import pytest
import snapshots
import torch
from cases import MLP, TIED
from torch import Tensor, nn

from growmas import MAS, GrowmasError, Plan, Structure, mas_importance
from growmas.errors import PenaltyError, PlanError, SurgeryError


@pytest.fixture
def structure() -> Structure:
    return Structure(MLP.model(), MLP.inputs(3))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (lambda: Plan(grow={"fc": 1}), "no group 'fc'; the 2 groups are '0', '2'"),
        (lambda: Plan(grow={"4": 1}), "group '4' cannot change: it reaches the output of the netw"),
        (lambda: Plan(grow={"4": 1}), r"classes are added with structure.grow_head\('4', ...\)"),
        (lambda: Plan(grow={"0": 10**12}), r"adding 1,000,000,000,000 units to '0' would take at"),
        (lambda: Plan(grow={"0": -1}), "grow '0': expected a number of units >= 0, got -1"),
        (lambda: Plan(grow={"0": 1.5}), "grow '0': expected a number of units >= 0, got 1.5"),
        (lambda: Plan(grow={"0": True}), "grow '0': expected a number of units >= 0, got True"),
        (lambda: Plan(prune={"0": [8]}), "prune '0': unit 8 does not exist"),
        (lambda: Plan(prune={"0": [-1]}), "prune '0': unit -1 does not exist"),
        (lambda: Plan(prune={"0": ["a"]}), "prune '0': unit 'a' does not exist"),
        (lambda: Plan(prune={"0": [1.0]}), "prune '0': unit 1.0 does not exist"),
        (lambda: Plan(prune={"0": [1, 1]}), "prune '0': a unit is named twice"),
        (
            lambda: Plan(prune={"2": range(5)}),
            "prune '2': all 5 units would be removed; leave at least one",
        ),
        (lambda: Plan(prune={"0": 3}), "prune '0': expected .*, got 3"),
        (lambda: Plan(prune={"0": None}), "prune '0': expected .*, got None"),
    ],
)
def test_plans_that_do_not_fit(structure: Structure, plan: Any, message: str) -> None:
    before, groups = snapshots.of_model(structure.model), snapshots.of_groups(structure)
    with pytest.raises(PlanError, match=message):
        structure.apply(plan())
    assert snapshots.of_model(structure.model) == before
    assert snapshots.of_groups(structure) == groups


def test_all_problems_are_listed_at_once(structure: Structure) -> None:
    structure.apply(Plan(prune={"0": [3, 5]}))
    plan = Plan(prune={"0": [5, 3, 40], "nowhere": [1]}, grow={"2": -3, "4": 1})
    with pytest.raises(PlanError) as caught:
        structure.apply(plan)
    for part in (
        "no group 'nowhere'",
        "group '4' cannot change",
        "prune '0': unit 40 does not exist",
        "prune '0': units 5, 3 already removed",
        "grow '2': expected a number of units >= 0, got -3",
    ):
        assert part in str(caught.value)


def test_a_near_name_is_proposed() -> None:
    structure = Structure(TIED.model(), TIED.inputs(3))
    with pytest.raises(PlanError, match=r"no group 'frist'; did you mean 'first'\?"):
        structure.apply(Plan(grow={"frist": 1}))


def test_a_plan_for_units_that_are_gone_is_refused(structure: Structure) -> None:
    plan = Plan(prune={"0": [2]}, grow={"0": 1})
    structure.apply(plan)
    with pytest.raises(PlanError, match="prune '0': unit 2 already removed"):
        structure.apply(plan)


def test_followers_that_cannot_follow_are_all_named(structure: Structure) -> None:
    before = snapshots.of_model(structure.model)
    lbfgs = torch.optim.LBFGS(structure.model.parameters())
    with pytest.raises(SurgeryError) as caught:
        structure.apply(Plan(grow={"0": 1}), followers=[lbfgs, MAS(structure.model), object(), 3])
    message = str(caught.value)
    assert "LBFGS keeps its state as one flat vector and cannot follow" in message
    assert "make a new LBFGS afterwards" in message
    assert "object cannot follow: expected a torch optimizer" in message
    assert "an object with a method follow(edit)" in message
    assert "int cannot follow" in message
    assert "MAS cannot" not in message
    assert snapshots.of_model(structure.model) == before


@pytest.mark.parametrize("kind", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_on_parameters_that_change_are_refused(structure: Structure, kind: str) -> None:
    handle = getattr(structure.model[2].weight, kind)(lambda value: None)
    before = snapshots.of_model(structure.model)
    with pytest.raises(SurgeryError, match=r"'2.weight' has gradient hooks.*register them again"):
        structure.apply(Plan(grow={"0": 1}))
    assert snapshots.of_model(structure.model) == before
    handle.remove()
    structure.apply(Plan(grow={"0": 1}))


def test_hooks_on_parameters_that_stay_do_no_harm(structure: Structure) -> None:
    structure.model[4].bias.register_hook(lambda value: None)
    structure.apply(Plan(grow={"0": 1}))
    assert structure.model[4].bias._backward_hooks


def test_an_unknown_initialisation_is_refused(structure: Structure) -> None:
    before = snapshots.of_model(structure.model)
    with pytest.raises(PlanError, match="init='copy' is not known: give 'zero_out'"):
        structure.apply(Plan(grow={"0": 1}), init="copy")
    assert snapshots.of_model(structure.model) == before


class RowsAndGates(nn.Module):
    """The rows of a layer are the gates of another: they are cut in different ways."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gru, self.head = nn.Linear(4, 12), nn.GRU(4, 4), nn.Linear(4, 2)
        self.last = nn.Linear(12, 2)
        self.gru.weight_ih_l0 = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu()) + self.head(self.gru(x)[0])


def test_tied_layers_that_would_part_are_refused() -> None:
    structure = Structure(RowsAndGates(), torch.rand(3, 4))
    before, groups = snapshots.of_model(structure.model), snapshots.of_groups(structure)
    for plan in (
        Plan(grow={"gru": 1}),
        Plan(prune={"first": [1]}),
        Plan(prune={"first": [1, 2, 3], "gru": [2]}),
    ):
        with pytest.raises(GrowmasError):
            structure.apply(plan)
        assert snapshots.of_model(structure.model) == before
        assert snapshots.of_groups(structure) == groups
    with pytest.raises(SurgeryError, match=r"'first.weight' is tied, and its uses would need diff"):
        structure.apply(Plan(prune={"first": [1, 2, 3], "gru": [2]}))


def test_an_unhealthy_network_is_told_from_a_wrong_analysis(structure: Structure) -> None:
    with torch.no_grad():
        structure.model[4].bias.fill_(torch.nan)
    with pytest.raises(SurgeryError, match=r"(?i)nan") as caught:
        structure.apply(Plan(grow={"0": 1}))
    assert "analysis of the network is wrong" not in str(caught.value)


def test_saliency_is_what_the_penalty_would_charge(structure: Structure) -> None:
    """Σ Ω θ² of the columns that read a unit: the price of setting them to zero."""
    model = structure.model
    mas = MAS(model)
    mas.consolidate([MLP.inputs(8)])
    found = structure.saliency(mas.omega)
    assert {name: tuple(value.shape) for name, value in found.items()} == {"0": (8,), "2": (5,)}
    for unit in range(8):
        kept = model[2].weight.detach()[:, unit].clone()
        with torch.no_grad():
            model[2].weight[:, unit] = 0.0
        torch.testing.assert_close(found["0"][unit], mas.penalty().detach())
        with torch.no_grad():
            model[2].weight[:, unit] = kept
    plain = structure.saliency(mas.omega, criterion="sum")["2"]
    torch.testing.assert_close(plain, mas.omega["4.weight"].sum(0))


def test_saliency_refuses_what_it_cannot_use(structure: Structure) -> None:
    omega = mas_importance(structure.model, [MLP.inputs(3)])
    with pytest.raises(
        PenaltyError, match="criterion='norm' is not known: give one of 'penalty', "
    ):
        structure.saliency(omega, criterion="norm")
    with pytest.raises(PenaltyError, match=r"omega has no entry for .* '2'.* 4"):
        structure.saliency({n: o for n, o in omega.items() if n != "4.weight"})
    structure.apply(Plan(grow={"0": 2}))
    with pytest.raises(GrowmasError, match=r"2\.weight"):
        structure.saliency(omega)


def test_data_parallel_wrappers_are_refused_by_name() -> None:
    """Fresh parameters would silently stop the averaging of gradients between replicas."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(MLP.model())
        with pytest.raises(SurgeryError, match="DistributedDataParallel"):
            Structure(wrapped, MLP.inputs(3))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda s: Structure("net.pt", MLP.inputs(3)), r"expected a torch.nn.Module, got 'net.pt'"),
        (lambda s: s.apply({"grow": {"0": 1}}), r"expected a Plan, got .*: write Plan\(prune="),
        (lambda s: s.explain({"grow": {"0": 1}}), r"expected a Plan, got .*: write Plan\(prune="),
        (lambda s: Plan(grow=3), "grow=3: expected a dict by group name, such as {'fc1': 8}"),
        (lambda s: Plan(prune=[1]), r"prune=\[1\]: expected a dict by .*{'fc1': \[3, 17\]}"),
        (
            lambda s: s.apply(
                Plan(grow={"0": 1}), followers=torch.optim.Adam(s.model.parameters())
            ),
            r"followers= expects a list, got one Adam: write .* followers=\[...\]",
        ),
        (
            lambda s: s.apply(Plan(grow={"0": 1}), followers=nn.Sequential(nn.Linear(2, 2))),
            "followers= expects a list, got one Sequential",
        ),
        (lambda s: s.load_state_dict({"tasks": []}), "the state lacks 'groups', 'sizes'"),
    ],
)
def test_arguments_of_the_wrong_kind(structure: Structure, mistake: Any, message: str) -> None:
    before = snapshots.of_model(structure.model)
    with pytest.raises(GrowmasError, match=message):
        mistake(structure)
    assert snapshots.of_model(structure.model) == before


def test_scripted_models_are_refused_by_name() -> None:
    class Scripted(torch.jit.ScriptModule):
        pass

    with pytest.raises(SurgeryError, match=r"the model is TorchScript.* before scripting"):
        Structure(Scripted(), MLP.inputs(3))


def test_what_has_no_room_is_refused_before_anything_is_allocated(structure: Structure) -> None:
    absurd = Plan(grow={"0": 10**9, "2": 10**9})
    for refuse in (structure.apply, structure.explain, structure.cost, structure.dry_run):
        with pytest.raises(PlanError, match=r"than the [\d,]+ GiB that cpu has: grow by fewer"):
            refuse(absurd)
    with pytest.raises(PlanError, match=r"units to '4' would take at least"):
        structure.grow_head("4", 10**12)


def test_what_is_no_plan_is_refused_everywhere(structure: Structure) -> None:
    for refuse in (structure.apply, structure.explain, structure.cost, structure.dry_run):
        with pytest.raises(PlanError, match=r"expected a Plan, got .*: write Plan\(prune="):
            refuse({"0": 2})  # type: ignore[arg-type]


def test_an_edit_that_cannot_be_verified_is_refused() -> None:
    empty = Structure(MLP.model(), MLP.inputs(3)[:0])
    with pytest.raises(SurgeryError, match="the example inputs have no sample"):
        empty.apply(Plan(grow={"0": 1}))
    assert empty.apply(Plan(grow={"0": 1}), verify=False).born
    model = MLP.model()
    structure = Structure(model, MLP.inputs(3))
    model.to(torch.bfloat16)
    with pytest.raises(SurgeryError, match="does not run on the structure's example inputs any mo"):
        structure.apply(Plan(grow={"0": 1}))


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(GrowmasError, match=r"expected a torch.nn.Module"):
        MAS("net")  # type: ignore[arg-type]
    with pytest.raises(GrowmasError, match=r"expected a torch.nn.Module"):
        mas_importance("net", [MLP.inputs(3)])  # type: ignore[arg-type]
