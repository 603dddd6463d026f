import json
import math

import pytest
import torch
from scenes import everything, inputs, labels, loss, managed, network, train
from torch import Tensor

import growmas as gm
from growmas.errors import DataError, PlanError
from growmas.structure import Plan


def test_grows_before_every_task_but_the_first():
    manager, structure, *_ = managed(grow=gm.GrowPolicy(units=4))
    assert manager.begin_task("a") == ()
    (edit,) = manager.begin_task("b")
    assert edit.born == {"0": (10, 11, 12, 13), "2": (8, 9, 10, 11)}
    assert structure.groups["0"].births[-4:] == (1, 1, 1, 1)
    assert "4 fresh units" in edit.reason


def test_grow_per_group():
    manager, structure, *_ = managed(grow=gm.GrowPolicy(units={"2": 5}))
    manager.begin_task("a")
    manager.begin_task("b")
    assert (structure.groups["0"].width, structure.groups["2"].width) == (10, 13)


def test_prunes_the_least_salient_old_units_and_spares_newborns():
    manager, structure, mas, _, x = managed(
        grow=gm.GrowPolicy(units=4), prune=gm.PrunePolicy(ratio=0.3)
    )
    manager.begin_task("a")
    assert manager.end_task([x]) == (), "all units are newborn in the first task"
    manager.begin_task("b")
    saliency = structure.saliency(
        {n: mas.omega[n] + o for n, o in gm.mas_importance(structure.model, [x]).items()}
    )["0"][:10]
    (edit,) = manager.end_task([x])
    assert edit.died["0"] == tuple(sorted(saliency.argsort()[:4].tolist()))
    assert len(edit.died["2"]) == 3
    assert all(unit < 10 for unit in edit.died["0"])


def test_optimizer_and_mas_follow():
    manager, structure, mas, optimizer, x = managed(
        grow=gm.GrowPolicy(units=2), prune=gm.PrunePolicy(ratio=0.2, grace=0)
    )
    for task in "abc":
        manager.begin_task(task)
        loss = structure.model(x).square().mean() + mas.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        manager.end_task([x])
    live = {id(p) for p in structure.model.parameters()}
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == live
    assert {id(p) for p in optimizer.state} == live
    for name, parameter in structure.model.named_parameters():
        assert mas.omega[name].shape == mas.anchor[name].shape == parameter.shape


def test_tracker_gets_a_snapshot_of_every_task(tmp_path):
    net, x = network(), torch.rand(8, 6)
    structure = gm.Structure(net, x)
    with gm.TopologyTracker(structure, tmp_path / "h.db") as tracker:
        manager = gm.StructuralManager(
            structure, mas=gm.MAS(net), tracker=tracker, grow=gm.GrowPolicy(units=1)
        )
        for task in "ab":
            manager.begin_task(task)
            manager.end_task([x])
    with gm.TopologyHistory(tmp_path / "h.db") as history:
        assert [task.name for task in history.tasks()] == ["a", "b"]
        assert history.unit("0", 10).birth_task == "b"


def test_prunes_with_statistics_of_all_tasks_unless_told_not_to():
    plain, *_ = managed(prune=gm.PrunePolicy(ratio=0.2, reconstruct=False))
    assert plain.statistics is None
    manager, structure, mas, _, x = managed(
        grow=gm.GrowPolicy(units=2), prune=gm.PrunePolicy(ratio=0.2)
    )
    for name in ("a", "b"):
        manager.begin_task(name)
        edits = manager.end_task(x[i : i + 8] for i in range(0, 32, 8))
    assert edits[0].corrections.keys() >= {"2.weight", "2.bias", "4.weight", "4.bias"}
    assert manager.statistics.moments["2"].count == 64
    assert manager.statistics.moments["2"].features == structure.groups["0"].width
    for name, parameter in structure.model.named_parameters():
        torch.testing.assert_close(mas.anchor[name], parameter.detach())


METRICS = {"size": lambda model: -1.0}

