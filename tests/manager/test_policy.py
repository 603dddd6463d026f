"""A policy is checked when it is defined, and policies that overlap are made to fit each other."""

from abc import abstractmethod
from dataclasses import dataclass

import pytest
import torch
from scenes import everything, managed

import growmas as gm
from growmas.errors import GrowmasError, PlanError, PolicyError
from growmas.manager import Policy, Situation


def defined(**body):
    return type("Mine", (Policy,), body)


def propose(self, situation):
    return gm.Plan()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"propose": propose}, "Mine cannot be used: it sets no moments, so that it would never"),
        ({"propose": propose, "moments": ()}, "it sets no moments"),
        ({"propose": propose, "moments": "end"}, r"moments='end': .*write moments = \('end',\)"),
        ({"propose": propose, "moments": "ending"}, "moments='ending': expected a tuple"),
        ({"propose": propose, "moments": ("end", "fin")}, "'fin' unknown, expected a tuple of"),
        ({"propose": propose, "moments": 3}, "moments=3: expected a tuple of 'begin', 'end'"),
        ({"propose": propose, "moments": (3,)}, r"moments=\(3,\): expected a tuple"),
        ({"moments": ("end",)}, r"has no method propose\(self, situation\) -> Plan"),
        ({"moments": ("end",), "propose": 5}, "propose=5: expected a method"),
        ({}, "sets no moments.*; it has no method propose"),
    ],
)
def test_a_policy_that_could_not_be_asked_is_refused_when_it_is_defined(body, message):
    with pytest.raises(PolicyError, match=message) as refused:
        defined(**body)
    assert isinstance(refused.value, GrowmasError)
    assert isinstance(refused.value, TypeError)
    assert "class Mine(gm.Policy):" in str(refused.value), "the message says what to write"


def test_what_the_message_says_to_write_works():
    with pytest.raises(PolicyError) as refused:
        defined()
    lines = str(refused.value).splitlines()[1:-1]
    scope = {"gm": gm}
    exec("\n".join(line[4:] for line in lines), scope)
    manager, *_, x = managed(prune=scope["Mine"]())
    manager.begin_task("a")
    assert manager.end_task([x]) == ()


def test_moments_and_propose_may_come_from_different_bases():
    class Asked(Policy, abstract=True):
        moments = ("end", "step")

    class Mine(Asked):
        def propose(self, situation):
            return gm.Plan()

    class Yours(Mine):
        pass

    assert Yours().moments == ("end", "step")
    with pytest.raises(PolicyError, match="Theirs cannot be used: it has no method propose"):

        class Theirs(Asked):
            pass


def test_an_abstract_base_may_be_a_dataclass_with_slots():
    @dataclass(frozen=True, slots=True)
    class Base(Policy, abstract=True):
        share: float

        @abstractmethod
        def propose(self, situation): ...

    @dataclass(frozen=True, slots=True)
    class Mine(Base):
        moments = ("begin",)

        def propose(self, situation):
            return gm.Plan(grow={"0": round(self.share * 10)})

    manager, *_ = managed(grow=Mine(0.2))
    assert [edit.born for edit in manager.begin_task("a")] == [{"0": (10, 11)}]


def test_an_abstract_policy_is_refused_as_a_policy():
    class Base(Policy, abstract=True):
        moments = ("begin",)

    for made in (Base(), Policy()):
        with pytest.raises(PolicyError, match="is the abstract base of policies: use a subclass"):
            managed(grow=made)
        with pytest.raises(PolicyError, match="has no propose"):
            made.propose(None)


class Fixed(Policy):
    """Proposes one plan at every end."""

    moments = ("end",)

    def __init__(self, **plan):
        self.plan = gm.Plan(**plan)

    def propose(self, situation):
        self.seen = situation
        return self.plan


def ended(*policies, **options):
    manager, structure, *_, x = managed(prune=list(policies), **options)
    manager.begin_task("a")
    return manager.end_task([x]), structure, policies


def test_a_unit_that_two_policies_prune_goes_once():
    edits, structure, _ = ended(Fixed(prune={"0": [1, 2]}), Fixed(prune={"0": [2, 3], "2": [0]}))
    assert [edit.died for edit in edits] == [{"0": (1, 2)}, {"0": (3,), "2": (0,)}]
    assert structure.groups["0"].unit_ids == (0, 4, 5, 6, 7, 8, 9)


