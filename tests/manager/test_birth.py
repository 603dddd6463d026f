"""Protection by birth: units of earlier tasks stay to the bit, without importance or copies."""

import copy

import pytest
import torch
from scenes import inputs, labels, loss, managed, network
from torch import nn

import growmas as gm
from growmas.errors import GrowmasError

OPTIMIZERS = {
    "momentum and decay": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
    "AdamW": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
    "fused": lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1, fused=True),
    "LBFGS": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3),
}


class Headed(nn.Module):
    """Two convolutions with norms, a transposed axis order, and a head for each of three tasks."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.up = nn.ConvTranspose2d(4, 3, 2)
        self.shift = nn.Parameter(torch.zeros(1))
        self.heads = nn.ModuleList(nn.Linear(3 * 25, 2) for _ in range(3))

    def forward(self, x, head=0):
        h = torch.relu(self.up(torch.relu(self.norm(self.conv(x)))) + self.shift)
        return self.heads[head](h.flatten(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.heads = nn.LSTM(5, 6, batch_first=True), nn.ModuleList()
        self.heads.extend(nn.Linear(6, 2) for _ in range(3))

    def forward(self, x, head=0):
        return self.heads[head](self.rnn(x)[0][:, -1])


class Mixed(nn.Module):
    """Two layers concatenated, so that one consumer reads units of two groups."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(6, 4), nn.Linear(6, 3)
        self.middle = nn.Linear(7, 5)
        self.heads = nn.ModuleList(nn.Linear(5, 2) for _ in range(3))

    def forward(self, x, head=0):
        both = torch.cat([torch.tanh(self.left(x)), torch.relu(self.right(x))], 1)
        return self.heads[head](torch.relu(self.middle(both)))


NETWORKS = {"conv": (Headed, (1, 6, 6)), "lstm": (Recurrent, (4, 5)), "cat": (Mixed, (6,))}


def every_head(model, x):
    return [model(x, head) for head in range(3)]


def through(head):
    return lambda model, x: model(x, head)


def learn(model, optimizer, x, head, steps=4):
    y = torch.arange(len(x)) % 2

    def closure():
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(model(x, head), y)
        value.backward()
        return value

    for _ in range(steps):
        optimizer.step(closure)


@pytest.mark.parametrize(
    ("kind", "optimizer"),
    [*(("conv", each) for each in OPTIMIZERS), ("lstm", "AdamW"), ("cat", "momentum and decay")],
)
def test_networks_of_earlier_tasks_stay_to_the_bit(kind, optimizer):
    torch.manual_seed(0)
    make, shape = NETWORKS[kind]
    net, x = make(), torch.randn(8, *shape)
    structure = gm.Structure(net, x, forward=every_head)
    opt = OPTIMIZERS[optimizer](net.parameters())
    grows = optimizer != "LBFGS"  # whose state cannot follow
    manager = gm.StructuralManager(
        structure, mas=gm.MAS(net), optimizer=opt if grows else None,
        grow=gm.GrowPolicy(2) if grows else None, protect="old",
    )  # fmt: skip
    manager.protect.guard(opt)
    extracted = []
    for task in range(3):
        manager.begin_task(str(task))
        before = copy.deepcopy(net.state_dict())
        learn(net, opt, x + task, task)
        moved = [n for n, p in net.named_parameters() if not torch.equal(p, before[n])]
        assert f"heads.{task}.weight" in moved
        assert task == 0 or grows == any(not n.startswith("heads") for n in moved)
        for old, (then, seen) in enumerate(extracted):
            now = structure.extract(old).eval()
            held, theirs = dict(now.named_parameters()), dict(then.named_parameters())
            own = [n for n in held if "heads" not in n or f"heads.{old}." in n]
            assert all(torch.equal(held[name], theirs[name]) for name in own)
            assert torch.equal(now(x, old), seen)
            with structure.view(old), torch.no_grad():
                torch.testing.assert_close(net.eval()(x, old), seen, rtol=1e-5, atol=1e-6)
            net.train()
        manager.end_task([x + task], forward=through(task))
        then = structure.extract(task).eval()
        extracted.append((then, then(x, task).detach()))
    assert not manager.mas.omega
    assert not manager.mas.anchor


def test_a_replaced_unit_in_the_middle_learns_and_its_old_neighbours_stay():
    manager, structure, _, optimizer, x = managed(protect="old")
    manager.begin_task("a")
    manager.end_task([x])
    structure.begin_task("b")
    structure.apply(gm.Plan(replace={"0": [3]}), followers=manager.followers)
    frozen, net = manager.protect.frozen, structure.model
    where = structure.groups["0"].unit_ids.index(10)
    assert not frozen["0.weight"][where].any()
    assert not frozen["2.weight"][:, where].any()
    assert int(frozen["0.bias"].sum()) == 9
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    structure.renew({"2": [0, 1]}, followers=manager.followers)
    held = manager.protect.frozen
    before["2.weight"], before["4.weight"] = net[2].weight.clone(), net[4].weight.clone()
    loss(net, (x, labels(x))).backward()
    optimizer.step()
    for name, parameter in net.named_parameters():
        same = parameter.detach() == before[name]
        assert bool(same[held[name]].all())
        if not held[name].all() and name != "2.bias":
            assert not bool(same[~held[name]].all())


def test_other_loops_take_the_step_inside_held_and_thawed_units_learn_again():
    manager, structure, _, optimizer, x = managed(protect="old")
    manager.begin_task("a")
    manager.end_task([x])
    net, protect = structure.model, manager.protect
    before = net[0].weight.detach().clone()
    with protect.held(), torch.no_grad():
        net[0].weight.mul_(2)
    assert torch.equal(net[0].weight, before)
    assert protect.share == 1
    loss(net, (x, labels(x))).backward()
    optimizer.step()
    assert torch.equal(net[0].weight, before)
    protect.thaw()
    optimizer.step()
    assert not torch.equal(net[0].weight, before)