POLICIES = {
    "fixed": (gm.GrowPolicy(2), gm.PrunePolicy(0.2)),
    "fraction": (gm.GrowPolicy(fraction=0.3), gm.PruneBelow(0.5)),
    "need": (gm.GrowByNeed(target=0.0, most=16), gm.PruneWithin(0.2)),
    "saturation": (gm.GrowBySaturation(0.05), gm.PruneWithin(0.0, measure="metrics")),
    "gain": (gm.GrowByGain(), gm.PrunePolicy(0.3, reconstruct=False)),
    "dead": (gm.ReplaceDead(0.3), gm.PrunePolicy(0.2)),
    "overgrown": (gm.OvergrowSelect(2), gm.PrunePolicy(0.1)),
}


def learnt_one(name, **options):
    grow, prune = POLICIES[name]
    manager, structure, mas, optimizer, x = managed(grow=grow, prune=prune, **options)
    batch = (x, labels(x))

    def trial(model, mas):  # the more units the better
        return 0.001 * train(model, mas, batch) + 1 / model[0].out_features

    given = {"loss": loss, "trial": trial}
    manager.begin_task("a", [batch], **given)
    train(structure.model, mas, batch, optimizer=optimizer)
    manager.end_task([x], metrics=METRICS)
    return manager, optimizer, x, given


@pytest.mark.parametrize("name", POLICIES)
def test_a_proposal_changes_nothing_and_is_what_happens(name):
    manager, optimizer, x, given = learnt_one(name)
    y = labels(x, seed=3)
    torch.manual_seed(5)
    before = everything(manager, optimizer)
    proposed = manager.propose("begin", [(x, y)], **given)
    assert everything(manager, optimizer) == before
    assert proposed
    assert all(plan.reason.startswith(f"{plan.cause['policy']}: ") for plan in proposed)
    edits = manager.begin_task("b", [(x, y)], **given)
    assert [edit.plan for edit in edits] == list(proposed)
    train(manager.structure.model, manager.mas, (x, y), optimizer=optimizer)
    before = everything(manager, optimizer)
    proposed = manager.propose("end", [x], metrics=METRICS)
    assert everything(manager, optimizer) == before
    assert [edit.plan for edit in manager.end_task([x], metrics=METRICS)] == list(proposed)


def test_reasons_name_policy_statistic_and_threshold(tmp_path):
    net, x = network(), inputs()
    structure = gm.Structure(net, x)
    with gm.TopologyTracker(structure, tmp_path / "h.db") as tracker:
        manager = gm.StructuralManager(
            structure,
            mas=gm.MAS(net),
            tracker=tracker,
            grow=gm.GrowBySaturation(0.05, most=3),
            prune=gm.PruneBelow(0.5),
        )
        for task in "abc":
            manager.begin_task(task)
            manager.end_task([x])
    with gm.TopologyHistory(tmp_path / "h.db") as history:
        reasons = {event.reason for event in history.events()}
        causes = {event.cause["policy"]: event.cause for event in history.events()}
    assert any(r.startswith("GrowBySaturation: saturation 0 0.") and "> 0.05" in r for r in reasons)
    assert any(r.startswith("PruneBelow: penalty saliency below 0.5 of the mean") for r in reasons)
    grown = causes["GrowBySaturation"]
    assert grown["threshold"] == dict.fromkeys(grown["value"], 0.05)
    assert all(value > 0.05 for value in grown["value"].values())
    pruned = causes["PruneBelow"]
    assert pruned["statistic"] == "penalty saliency"
    assert pruned["value"].keys() == pruned["threshold"].keys()
    assert all(value < pruned["threshold"][name] for name, value in pruned["value"].items())


def test_veto_and_replacement():
    seen = []

    def decide(plan):
        seen.append(plan)
        return None if plan.prune else Plan(grow={"0": 3}, reason="mine")

    manager, structure, *_, x = managed(
        grow=gm.GrowPolicy(2),
        prune=gm.PrunePolicy(0.2),
        decide=decide,
        budget=gm.Budget(units=20),
    )
    manager.begin_task("a")
    manager.end_task([x])
    (edit,) = manager.begin_task("b")
    assert edit.reason == "mine; 2 of 3 units fit the budget of 20 units"
    assert edit.born == {"0": (10, 11)}
    assert manager.end_task([x]) == ()
    assert [bool(plan.prune) for plan in seen] == [False, True]
    assert structure.groups["0"].width == 12


