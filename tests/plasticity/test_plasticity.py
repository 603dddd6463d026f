"""The replacement of low-utility units in a loop of one's own, and under a manager."""

import copy
import logging
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import growmas as gm
from growmas.errors import DataError, PlanError, SurgeryError
from growmas.plasticity.choice import chosen
from growmas.plasticity.population import Population
from growmas.plasticity.recorder import readers_of
from growmas.plasticity.utility import measured


def mlp(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 3)
    )


def scene(policy: Any, *, adam: bool = True, **options: Any) -> Any:
    net = mlp()
    with torch.no_grad():
        net[0].bias[[4, 9, 13]] = -50.0  # dead units
    structure = gm.Structure(net, torch.randn(8, 6))
    make = torch.optim.Adam if adam else torch.optim.SGD
    optimizer = make(net.parameters(), lr=1e-3)
    return net, structure, optimizer, gm.Plasticity(structure, optimizer, policy, **options)


def learn(
    net: nn.Module,
    optimizer: Any,
    steps: int,
    after: Any,
    seed: int = 3,
    inputs: Tensor | None = None,
) -> list[gm.Plan]:
    generator, edits = torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        x = torch.randn(16, 6, generator=generator) if inputs is None else inputs
        output = net(x)
        labels = torch.randint(output.shape[1], (len(x),), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(output, labels).backward()
        optimizer.step()
        edits += after(x)
    return edits


@pytest.mark.parametrize("adam", [True, False])
def test_dead_units_are_reborn_in_pairs_once_they_are_mature(adam: bool):
    policy = gm.ReplaceLowUtility(maturity=40, protected="2")
    net, structure, optimizer, plasticity = scene(policy, adam=adam)
    edits = learn(net, optimizer, 60, lambda x: plasticity.step())
    assert [sorted(edit.died["0"]) for edit in edits] == [[4, 9, 13]]
    assert edits[0].mates == {"0": ((20, 21, 22),)}
    assert edits[0].reason == "ReplaceLowUtility: utility below 0.2 of the mean: 0 3"
    cause = edits[0].cause
    assert (cause["policy"], cause["statistic"]) == ("ReplaceLowUtility", "utility: rms")
    assert cause["step"] == 50
    assert cause["value"]["0"] == 0 < cause["threshold"]["0"]
    assert plasticity.replaced == 3
    assert structure.groups["0"].width == 20


def test_a_single_low_unit_waits_for_a_second_one():
    net, _, optimizer, plasticity = scene(
        gm.ReplaceLowUtility(maturity=0, decay=0.0, protected="2")
    )
    with torch.no_grad():
        net[0].bias[[4, 9]] = 0.0
    assert learn(net, optimizer, 40, lambda x: plasticity.step()) == []
    with torch.no_grad():
        net[0].bias[1] = -50.0
    (edit,) = learn(net, optimizer, 40, lambda x: plasticity.step())
    assert sorted(edit.died["0"]) == [1, 13]
    assert plasticity.skipped == {"2": "it is protected"}


def test_a_rate_replaces_the_least_useful_and_carries_fractions_over():
    policy = gm.ReplaceLowUtility(rate=0.004, maturity=0, every=5, guard=None)
    net, _, optimizer, plasticity = scene(policy)
    edits = learn(net, optimizer, 500, lambda x: plasticity.step())
    born = sum(len(edit.born.get("0", ())) for edit in edits)
    assert 34 <= born <= 40  # 0.004 · 20 · 500 = 40, less what is owed and too young
    assert all(len(ids) % 2 == 0 for edit in edits for ids in edit.born.values())


@pytest.mark.parametrize("utility", ["rms", "activation", "contribution", "importance"])
def test_every_utility_finds_units_that_are_dead(utility: Any):
    policy = gm.ReplaceLowUtility(maturity=20, utility=utility, threshold=1e-4)
    net, _, optimizer, plasticity = scene(policy)
    edits = learn(net, optimizer, 40, lambda x: plasticity.step(x))
    assert sorted(edits[0].died["0"]) == [4, 9, 13]


def test_a_utility_of_ones_own_is_given_activations():
    seen = {}

    def largest(group: Any, h: Tensor) -> Tensor:
        seen[group.name] = tuple(h.shape)
        return h.amax(0)

    net, _, optimizer, plasticity = scene(gm.ReplaceLowUtility(maturity=20, utility=largest))
    edits = learn(net, optimizer, 40, lambda x: plasticity.step())
    assert seen == {"0": (16, 20), "2": (16, 10)}
    assert sorted(edits[0].died["0"]) == [4, 9, 13]


def test_saturated_units_of_tanh_are_found_by_their_spread():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 3))
    with torch.no_grad():
        net[0].bias[[3, 8]] = 30.0
    structure = gm.Structure(net, torch.randn(8, 6))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    plasticity = gm.Plasticity(structure, optimizer, gm.ReplaceLowUtility(maturity=20))
    (edit,) = learn(net, optimizer, 40, lambda x: plasticity.step())
    assert sorted(edit.died["0"]) == [3, 8]