def test_what_is_frozen_does_not_require_gradients_and_is_excluded_by_pattern():
    net, x = network(), inputs()
    structure = gm.Structure(net, x)
    net[0].weight.requires_grad_(False)
    protect = gm.BirthProtection(structure, exclude=["4.*"])
    with pytest.raises(GrowmasError, match="before any task"):
        protect.freeze([x])
    structure.begin_task("first")
    protect.freeze([x])
    assert set(protect.frozen) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert not net[0].weight.requires_grad
    assert protect.frozen_units() == {n: g.unit_ids for n, g in structure.groups.items()}


def test_a_head_that_grew_learns_its_new_classes_only():
    net, x = network(), inputs()
    structure = gm.Structure(net, x)
    optimizer = torch.optim.Adam(net.parameters(), 0.1, weight_decay=0.1)
    manager = gm.StructuralManager(
        structure, mas=gm.MAS(net), optimizer=optimizer, protect="old", grow=gm.GrowPolicy(1)
    )
    manager.begin_task("a")
    manager.end_task([x])
    manager.begin_task("b")
    structure.grow_head("4", 2, followers=manager.followers)
    before = net[4].weight.detach().clone()
    nn.functional.cross_entropy(net(x), torch.arange(len(x)) % 5).backward()
    optimizer.step()
    assert torch.equal(net[4].weight[:3, :8], before[:3, :8])
    assert not torch.equal(net[4].weight[3:], before[3:])


def test_units_that_are_frozen_are_not_replaced_for_low_utility():
    policy = gm.ReplaceLowUtility(threshold=1.0, maturity=1, every=1)
    manager, structure, mas, optimizer, x = managed(grow=policy, protect="old")
    manager.begin_task("a")
    manager.end_task([x])
    manager.begin_task("b")
    structure.apply(gm.Plan(grow={"0": 6}), followers=manager.followers)
    for _ in range(6):
        optimizer.zero_grad()
        loss(structure.model, (x, labels(x))).backward()
        optimizer.step()
        manager.step(x)
    assert manager.plasticity.replaced > 0
    assert structure.groups["0"].unit_ids[:10] == tuple(range(10))
    assert not mas.omega


def test_importance_is_measured_for_a_policy_that_reads_it():
    manager, *_, x = managed(protect="old", prune=gm.PrunePolicy(0.1))
    manager.begin_task("a")
    manager.end_task([x])
    assert manager.mas.omega


def test_the_state_is_plain_and_goes_with_the_manager():
    manager, _, _, _, x = managed(protect="old")
    manager.begin_task("a")
    manager.end_task([x])
    state = manager.state_dict()
    assert not any(isinstance(v, torch.Tensor) for v in state["protect"].values())
    again, *_ = managed(protect="old")
    again.structure.begin_task("a")
    again.load_state_dict(state)
    assert again.protect.share == 1
    assert repr(again.protect) == repr(manager.protect)
    other, *_ = managed(protect=None)
    with pytest.raises(GrowmasError, match="without protection"):
        other.load_state_dict(state)
    hard, *_ = managed()
    hard.protect = gm.HardProtection(hard.structure.model, fraction=0.5)
    with pytest.raises(GrowmasError, match="is hard and that of its state by birth"):
        hard.load_state_dict(state)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda p: gm.BirthProtection(p.model), "expected a Structure"),
        (lambda p: gm.BirthProtection(p.structure, exclude=["head.*"]), "head"),
        (lambda p: p.guard("adam"), "guard expects a torch optimizer, got str"),
        (lambda p: p.freeze([]), "give at least one batch"),
        (lambda p: p.freeze([torch.rand(4, 7)]), "does not go through the network"),
        (lambda p: p.load_state_dict({"through": 0}), "lacks exclude, used"),
        (
            lambda p: p.load_state_dict({"through": 0, "exclude": [], "used": ["9.weight"]}),
            "another network: it names '9.weight'",
        ),
    ],
)
def test_misuse_is_one_message_and_nothing_is_frozen(wrong, message):
    net = network()
    protect = gm.BirthProtection(gm.Structure(net, inputs()))
    with pytest.raises(GrowmasError, match=message):
        wrong(protect)
    assert not protect.frozen


def test_a_unit_that_died_later_is_replaced_unless_old_tasks_need_it():
    policy = gm.ReplaceDead(recent=True, guard=0.1)
    manager, structure, mas, _, x = managed(grow=policy)
    net = structure.model
    with torch.no_grad():
        net[0].bias[2:4] = 20.0  # alive whatever the inputs
        net[2].weight[:, 2] = 1e-4  # the first layer's unit 2 is of no need, unit 3 is
        net[2].weight[:, 3] = 3.0
    manager.begin_task("a")
    manager.end_task([x])
    assert mas.omega["0.bias"][2] > 0
    with torch.no_grad():
        net[0].bias[2:4] = -20.0  # both die in the next task
    edits = manager.begin_task("b", [x])
    assert [edit.died for edit in edits] == [{"0": (2,)}]
    unguarded, other, *_ = managed(grow=gm.ReplaceDead(recent=True, guard=None))
    with torch.no_grad():
        other.model[0].bias[2:4] = -20.0
    unguarded.begin_task("a")
    unguarded.end_task([x])
    with pytest.raises(GrowmasError, match="give begin_task"):
        unguarded.begin_task("b")
    (edit,) = unguarded.begin_task("b", [x])
    assert edit.died["0"] == (2, 3)
    with pytest.raises(GrowmasError, match="guard=-1"):
        gm.ReplaceDead(guard=-1)