def test_later_policies_see_what_earlier_ones_planned():
    manager, structure, *_, x = managed(
        prune=[gm.PrunePolicy(0.5, grace=0), gm.PrunePolicy(0.5, grace=0, criterion="sum")] * 2
    )
    manager.begin_task("a")
    edits = manager.end_task([x])
    gone = [unit for edit in edits for unit in edit.died.get("0", ())]
    assert len(gone) == len(set(gone)) == 9, "one unit is left"
    assert structure.groups["2"].width == 1


class Doubling(gm.Policy):
    moments = ("step",)

    def propose(self, situation):
        return Plan(grow={name: group.width for name, group in situation.structure.groups.items()})


def test_a_policy_of_ones_own_within_a_budget():
    manager, structure, *_ = managed(grow=Doubling(), budget=gm.Budget(units=30))
    manager.step()
    assert {n: g.width for n, g in structure.groups.items()} == {"0": 17, "2": 13}
    assert manager.begin_task("a") == ()


def test_steps_need_no_tasks_and_count_the_age_of_units():
    manager, structure, mas, _, x = managed(
        grow=gm.GrowPolicy({"0": 2}), prune=gm.PrunePolicy(0.2, grace=2)
    )
    mas.consolidate([x])
    assert [edit.died for edit in manager.step([x])] == [{}]
    assert [edit.died for edit in manager.step([x])] == [{}]
    grown, pruned = manager.step([x])
    assert grown.born == {"0": (14, 15)}
    assert all(unit < 12 for unit in pruned.died["0"])
    grown, pruned = manager.step([x])
    assert all(unit < 14 for unit in pruned.died["0"])
    assert structure.tasks == ()
    assert manager.statistics.moments["2"].count == 4 * len(x)


def test_a_step_can_ask_some_policies_only():
    grow, prune = gm.GrowPolicy(1), gm.PrunePolicy(0.2, grace=0)
    manager, _, mas, _, x = managed(grow=grow, prune=prune)
    mas.consolidate([x])
    assert [edit.born for edit in manager.step([x], only=grow)] == [{"0": (10,), "2": (8,)}]
    with pytest.raises(PlanError, match="not a policy of this manager"):
        manager.step([x], only=gm.GrowPolicy(5))


def plain(value):
    """Return True if a state consists of plain tensors and JSON values."""
    if isinstance(value, dict):
        return all(isinstance(k, str) and plain(v) for k, v in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    return isinstance(value, Tensor) or json.loads(json.dumps(value)) == value


def test_state_goes_on_where_it_was():
    manager, _, x, given = learnt_one("need")
    manager.begin_task("b", [(x, labels(x))], **given)
    state = manager.state_dict()
    assert plain(state)
    structure = gm.Structure(manager.structure.model, x)
    structure.load_state_dict(manager.structure.state_dict())
    mas = gm.MAS(structure.model)
    mas.load_state_dict(manager.mas.state_dict())
    other = gm.StructuralManager(
        structure, mas=mas, grow=gm.GrowByNeed(target=0.0, most=16), prune=gm.PruneWithin(0.2)
    )
    other.load_state_dict(state)
    assert other.reached == manager.reached
    assert len(other.reached) == 2
    assert plain(other.state_dict())
    assert other.statistics.moments["2"].count == 32
    for key in ("open", "steps", "births", "reached"):
        assert other.state_dict()[key] == state[key]


def test_a_state_that_does_not_fit_is_refused():
    manager, *_ = managed(prune=gm.PrunePolicy(0.1))
    with pytest.raises(DataError, match="has no statistics, but a policy reconstructs"):
        manager.load_state_dict({**manager.state_dict(), "statistics": None})
    manager, *_ = managed()
    with pytest.raises(DataError, match="state lacks births, open, reached"):
        manager.load_state_dict({"steps": 0})


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        ({"grow": gm.GrowPolicy({"1": 3, "fc": 2})}, "GrowPolicy: no group '1'; "),
        ({"prune": gm.PrunePolicy(0.1, protected="00")}, "no group '00'; did you mean '0'?"),
        ({"grow": gm.GrowPolicy({"4": 1})}, "group '4' cannot change"),
        ({"grow": 8}, "grow=8: expected a policy"),
        ({"prune": [0.1]}, "prune=0.1: expected a policy, such as"),
        (
            {"budget": gm.Budget(units=17, parameters=100)},
            "smaller than the network: 100 parameters where the network has 185, "
            "17 units where the network has 18",
        ),
    ],
)
def test_what_does_not_fit_is_refused_when_the_manager_is_made(policies, message):
    with pytest.raises(PlanError, match=message.replace("?", r"\?")):
        managed(**policies)