def slow_utility(utility: str, h: Tensor, *, saturated: bool = False) -> Tensor:
    """Return the utility of each unit, sample by sample."""
    found = torch.zeros(h.shape[1], dtype=torch.float64)
    for unit in range(h.shape[1]):
        values = [float(v) for v in h[:, unit]]
        middle = sum(values) / len(values) if saturated else 0.0
        if utility == "rms":
            found[unit] = (sum((v - middle) ** 2 for v in values) / len(values)) ** 0.5
        else:
            found[unit] = sum(abs(v - middle) for v in values) / len(values)
    return found


@pytest.mark.parametrize("utility", ["rms", "activation"])
@pytest.mark.parametrize("saturated", [False, True])
def test_the_size_of_activations_is_that_of_a_loop_over_samples(utility: Any, saturated: bool):
    structure = gm.Structure(mlp(), torch.randn(8, 6))
    h = torch.randn(16, 20, dtype=torch.float64)
    found = measured(
        utility,
        structure.groups["0"],
        h[:, :, None],
        structure.entries("0"),
        around_mean=saturated,
    )
    expected = slow_utility(utility, h, saturated=saturated)
    torch.testing.assert_close(torch.from_numpy(found), expected)


def test_a_unit_that_is_strong_on_one_sample_in_ten_stays_by_default():
    """Its mean is a tenth of that of a unit that is always on; its root mean square a third."""
    inputs = torch.eye(10).repeat(2, 1)

    def born_again(utility: str) -> list[int]:
        net = nn.Sequential(nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, 2))
        with torch.no_grad():
            net[0].weight.zero_()
            net[0].bias.fill_(1.0)
            net[0].bias[[0, 1, 10, 11]] = 0.0  # 0 and 1 see one sample each, 10 and 11 none
            net[0].weight[[0, 1], [0, 1]] = 1.0
        structure = gm.Structure(net, inputs)
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-9)
        policy = gm.ReplaceLowUtility(utility=utility, maturity=5)
        plasticity = gm.Plasticity(structure, optimizer, policy)
        edits = learn(net, optimizer, 10, lambda x: plasticity.step(), inputs=inputs)
        return sorted(unit for edit in edits for unit in edit.died["0"])

    assert born_again("rms") == [10, 11]
    assert born_again("activation") == [0, 1, 10, 11]


def test_the_utility_is_the_size_of_the_activations_of_the_training_pass():
    """Against the activations computed by hand, over three measurements."""
    policy = gm.ReplaceLowUtility(maturity=10**6, every=1, decay=0.5)
    net, structure, optimizer, plasticity = scene(policy)
    slow = torch.zeros(20)
    for step in range(3):
        x = torch.randn(16, 6)
        with torch.no_grad():
            hidden = slow_utility("rms", net[:2](x)).float()
        slow = 0.5 * slow + 0.5 * hidden
        optimizer.zero_grad()
        net(x).square().mean().backward()
        with torch.no_grad():
            net(torch.zeros(4, 6))  # a validation in between does not count
        optimizer.step()
        plasticity.step()
        found = torch.from_numpy(plasticity._populations["0"].utility)
        torch.testing.assert_close(
            found, (slow / (1 - 0.5 ** (step + 1))).double(), rtol=1e-5, atol=1e-6
        )
    assert [r.module for r in readers_of(structure, structure.groups["0"])] == [net[2]]


