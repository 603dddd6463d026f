import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import CONVNET, MLP, SURGERY, Case
from rich.console import Console
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from growmas import Plan, Structure
from growmas.errors import PlanError, SurgeryError

GOLDEN = Path(__file__).parent / "golden"


def structure_of(case: Case) -> Structure:
    return Structure(case.model(), case.inputs(5))


def printed(view: object, encoding: str) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=90, color_system=None, legacy_windows=False)
    console.print(view)
    file.seek(0)
    return "".join(f"{line.rstrip()}\n" for line in file.read().splitlines())


@pytest.fixture
def check_golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    def check(name: str, text: str) -> None:
        path = GOLDEN / f"{name}.txt"
        if request.config.getoption("--regenerate"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return check


def test_a_plan_is_plain_data():
    plan = Plan(prune={"0": np.array([3, 1])}, grow={"2": np.int64(4)}, replace={"2": [0]})
    assert plan == Plan(prune={"0": (3, 1)}, grow={"2": 4}, replace={"2": torch.tensor([0])})
    assert plan.removed == {"0": (3, 1), "2": (0,)}
    assert plan.added == {"2": 5}
    assert plan.groups == ("0", "2")
    assert not Plan(prune={"0": []}, grow={"0": 0}, replace={"2": []})


@pytest.mark.parametrize(
    "plan",
    [
        Plan(),
        Plan(prune={"fc1": [3, 17]}, grow={"fc2": 8}, replace={"fc1": [2]}, reason="a − b\n“ö”"),
        structure_of(MLP).plan(replace={"0": [3]}, reason="half"),
        Plan(grow={"0": 1}, cause={"policy": "P", "value": {"0": (1, 2.5, None)}}),
    ],
)
def test_json_both_ways(plan: Plan):
    assert Plan.from_json(plan.to_json()) == plan
    assert Plan.from_json(plan.to_json()).to_json() == plan.to_json()


def test_plans_of_before_causes_are_read():
    content = json.loads(Plan(grow={"0": 1}).to_json())
    del content["cause"]
    assert Plan.from_json(json.dumps(content)) == Plan(grow={"0": 1})


@pytest.mark.parametrize("cause", [{"value": float("nan")}, {"value": object()}, [1], "why"])
def test_a_cause_is_json_values_by_name(cause):
    with pytest.raises(PlanError, match="cause: expected JSON values by name"):
        Plan(cause=cause)


def test_json_that_is_no_plan_lists_every_mistake():
    with pytest.raises(PlanError, match="got no JSON"):
        Plan.from_json("{")
    with pytest.raises(PlanError, match="growmas_plan = 1"):
        Plan.from_json("[]")
    content = json.loads(Plan(reason="x").to_json())
    content |= {"prune": {"0": [1.5]}, "grow": {"0": True}, "shrink": 1, "reason": 3}
    del content["replace"]
    with pytest.raises(PlanError) as caught:
        Plan.from_json(json.dumps(content))
    for part in ("unknown key 'shrink'", "missing key 'replace'", "prune: expected lists of ids",
                 "grow: expected numbers", "reason: expected text"):  # fmt: skip
        assert part in str(caught.value)


def test_every_problem_is_listed_at_once():
    structure = structure_of(MLP)
    plan = Plan(
        prune={"0": [99, 1, 1, "x"], "4": [0], "00": [1]},
        replace={"0": [1], "2": [True]},
        grow={"2": 1.5, "1": 1},
    )
    with pytest.raises(PlanError) as caught:
        structure.apply(plan)
    for part in (
        "unit 99 does not exist (ids so far: 0 to 7)", "unit 'x' does not exist", "named twice",
        "'0': unit 1 in prune and in replace", "grow '2': expected a number of units >= 0",
        "group '4' cannot change", "no group '00'; did you mean '0'?", "no group '1'",
    ):  # fmt: skip
        assert part in str(caught.value)
    with pytest.raises(PlanError, match="expected a list of ids, got 3"):
        Plan(prune={"0": 3})
    with pytest.raises(PlanError, match="all 8 units would be removed"):
        structure.apply(Plan(prune={"0": range(8)}))


def test_a_group_that_says_why_is_refused():
    structure = structure_of(MLP)
    group = structure.groups["0"]
    closed = {"0": type(group)(**{**vars(group), "no_grow": "reason A", "no_shrink": "reason B"})}
    with pytest.raises(PlanError, match="'0' cannot shrink: reason B; '0' cannot grow: reason A"):
        Plan(replace={"0": [1]}).check(closed, {})


def test_stale_plans_name_what_changed():
    structure = structure_of(MLP)
    plan = structure.plan(grow={"0": 1}, prune={"2": [0]})
    structure.apply(Plan(grow={"0": 2}, prune={"0": [3]}))
    with pytest.raises(PlanError) as caught:
        structure.apply(plan)
    assert "since it was made '0' has lost unit 3 and gained units 8, 9; make a new plan" in str(
        caught.value
    )
    assert "'2' has" not in str(caught.value)
    structure.apply(Plan(grow=plan.grow, prune=plan.prune))  # by hand: checked by ids alone


def test_other_groups_may_change_under_a_plan():
    structure = structure_of(MLP)
    plan = structure.plan(grow={"0": 1})
    structure.apply(Plan(grow={"2": 2}))
    structure.apply(plan)
    with pytest.raises(PlanError, match="no group 'x'"):
        structure.plan(grow={"x": 1})


def test_replacing_keeps_the_width_and_knows_who_followed_whom():
    structure = structure_of(CONVNET)
    name, group = next(iter(structure.groups.items()))
    edit = structure.apply(Plan(replace={name: [2, 0]}, grow={name: 1}))
    after = structure.groups[name]
    assert after.width == group.width + 1
    assert edit.died == {name: (0, 2)}
    assert edit.replaced_units == {name: {group.next_id + 1: 2, group.next_id + 2: 0}}
    structure.apply(Plan(replace={name: after.unit_ids}))  # even all of them
    assert structure.groups[name].width == after.width


@pytest.mark.parametrize("case", SURGERY, ids=lambda case: case.name)
def test_explaining_says_what_applying_does_and_touches_nothing(case: Case):
    structure = structure_of(case)
    before = {name: tensor.clone() for name, tensor in structure.model.state_dict().items()}
    random = torch.get_rng_state()
    grow = dict.fromkeys(structure.groups, 2)
    replaced = list(structure.groups) if case.together else list(structure.groups)[:1]
    plan = structure.plan(grow=grow, replace={name: [0] for name in replaced})
    explanation = plan.explain(structure)
    assert torch.equal(random, torch.get_rng_state())
    for name, tensor in structure.model.state_dict().items():
        assert torch.equal(tensor, before[name])
    structure.apply(plan)
    assert explanation.parameters[1] == structure.parameters
    with FlopCounterMode(display=False) as counter:
        structure.model(structure.example_inputs)
    flops = counter.get_total_flops()
    if case.name == "two-heads":  # of which a task runs one
        small = structure.model.get_submodule("heads.0").weight
        flops -= 2 * small.numel() * len(structure.example_inputs)
    assert explanation.flops[1] == flops // len(structure.example_inputs)
    for effect in explanation.groups:
        assert effect.width[1] == structure.groups[effect.name].width


def explained() -> object:
    net = nn.Sequential(
        nn.Linear(30, 40), nn.ReLU(), nn.Linear(40, 20), nn.ReLU(), nn.Linear(20, 10)
    )
    structure = Structure(net, torch.zeros(8, 30))
    plan = structure.plan(
        prune={"0": [*range(4, 12), 20, 25, 27, 29, 31, 33, 35]},
        grow={"2": 12},
        replace={"2": [7]},
        reason="what task 3 needs",
    )
    return plan.explain(structure)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_printed_explanation(encoding: str, check_golden: Callable[[str, str], None]):
    text = printed(explained(), encoding)
    check_golden(f"plan_{encoding}", text)
    numbers = [
        [int(n) for n in re.findall(r"[+-]?\d+", line.replace(",", "").replace("−", "-"))]
        for line in text.splitlines()
    ]
    (_, _, _, p1, f1, *_), (_, _, _, p2, f2, *_) = [n for n in numbers if len(n) > 5]
    ((before, after, flops_before, flops_after),) = [n for n in numbers if len(n) == 4]
    assert after - before == p1 + p2
    assert flops_after - flops_before == f1 + f2


def test_print_shows_the_table():
    """As rich does, 100 columns wide."""
    text = str(explained())
    assert "what task 3 needs" in text
    assert "40 → 25" in text
    assert "20 → 32" in text
    assert max(map(len, text.splitlines())) <= 100


def test_explaining_what_holds_a_width_outside_layers_is_refused():
    def view(m, x):
        return m[1](m[0](x).view(3, 4))

    net = nn.ModuleList([nn.Linear(6, 4), nn.Linear(4, 2)])
    structure = Structure(net, torch.rand(3, 6), forward=view)
    with pytest.raises(SurgeryError, match="the forward pass fails"):
        structure.explain(Plan(grow={"0": 1}))