def test_end_without_begin_is_refused_and_nothing_is_consolidated():
    manager, _, mas, _, x = managed()
    with pytest.raises(PlanError, match="end_task without an open task: call begin_task"):
        manager.end_task([x])
    with pytest.raises(PlanError, match="needs an open task"):
        manager.propose("end", [x])
    manager.begin_task("a")
    manager.end_task([x])
    with pytest.raises(PlanError, match="end_task without an open task"):
        manager.end_task([x])
    assert mas.tasks == 1
    with pytest.raises(PlanError, match="moment='middle'"):
        manager.propose("middle")


def test_an_end_that_a_policy_refuses_can_be_repeated():
    manager, _, mas, optimizer, x = managed(prune=gm.PruneWithin(0.01, measure="metrics"))
    manager.begin_task("a")
    before = everything(manager, optimizer)
    with pytest.raises(PlanError, match="PruneWithin measures its cost on metrics, but has none"):
        manager.end_task([x])
    assert everything(manager, optimizer) == before
    manager.end_task([x], metrics=METRICS)
    assert mas.tasks == 1


def test_a_begin_that_fails_has_not_begun():
    manager, structure, *_ = managed(grow=gm.GrowByNeed())
    with pytest.raises(PlanError, match="GrowByNeed runs a trial of the new task, but has none"):
        manager.begin_task("a")
    assert structure.tasks == ()


def test_reconstruction_without_data_is_refused_before_anything_happens():
    manager, structure, mas, _, x = managed(
        grow=gm.GrowPolicy(2), prune=gm.PrunePolicy(0.2, grace=0)
    )
    mas.consolidate([x])
    with pytest.raises(PlanError, match="no data was seen yet: give step"):
        manager.step()
    assert structure.groups["0"].width == 10


def test_an_edit_that_fails_leaves_the_network_and_the_task_open():
    class Breaks:
        def follow(self, edit):
            raise RuntimeError("no")

    manager, structure, mas, _, x = managed(
        prune=gm.PrunePolicy(0.2, grace=0), followers=[Breaks()]
    )
    manager.begin_task("a")
    with pytest.raises(RuntimeError, match="no"):
        manager.end_task([x])
    assert structure.groups["0"].width == 10
    assert mas.tasks == 0


def test_the_penalty_must_be_of_the_network():
    net = network()
    with pytest.raises(PlanError, match="mas is of another network"):
        gm.StructuralManager(gm.Structure(net, inputs()), mas=gm.MAS(network()))


def test_several_tasks_learnt_with_everything_at_once():
    manager, structure, mas, optimizer, x = managed(
        grow=[gm.ReplaceDead(), gm.GrowBySaturation(0.2, most=6), gm.OvergrowSelect({"2": 2})],
        prune=[gm.PruneBelow(0.05), gm.PruneWithin(0.05)],
        budget=gm.Budget(parameters=320, units=40, flops=20_000),
    )
    answers = {}
    for index, task in enumerate("abcd"):
        y = labels(x, seed=index)
        manager.begin_task(task)
        train(structure.model, mas, (x, y), steps=20, optimizer=optimizer)
        assert not manager.budget.excess(structure.cost())
        manager.end_task([x])
        with structure.view(task), torch.no_grad():
            answers[task] = loss(structure.model, (x, y))
    assert all(math.isfinite(value) for value in answers.values())
    for name, parameter in structure.model.named_parameters():
        assert mas.omega[name].shape == mas.anchor[name].shape == parameter.shape
    live = {id(p) for p in structure.model.parameters()}
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == live


def test_batches_that_do_not_go_through_the_network_change_nothing():
    manager, _, mas, optimizer, x = managed(prune=gm.PrunePolicy(ratio=0.2, grace=0))
    manager.begin_task("a")
    before = everything(manager, optimizer)
    for act in (
        lambda: manager.end_task([x, x[:, :4]]),
        lambda: manager.propose("end", [x[:, :4]]),
    ):
        with pytest.raises(DataError, match=r"batch.* cannot be multiplied.*shape"):
            act()
        assert everything(manager, optimizer) == before
    manager.end_task([x])
    assert mas.tasks == 1