def test_the_head_that_is_trained_is_the_one_that_is_looked_at():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(6, 12)
            self.heads = nn.ModuleList([nn.Linear(12, 2), nn.Linear(12, 2)])

        def forward(self, x: Tensor, head: int | None = None) -> Any:
            hidden = self.body(x).relu()
            return [h(hidden) for h in self.heads] if head is None else self.heads[head](hidden)

    torch.manual_seed(0)
    net = Two()
    with torch.no_grad():
        net.body.bias[[2, 7]] = -50.0
    structure = gm.Structure(net, torch.randn(4, 6))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    plasticity = gm.Plasticity(
        structure, optimizer, gm.ReplaceLowUtility(maturity=15, threshold=1e-3)
    )
    edits = []
    for _ in range(20):
        optimizer.zero_grad()
        net(torch.randn(16, 6), head=1).square().mean().backward()
        optimizer.step()
        edits += plasticity.step()
    assert [edit.died for edit in edits] == [{"body": (2, 7)}]


def test_channels_heads_and_ffn_units_are_replaced():
    torch.manual_seed(0)
    conv = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(54, 3),
    )  # fmt: skip
    with torch.no_grad():
        conv[1].bias[[2, 5]] = -50.0
        conv[4].bias[[0, 3]] = -50.0

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads, self.size = 4, 3
            self.qkv, self.out = nn.Linear(12, 36), nn.Linear(12, 12)
            self.up, self.down = nn.Linear(12, 16), nn.Linear(16, 12)
            self.head = nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(1).view(len(x), 3, 12)
            q, k, v = self.qkv(x).view(len(x), 3, 3, self.heads, self.size).unbind(2)
            scores = torch.einsum("nqhd,nkhd->nhqk", q, k).softmax(-1)
            x = x + self.out(torch.einsum("nhqk,nkhd->nqhd", scores, v).flatten(2))
            return self.head((x + self.down(self.up(x).relu())).mean(1))

    gm.register_attention(Block, project={"qkv": 3}, output="out", heads="heads")
    block = Block()
    with torch.no_grad():
        block.up.bias[[1, 7]] = -50.0
        block.qkv.weight[24 + 3 : 24 + 9] = 0.0  # values of the heads 1 and 2
        block.qkv.bias[24 + 3 : 24 + 9] = 0.0
    for net, expected in (
        (conv, {"0": [2, 5], "4": [0, 3]}),
        (block, {"heads": [1, 2], "up": [1, 7]}),
    ):
        x = torch.randn(16, 1, 6, 6)
        structure = gm.Structure(net, x)
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
        policy = gm.ReplaceLowUtility(maturity=15, threshold=0.05)
        plasticity = gm.Plasticity(structure, optimizer, policy)
        edits = []
        for _ in range(30):
            x = torch.randn(16, 1, 6, 6)
            optimizer.zero_grad()
            F.cross_entropy(net(x), torch.randint(3, (16,))).backward()
            optimizer.step()
            edits += plasticity.step()
        assert {n: sorted(ids) for edit in edits for n, ids in edit.died.items()} == expected


# what old tasks need


def test_units_that_old_tasks_need_stay_and_the_policy_says_when_none_is_left(caplog: Any):
    net, structure, optimizer, _ = scene(gm.ReplaceLowUtility())
    mas = gm.MAS(net)
    mas.consolidate([torch.randn(64, 6)])
    mas.omega = {n: torch.ones_like(v) for n, v in mas.omega.items()}
    policy = gm.ReplaceLowUtility(maturity=20, protected=("2",))
    plasticity = gm.Plasticity(structure, optimizer, policy, mas=mas)
    with caplog.at_level(logging.INFO, "growmas"):
        assert learn(net, optimizer, 60, lambda x: plasticity.step()) == []
    assert plasticity.exhausted == ("0",)
    assert caplog.text.count("nothing unguarded is left to replace") == 1
    mas.omega = {n: v.clone() for n, v in mas.omega.items()}
    mas.omega["2.weight"][:, [9, 13]] = 0.0
    (edit,) = learn(net, optimizer, 10, lambda x: plasticity.step())
    assert sorted(edit.died["0"]) == [9, 13]
    assert not mas.omega["0.weight"][[9, 13]].any()
    assert torch.equal(mas.anchor["0.weight"][9], mas.anchor["0.weight"][13])


