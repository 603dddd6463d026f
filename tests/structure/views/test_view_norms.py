"""Old tasks are normalised as they were when they were learnt."""

import copy

import pytest
import snapshots
import torch
from cases import CONVNET, MLP, SURGERY, Case, tensors
from torch import Tensor, nn

from growmas import Plan, Structure, mas_importance
from growmas.errors import PlanError, SurgeryError
from growmas.structure.initialisation.split import SplitUnits


def tracks(case: Case) -> bool:
    return any(getattr(m, "running_mean", None) is not None for m in case.model().modules())


WITH_NORMS = [case for case in SURGERY if tracks(case)]
by_name = pytest.mark.parametrize("case", WITH_NORMS, ids=lambda case: case.name)


def outputs(model: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return tensors(model(x))


def equal(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> bool:
    return all(map(torch.equal, a, b))


def drift(model: nn.Module, case: Case, seed: int = 3) -> None:
    """A later task's data go through in train mode; no weight moves."""
    model.train()
    for step in range(3):
        outputs(model, 3 * case.inputs(8, seed=seed + step) + 2)
    model.eval()


def learnt(case: Case, affine: bool = False) -> Structure:
    structure = Structure(case.model().eval(), case.inputs(3))
    structure.begin_task("first")
    structure.remember_norms(affine=affine)
    structure.begin_task("second")
    return structure


def test_there_are_cases() -> None:
    assert len(WITH_NORMS) >= 3


@by_name
def test_what_later_tasks_do_to_statistics_does_not_show(case: Case) -> None:
    structure, x = learnt(case), case.inputs(5, seed=9)
    before = outputs(structure.model, x)
    drift(structure.model, case)
    assert not equal(outputs(structure.model, x), before)
    with structure.view("first"):
        assert equal(outputs(structure.model, x), before)
    assert equal(outputs(structure.extract("first"), x), before)
    structure.forget_norms("first")
    with structure.view("first"):
        assert not equal(outputs(structure.model, x), before), "without the memory it drifts"
    assert not equal(outputs(structure.extract("first"), x), before)


@by_name
def test_what_is_remembered_survives_surgery(case: Case) -> None:
    structure, x = learnt(case, affine=True), case.inputs(5, seed=9)
    before = outputs(structure.model, x)
    structure.apply(Plan(grow=dict.fromkeys(structure.groups, 2)), calibrate=[case.inputs(6)])
    drift(structure.model, case)
    with structure.view("first"):
        for found, wanted in zip(outputs(structure.model, x), before, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    structure.remember_norms(affine=True)
    drift(structure.model, case, seed=30)
    structure.apply(Plan(prune={n: g.unit_ids[1:2] for n, g in structure.groups.items()}))
    for task in (0, 1):
        slim = structure.extract(task)
        with structure.view(task):
            for found, wanted in zip(outputs(structure.model, x), outputs(slim, x), strict=True):
                torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    kept = structure._norms.tasks[0]
    assert {name: kept[name].shape for name in kept} == {
        name: tensor.shape for name, tensor in structure.model.state_dict().items() if name in kept
    }


def test_units_of_the_same_task_that_come_later_are_normalised_as_calibrated() -> None:
    structure, x = learnt(CONVNET), CONVNET.inputs(6)
    structure.apply(Plan(grow={"0": 2}))
    structure.remember_norms()
    structure.apply(Plan(grow={"0": 2}), calibrate=[x])
    norm = structure.model[1]
    assert torch.equal(structure._norms.tasks[1]["1.running_mean"], norm.running_mean)
    assert norm.running_mean[-2:].abs().min() > 0
    structure.apply(Plan(grow={"0": 1}), init=SplitUnits(parents={"0": [0]}))
    assert torch.equal(structure._norms.tasks[1]["1.running_var"][-1], norm.running_var[0])


def test_weight_and_bias_are_remembered_where_asked() -> None:
    for affine in (False, True):
        structure, x = learnt(CONVNET, affine=affine), CONVNET.inputs(5, seed=9)
        before = outputs(structure.model, x)
        with torch.no_grad():
            structure.model[1].weight += 1
            structure.model[1].bias -= 1
        with structure.view("first"):
            assert equal(outputs(structure.model, x), before) == affine
        kept = {"running_mean", "running_var"} | ({"weight", "bias"} if affine else set())
        assert set(structure.norms["first"]) == {f"1.{name}" for name in kept}


def test_in_train_mode_a_norm_is_as_without_a_view() -> None:
    structure, x = learnt(CONVNET, affine=True), CONVNET.inputs(8, seed=9)
    drift(structure.model, CONVNET)
    twin = copy.deepcopy(structure.model).train()
    kept = copy.deepcopy(structure._norms.tasks)
    structure.model.train()
    with structure.view("first"):
        structure.model(x).square().sum().backward()
    twin(x).square().sum().backward()
    assert snapshots.values(structure.model.named_buffers()) == snapshots.values(
        twin.named_buffers()
    )
    assert torch.equal(structure.model[1].weight.grad, twin[1].weight.grad)
    assert snapshots.values(structure._norms.tasks[0]) == snapshots.values(kept[0])


def test_between_calls_the_norms_own_tensors_are_in_place() -> None:
    structure, x = learnt(CONVNET), CONVNET.inputs(5)
    drift(structure.model, CONVNET)
    before = snapshots.of_model(structure.model)
    with structure.view("first"):
        outputs(structure.model, x)
        assert snapshots.values(structure.model.state_dict()) == snapshots.values(
            copy.deepcopy(structure.model).state_dict()
        )
        own = structure.model[1].running_mean
    assert own is structure.model[1].running_mean
    handle = structure.model[2].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), structure.view("first"):
        outputs(structure.model, x)
    handle.remove()
    assert snapshots.of_model(structure.model) == before


def test_of_nested_views_the_earliest_says_which_norms() -> None:
    structure, x = learnt(CONVNET), CONVNET.inputs(5, seed=9)
    first = outputs(structure.model, x)
    drift(structure.model, CONVNET)
    structure.remember_norms()
    second = outputs(structure.model, x)
    structure.begin_task("third")
    drift(structure.model, CONVNET, seed=20)
    wanted = {0: first, 1: second, 2: outputs(structure.model, x)}
    for outer in range(3):
        for inner in range(3):
            with structure.view(outer):
                with structure.view(inner):
                    assert equal(outputs(structure.model, x), wanted[min(outer, inner)])
                assert equal(outputs(structure.model, x), wanted[outer])
    structure.forget_norms("first")  # the earliest has those of today, whatever others remember
    for outer, inner in ((0, 1), (1, 0)):
        with structure.view(outer), structure.view(inner):
            assert equal(outputs(structure.model, x), wanted[2])


def test_importance_in_a_view_is_that_of_the_extracted_network() -> None:
    structure, x = learnt(CONVNET), CONVNET.inputs(5, seed=9)
    drift(structure.model, CONVNET)
    with structure.view("first"):
        found = mas_importance(structure.model, [x])
    wanted = mas_importance(structure.extract("first"), [x])
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name])
    structure.remember_norms("first", affine=True)
    with structure.view("first"):
        found = mas_importance(structure.model, [x])
    assert not found["1.weight"].any(), "a constant of the view"
    torch.testing.assert_close(
        found["0.weight"], mas_importance(structure.extract(0), [x])["0.weight"]
    )