def test_a_policy_whose_units_are_all_gone_already_makes_no_edit():
    edits, structure, _ = ended(Fixed(prune={"0": [1, 2]}), Fixed(prune={"0": [2, 1]}))
    assert len(edits) == 1
    assert structure.groups["0"].width == 8


@pytest.mark.parametrize("first", ["prune", "replace"])
def test_of_prune_and_replace_of_one_unit_the_first_wins(first):
    plans = [Fixed(prune={"0": [4]}), Fixed(replace={"0": [4]})]
    edits, structure, _ = ended(*(plans if first == "prune" else plans[::-1]))
    assert len(edits) == 1
    assert edits[0].died == {"0": (4,)}
    assert structure.groups["0"].width == (9 if first == "prune" else 10)
    assert edits[0].born == ({} if first == "prune" else {"0": (10,)})


def test_two_policies_that_grow_one_group_add_up():
    edits, structure, (_, second) = ended(Fixed(grow={"0": 2}), Fixed(grow={"0": 3, "2": 1}))
    assert [edit.born for edit in edits] == [{"0": (10, 11)}, {"0": (12, 13, 14), "2": (8,)}]
    assert second.seen.planned.grow == {"0": 2}
    assert structure.groups["0"].width == 15


def test_the_budget_counts_what_is_planned_already():
    edits, structure, _ = ended(
        Fixed(grow={"0": 2}), Fixed(grow={"0": 3, "2": 3}), budget=gm.Budget(units=18 + 2 + 4)
    )
    assert [sum(map(len, edit.born.values())) for edit in edits] == [2, 4]
    assert edits[1].reason == "4 of 6 units fit the budget of 24 units"
    assert structure.groups["0"].width == 10 + 2 + 2


def test_plans_that_together_would_leave_no_unit_are_refused_before_anything_happens():
    policies = [Fixed(prune={"0": range(5)}), Fixed(prune={"0": range(5, 10)})]
    manager, *_, optimizer, x = managed(prune=policies)
    manager.begin_task("a")
    before = everything(manager, optimizer)
    with pytest.raises(PlanError, match="Fixed, together with the plans of the policies before"):
        manager.end_task([x])
    assert everything(manager, optimizer) == before


def test_a_group_that_is_wholly_replaced_has_nothing_left_to_prune():
    policies = [Fixed(replace={"0": range(10)}), gm.PrunePolicy(0.5, grace=0)]
    edits, structure, _ = ended(*policies)
    assert [set(edit.died) for edit in edits] == [{"0"}, {"2"}]
    assert structure.groups["0"].unit_ids == tuple(range(10, 20))


def test_causes_of_several_policies_are_all_kept():
    one, two = ({"policy": name} for name in "ab")
    policies = [Fixed(grow={"0": 1}, cause=one), Fixed(grow={"0": 1}, cause=two), Fixed()]
    *_, (_, second, third) = ended(*policies)
    assert second.seen.planned.cause == one
    assert third.seen.planned.cause == {"causes": [one, two]}


def test_a_manager_says_what_it_is_in_one_line():
    manager, *_ = managed(
        grow=gm.GrowPolicy(2), prune=gm.PrunePolicy(0.1), budget=gm.Budget(units=50)
    )
    manager.begin_task("a")
    assert repr(manager) == (
        "StructuralManager(GrowPolicy, PrunePolicy, "
        "Budget(parameters=None, flops=None, units=50); 2 groups, 1 task begun)"
    )
    assert repr(managed()[0]) == "StructuralManager(no policies; 2 groups, 0 tasks begun)"


def test_situation_helpers():
    manager, structure, mas, _, x = managed()
    manager.begin_task("a")
    mas.consolidate([x])
    ages = {"0": (2, 2, 0, 1, 2, 2, 2, 2, 2, 2), "2": (0,) * 8}
    planned = gm.Plan(prune={"0": [1]}, replace={"0": [4]})
    here = Situation("end", structure, mas, ages, planned=planned)
    group = structure.groups["0"]
    assert here.leaving(group) == {1, 4}
    assert here.old(group, 1) == [0, 3, 5, 6, 7, 8, 9]
    assert here.old(group, 2) == [0, 5, 6, 7, 8, 9]
    equal = torch.ones(10)
    assert here.expendable(group, 1, equal) == [0, 3, 5, 6, 7, 8], "of equals the last stays"
    falling = torch.arange(10.0, 0.0, -1.0)
    assert here.expendable(group, 1, falling) == [9, 8, 7, 6, 5, 3], "the most salient stays"