# managers


def test_a_managers_step_does_it_all():
    net = mlp()
    with torch.no_grad():
        net[0].bias[[4, 9]] = -50.0
    structure = gm.Structure(net, torch.randn(8, 6))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    policy = gm.ReplaceLowUtility(maturity=20, protected="2")
    manager = gm.StructuralManager(
        structure, mas=gm.MAS(net), optimizer=optimizer, grow=[gm.GrowPolicy(2), policy]
    )
    manager.begin_task("a")
    edits = learn(net, optimizer, 40, lambda x: manager.step(x, only=policy))
    assert [edit.died for edit in edits] == [{"0": (4, 9)}]
    manager.end_task([torch.randn(32, 6)])
    manager.begin_task("b")  # warm-ups follow the growth
    assert manager.plasticity.warmups[0].born["0.weight"][0].shape == (22,)
    learn(net, optimizer, 40, lambda x: manager.step(x, only=policy))
    assert structure.groups["0"].width == 22
    assert manager.propose("step", [torch.randn(4, 6)]) != ()


def test_other_policies_are_asked_too_unless_only_names_one():
    net = mlp()
    structure = gm.Structure(net, torch.randn(8, 6))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    manager = gm.StructuralManager(
        structure, mas=gm.MAS(net), optimizer=optimizer,
        grow=[gm.GrowPolicy(1), gm.ReplaceLowUtility()],
    )  # fmt: skip
    learn(net, optimizer, 2, lambda x: manager.step(x))
    assert structure.groups["0"].width in (20, 22)
    assert manager.plasticity.steps == 2


@pytest.mark.parametrize("adam", [True, False])
def test_a_run_that_is_killed_goes_on_to_the_bit(adam: bool):
    def start() -> Any:
        policy = gm.ReplaceLowUtility(rate=0.01, maturity=5, every=3)
        return scene(policy, adam=adam)

    net, structure, optimizer, plasticity = start()
    torch.manual_seed(7)
    learn(net, optimizer, 61, lambda x: plasticity.step())
    saved = copy.deepcopy(
        (net.state_dict(), structure.state_dict(), optimizer.state_dict(), plasticity.state_dict())
    )
    random = torch.get_rng_state()
    learn(net, optimizer, 50, lambda x: plasticity.step(), seed=9)
    again, other, resumed, restored = start()
    replaced = other.load_state_dict(saved[1])
    again.load_state_dict(saved[0])
    for group in resumed.param_groups:
        group["params"] = [replaced.get(p, p) for p in group["params"]]
    resumed.load_state_dict(saved[2])
    restored.load_state_dict(saved[3])
    torch.set_rng_state(random)
    learn(again, resumed, 50, lambda x: restored.step(), seed=9)
    assert all(torch.equal(net.state_dict()[n], v) for n, v in again.state_dict().items())
    assert other.groups["0"].unit_ids == structure.groups["0"].unit_ids
    assert restored.replaced == plasticity.replaced > 10


def test_a_manager_is_saved_with_its_replacement(tmp_path: Any):
    net = mlp()
    structure = gm.Structure(net, torch.randn(8, 6))
    optimizer = torch.optim.Adam(net.parameters())
    policy = gm.ReplaceLowUtility(rate=0.02, maturity=3)
    options = {"mas": gm.MAS(net), "optimizer": optimizer, "grow": policy}
    manager = gm.StructuralManager(structure, **options)
    learn(net, optimizer, 45, lambda x: manager.step(x))
    state = manager.state_dict()
    assert state["plasticity"]["steps"] == 45
    manager.load_state_dict(state)
    del state["plasticity"]
    with pytest.raises(DataError, match="no replacement, but it has ReplaceLowUtility"):
        manager.load_state_dict(state)