def test_a_failed_edit_leaves_what_is_remembered() -> None:
    structure = learnt(CONVNET)
    before = snapshots.values(structure._norms.tasks[0])
    structure.subscribe(lambda edit: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        structure.apply(Plan(grow={"0": 2}))
    assert snapshots.values(structure._norms.tasks[0]) == before


def test_the_state_goes_round() -> None:
    structure, x = learnt(CONVNET), CONVNET.inputs(5, seed=9)
    structure.apply(Plan(grow={"0": 2}, prune={"0": [1]}))
    drift(structure.model, CONVNET)
    fresh = Structure(CONVNET.model(seed=4).eval(), CONVNET.inputs(3))
    fresh.load_state_dict(copy.deepcopy(structure.state_dict()))
    fresh.model.load_state_dict(structure.model.state_dict())
    with structure.view("first"), fresh.view("first"):
        assert equal(outputs(structure.model, x), outputs(fresh.model, x))
    old = {k: v for k, v in structure.state_dict().items() if k not in ("view_norms", "heads")}
    fresh = Structure(CONVNET.model(), CONVNET.inputs(3))
    fresh.load_state_dict(old)
    assert fresh.norms == {}


def test_a_state_of_other_norms_is_refused() -> None:
    structure = learnt(CONVNET)
    state = structure.state_dict()
    state["view_norms"] = {0: {"1.running_mean": torch.zeros(99), "7.running_var": torch.ones(2)}}
    fresh = Structure(CONVNET.model(), CONVNET.inputs(3))
    with pytest.raises(SurgeryError, match=r"'1.running_mean', '7.running_var' differ in name or"):
        fresh.load_state_dict(state)


def test_other_precisions_and_moves_are_followed() -> None:
    structure, x = learnt(CONVNET), CONVNET.inputs(5, seed=9)
    structure.model.double()
    with structure.view("first"):
        assert outputs(structure.model, x.double())[0].dtype == torch.float64


def test_without_norms_there_is_nothing_to_remember() -> None:
    structure = Structure(MLP.model(), MLP.inputs(3))
    structure.remember_norms()
    assert structure.norms == {}
    with pytest.raises(PlanError, match="no task 'first'; no task has been begun"):
        structure.remember_norms("first")
    with pytest.raises(PlanError, match="no task 7; no task has been begun: call"):
        structure.forget_norms(7)