def test_other_edits_are_followed():
    policy = gm.ReplaceLowUtility(maturity=30)
    net, structure, optimizer, plasticity = scene(policy)
    learn(net, optimizer, 25, lambda x: plasticity.step())
    followers = [optimizer, *plasticity.warmups]
    structure.apply(gm.Plan(prune={"0": [0, 13]}, grow={"0": 3}), followers=followers)
    edits = learn(net, optimizer, 40, lambda x: plasticity.step())
    assert sorted(edits[0].died["0"]) == [4, 9]
    assert structure.groups["0"].width == 21


def test_nothing_is_left_behind_and_nothing_happens_between_measurements():
    net, _, optimizer, plasticity = scene(gm.ReplaceLowUtility(every=10))
    learn(net, optimizer, 3, lambda x: plasticity.step())
    assert not any(m._forward_pre_hooks for m in net.modules())
    learn(net, optimizer, 6, lambda x: plasticity.step())
    assert any(m._forward_pre_hooks for m in net.modules())
    plasticity.close()
    assert not any(m._forward_pre_hooks for m in net.modules())
    assert not optimizer._optimizer_step_post_hooks


# misuse: one clear message each


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0}, "threshold=0: expected 0 < threshold <= 1"),
        ({"threshold": 2.0}, "threshold=2.0"),
        ({"threshold": "low"}, "threshold='low'"),
        ({"rate": 0.0}, "rate=0.0: expected 0 < rate < 1, or None"),
        ({"rate": 1.5}, "rate=1.5"),
        ({"rate": float("nan")}, "rate=nan"),
        ({"maturity": -1}, "maturity=-1: expected a whole number of steps >= 0"),
        ({"maturity": 2.5}, "maturity=2.5"),
        ({"decay": 1.0}, "decay=1.0: expected 0 <= decay < 1"),
        ({"every": 0}, "every=0: expected a whole number of steps >= 1"),
        ({"guard": -0.1}, "guard=-0.1: expected a number >= 0, or None"),
        ({"utility": "magnitude"}, "utility='magnitude': expected 'rms', 'activation'"),
        ({"init": "split"}, "init='split': expected one of 'paired', 'zero_out'"),
        ({"protected": 3}, "protected=3: expected names of groups"),
        ({"every": True, "decay": -1}, "decay=-1: .*; every=True"),
    ],
)
def test_settings_out_of_range_are_refused(settings: Any, message: str):
    with pytest.raises(PlanError, match=message):
        gm.ReplaceLowUtility(**settings)


def test_parts_that_do_not_fit_are_refused():
    net = mlp()
    structure = gm.Structure(net, torch.randn(8, 6))
    policy, other = gm.ReplaceLowUtility(), torch.optim.SGD(mlp().parameters(), lr=0.1)
    with pytest.raises(PlanError, match=r"does not hold the model's parameters .6 missing"):
        gm.Plasticity(structure, other, policy)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(PlanError, match="optimizer='a'"):
        gm.Plasticity(structure, "adam", policy)
    with pytest.raises(PlanError, match="protected: no group '9'"):
        gm.Plasticity(structure, optimizer, gm.ReplaceLowUtility(protected="9"))
    with pytest.raises(SurgeryError, match="LBFGS"):
        gm.Plasticity(structure, torch.optim.LBFGS(net.parameters()), policy)
    with pytest.raises(SurgeryError, match="cannot follow"):
        gm.Plasticity(structure, optimizer, policy, followers=[3])
    with pytest.raises(PlanError, match="got optimizer=None"):
        gm.StructuralManager(structure, mas=gm.MAS(net), grow=policy)
    with pytest.raises(PlanError, match="takes one ReplaceLowUtility, got 2"):
        gm.StructuralManager(structure, mas=gm.MAS(net), optimizer=optimizer, grow=[policy, policy])


def test_groups_that_cannot_be_paired_are_set_aside_with_the_reason():
    net = nn.Sequential(nn.Linear(6, 1), nn.ReLU(), nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 2))
    structure = gm.Structure(net, torch.randn(8, 6))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    plasticity = gm.Plasticity(structure, optimizer, gm.ReplaceLowUtility())
    assert plasticity.skipped == {"0": "it has a single unit, and units are renewed in pairs"}
    with pytest.raises(PlanError, match=r"no group whose units can be replaced .*single unit"):
        gm.Plasticity(structure, optimizer, gm.ReplaceLowUtility(protected="2"))
    norm = nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    structure = gm.Structure(norm, torch.randn(8, 6))
    with pytest.raises(
        PlanError, match=r"no group whose units can be replaced .*statistics run over"
    ):
        gm.Plasticity(structure, torch.optim.SGD(norm.parameters(), lr=0.1), gm.ReplaceLowUtility())


def test_steps_without_a_training_pass_and_bad_utilities_are_refused():
    net, structure, optimizer, plasticity = scene(gm.ReplaceLowUtility(every=1))
    with pytest.raises(DataError, match=r"no training pass .*give step.batch"):
        plasticity.step()
    assert plasticity.step(torch.randn(4, 6)) == ()
    plasticity.close()
    for utility, message in (
        (lambda group, h: h, r"returned \(16, 20\) for '0': expected a tensor of shape \(20,\)"),
        (lambda group, h: 3, r"returned int for '0'"),
        (
            lambda group, h: h.mean(0) * float("nan"),
            "utility of '0' is NaN or infinite for 20 of 20",
        ),
    ):
        net, structure, optimizer, plasticity = scene(gm.ReplaceLowUtility(utility=utility))
        with pytest.raises(DataError, match=message):
            learn(net, optimizer, 10, lambda x: plasticity.step())  # noqa: B023
    net, structure, optimizer, plasticity = scene(gm.ReplaceLowUtility(utility="importance"))
    with pytest.raises(DataError, match=r"measures on the batch just learnt: give step.batch"):
        learn(net, optimizer, 10, lambda x: plasticity.step())
    net, structure, optimizer, plasticity = scene(gm.ReplaceLowUtility(every=1, maturity=0))
    with structure.view(0), pytest.raises(SurgeryError, match="inside a view"):
        learn(net, optimizer, 30, lambda x: plasticity.step())


def test_a_state_that_does_not_fit_is_refused():
    net, structure, optimizer, plasticity = scene(gm.ReplaceLowUtility())
    learn(net, optimizer, 10, lambda x: plasticity.step())
    state = plasticity.state_dict()
    with pytest.raises(DataError, match="lacks steps"):
        plasticity.load_state_dict({k: v for k, v in state.items() if k != "steps"})
    structure.renew({"0": [0, 1]})
    with pytest.raises(DataError, match="of other units of '0'"):
        plasticity.load_state_dict(state)


# choice


def test_units_are_chosen_as_a_loop_over_them_would():
    import numpy as np

    generator = np.random.default_rng(0)
    for trial in range(200):
        policy = gm.ReplaceLowUtility(
            threshold=float(generator.uniform(0.1, 1)), maturity=int(generator.integers(0, 50))
        )
        population = Population(tuple(range(12)), 0)
        population.born = generator.integers(0, 60, 12)
        population.measure(generator.exponential(size=12), 0.9)
        held = generator.random(12) < 0.3
        utility, mean = population.utility, float(population.utility.mean())
        slow = [
            i
            for i in range(12)
            if 60 - population.born[i] > policy.maturity
            and utility[i] < policy.threshold * mean
            and not held[i]
        ]
        wanted = [
            i
            for i in range(12)
            if 60 - population.born[i] > policy.maturity and utility[i] < policy.threshold * mean
        ]
        found = chosen(policy, population, 60, lambda: held)  # noqa: B023
        assert found.units == (slow if len(slow) > 1 and len(wanted) > 1 else []), trial
