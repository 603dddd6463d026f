"""The most important entries do not change by a single bit."""

import copy
import pickle
from typing import Any

import pytest
import snapshots
import torch
from torch import Tensor, nn

import growmas as gm
from growmas.errors import DataError, PenaltyError, PlanError

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, amsgrad=True),
    "fused": lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.5),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.1),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1),
}


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(6, 10),
        nn.BatchNorm1d(10),
        nn.ReLU(),
        nn.Linear(10, 8),
        nn.ReLU(),
        nn.Linear(8, 3),
    )


@pytest.fixture
def scene() -> tuple[nn.Module, Tensor, dict[str, Tensor]]:
    net, x = network(), torch.randn(16, 6)
    return net, x, gm.mas_importance(net, [x])


def train(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, steps: int = 4) -> None:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (net(x) - 3).square().mean()
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)


def frozen_bits(protect: gm.HardProtection) -> dict[str, Any]:
    parameters = dict(protect.model.named_parameters())
    return snapshots.values({n: parameters[n][m] for n, m in protect.frozen.items()})


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("per", ["tensor", "network"])
def test_no_optimizer_moves_what_is_frozen(scene: Any, kind: str, per: str) -> None:
    net, x, omega = scene
    optimizer = OPTIMIZERS[kind](net.parameters())
    train(net, optimizer, x)  # momentum and moments are there already
    protect = gm.HardProtection(net, fraction=0.4, per=per)
    stop = protect.guard(optimizer)
    protect.freeze(omega)
    before = frozen_bits(protect)
    free = {n: p[~protect.frozen[n]].clone() for n, p in net.named_parameters() if n in before}
    train(net, optimizer, x)
    assert frozen_bits(protect) == before
    parameters = dict(net.named_parameters())
    assert any((parameters[n][~protect.frozen[n]] != was).any() for n, was in free.items())
    stop()
    train(net, optimizer, x)
    assert frozen_bits(protect) != before, "the guard was what held them"


def test_the_most_important_are_frozen(scene: Any) -> None:
    net, _, omega = scene
    protect = gm.HardProtection(net, fraction=0.3)
    protect.freeze(omega)
    for name, importance in omega.items():
        old = importance[importance > 0].sort().values
        count = int(0.3 * len(old))
        mask = protect.frozen.get(name, torch.zeros_like(importance, dtype=torch.bool))
        assert int(mask.sum()) == count
        if count:
            assert importance[mask].min() >= old[-count:].min()
            assert importance[~mask].max() <= importance[mask].min()
    protect = gm.HardProtection(net, fraction=0.3, per="network")
    protect.freeze(omega)
    every = torch.cat([o.flatten() for o in omega.values()])
    count = int(0.3 * int((every > 0).sum()))
    least = every.sort().values[-count]
    assert sum(int(m.sum()) for m in protect.frozen.values()) == count
    assert all((omega[n][m] >= least).all() for n, m in protect.frozen.items())
    assert protect.share == count / len(every)


def test_what_is_frozen_stays_so_and_counts() -> None:
    net = nn.Linear(10, 1, bias=False)
    protect = gm.HardProtection(net, fraction=0.5)
    first = torch.tensor([[5.0, 4.0, 3.0, 2.0, 0, 0, 0, 0, 0, 0]])
    protect.freeze({"weight": first})
    assert protect.frozen["weight"].nonzero()[:, 1].tolist() == [0, 1]
    with torch.no_grad():
        net.weight += 1
    protect.freeze({"weight": first})
    assert protect.frozen["weight"].nonzero()[:, 1].tolist() == [0, 1], "half of what is old"
    protect.freeze({"weight": torch.tensor([[0, 0, 1.0, 1, 9, 8, 1, 1, 0, 0]])})
    assert protect.frozen["weight"].nonzero()[:, 1].tolist() == [0, 1, 4, 5]
    protect.thaw()
    assert not protect.frozen
    assert protect.share == 0


def test_frozen_entries_are_put_back_without_a_guard(scene: Any) -> None:
    net, x, omega = scene
    protect = gm.HardProtection(net, fraction=0.5)
    protect.freeze(omega)
    before = frozen_bits(protect)
    train(net, torch.optim.SGD(net.parameters(), lr=0.1), x)
    assert frozen_bits(protect) != before
    protect.restore_()
    assert frozen_bits(protect) == before


def test_excluded_parameters_stay_free(scene: Any) -> None:
    net, _, omega = scene
    protect = gm.HardProtection(net, fraction=1.0, exclude=["1.*", "5.bias"])
    protect.freeze(omega)
    assert set(protect.frozen) == {"0.weight", "0.bias", "3.weight", "3.bias", "5.weight"}


def test_it_follows_surgery(scene: Any) -> None:
    net, x, omega = scene
    structure = gm.Structure(net, x)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    protect = gm.HardProtection(net, fraction=0.5)
    protect.guard(optimizer)
    protect.freeze(omega)
    was, values = dict(protect.frozen), {n: p.detach() for n, p in net.named_parameters()}
    structure.apply(gm.Plan(prune={"0": [0]}, grow={"0": 2}), followers=[optimizer, protect])
    assert torch.equal(protect.frozen["0.weight"][:9], was["0.weight"][1:])
    assert not protect.frozen["0.weight"][9:].any()
    assert torch.equal(protect.frozen["3.weight"][:, :9], was["3.weight"][:, 1:])
    assert not protect.frozen["3.weight"][:, 9:].any()
    train(net, optimizer, x)
    held = was["0.weight"][1:]
    assert torch.equal(net[0].weight[:9][held], values["0.weight"][1:][held])
    assert (net[3].weight[:, 9:] != 0).any(), "fresh columns learn"


def test_what_reconstruction_shifts_is_held_where_it_was_put(scene: Any) -> None:
    net, x, omega = scene
    net.eval()
    structure = gm.Structure(net, x)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    protect = gm.HardProtection(net, fraction=0.9)
    protect.guard(optimizer)
    protect.freeze(omega)
    before = frozen_bits(protect)
    followers = [optimizer, protect]
    structure.apply(gm.Plan(prune={"3": [0, 1]}), followers=followers, reconstruct=[x])
    after = frozen_bits(protect)
    assert after["5.bias"] != before["5.bias"], "reconstruction moves the bias"
    train(net, optimizer, x)
    assert frozen_bits(protect) == after


def test_a_failed_edit_leaves_it_as_it_was(scene: Any) -> None:
    net, x, omega = scene
    structure = gm.Structure(net, x)
    protect = gm.HardProtection(net, fraction=0.5)
    protect.freeze(omega)
    before = snapshots.values(protect.frozen), snapshots.values(protect._values)
    structure.subscribe(lambda edit: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        structure.apply(gm.Plan(grow={"0": 2}), followers=[protect])
    assert (snapshots.values(protect.frozen), snapshots.values(protect._values)) == before


def test_which_units_are_frozen(scene: Any) -> None:
    net, x, omega = scene
    structure = gm.Structure(net, x)
    protect = gm.HardProtection(net, fraction=0.6)
    assert not any(protect.frozen_units(structure).values())
    protect.freeze(omega)
    shares = protect.frozen_shares(structure)
    for unit in range(8):
        row = [(omega[n][unit] > 0, protect.frozen[n][unit]) for n in ("3.weight", "3.bias")]
        old, held = (torch.cat([pair[i].reshape(-1) for pair in row]).sum() for i in (0, 1))
        assert float(shares["3"][unit]) == pytest.approx(float(held) / max(1, int(old)))
    half = protect.frozen_units(structure, at_least=0.5)["3"]
    assert half == tuple(u for u in range(8) if shares["3"][u] >= 0.5)
    everything = gm.HardProtection(net, fraction=1.0)
    everything.freeze(omega)
    alive = omega["3.weight"].sum(1) > 0
    assert everything.frozen_units(structure)["3"] == tuple(alive.nonzero().flatten().tolist())
    structure.apply(gm.Plan(grow={"0": 2, "3": 1}), followers=[everything])
    grown = everything.frozen_units(structure)["3"]
    assert grown == tuple(alive.nonzero().flatten().tolist()), "what is fresh does not count"


def test_the_state_goes_round(scene: Any) -> None:
    net, x, omega = scene
    protect = gm.HardProtection(net, fraction=0.5, per="network", exclude=["1.*"])
    protect.freeze(omega)
    other = network(seed=3)
    other.load_state_dict(net.state_dict())
    restored = gm.HardProtection(other, fraction=0.1)
    restored.load_state_dict(copy.deepcopy(protect.state_dict()))
    assert snapshots.values(restored.frozen) == snapshots.values(protect.frozen)
    assert (restored.fraction, restored.per, restored.exclude) == (0.5, "network", ("1.*",))
    optimizer = torch.optim.Adam(other.parameters(), lr=0.1)
    restored.guard(optimizer)
    restored.guard(optimizer)
    train(other, optimizer, x)
    assert frozen_bits(restored) == frozen_bits(protect)
    small = nn.Sequential(nn.Linear(6, 4))
    with pytest.raises(PenaltyError, match=r"the masks of hard protection do not fit the model"):
        gm.HardProtection(small, fraction=0.5).load_state_dict(protect.state_dict())
    with pytest.raises(PenaltyError, match="the state lacks per"):
        restored.load_state_dict({k: v for k, v in protect.state_dict().items() if k != "per"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fraction": 0}, "fraction=0: expected a number above 0 and at most 1"),
        ({"fraction": 1.5}, "fraction=1.5"),
        ({"fraction": True}, "fraction=True"),
        ({"fraction": "half"}, "fraction='half'"),
        ({"fraction": 0.5, "per": "unit"}, "per='unit': expected one of 'tensor', 'network'"),
        ({"fraction": 0.5, "exclude": ["x"]}, r"exclude=\['x'\] does not match any parameter"),
    ],
)
def test_settings_out_of_range(settings: Any, message: str) -> None:
    with pytest.raises(PenaltyError, match=message):
        gm.HardProtection(network(), **settings)


def test_what_is_no_optimizer_and_what_is_no_mask(scene: Any) -> None:
    net, _, omega = scene
    protect = gm.HardProtection(net, fraction=0.5)
    with pytest.raises(PenaltyError, match=r"expects a torch optimizer, got str: call restore_"):
        protect.guard("adam")  # type: ignore[arg-type]
    protect.freeze(omega)
    state = protect.state_dict()
    state["frozen"] = {name: mask.float() for name, mask in state["frozen"].items()}
    with pytest.raises(PenaltyError, match="masks of hard protection must be bool"):
        protect.load_state_dict(state)


def test_importance_that_does_not_fit_is_refused(scene: Any) -> None:
    net, x, omega = scene
    protect = gm.HardProtection(net, fraction=0.5)
    for bad in ({"nowhere": torch.ones(2)}, {"0.bias": torch.ones(2)}):
        with pytest.raises(PenaltyError, match="the importances do not fit the model"):
            protect.freeze(bad)
    with pytest.raises(PenaltyError, match=r"importance of 0\.bias is not finite"):
        protect.freeze({"0.bias": torch.full((10,), torch.nan)})
    protect.freeze(omega)
    gm.Structure(net, x).apply(gm.Plan(grow={"0": 1}))
    with pytest.raises(PenaltyError, match=r"masks .*held \(10, 6\), model \(11, 6\).*followers="):
        protect.restore_()
    with pytest.raises(PenaltyError, match="another network"):
        protect.frozen_units(gm.Structure(network(), x))


# In a manager ------------------------------------------------------------------------------------


def managed(**options: Any) -> tuple[gm.StructuralManager, torch.optim.Optimizer, Tensor]:
    net, x = network(), torch.randn(24, 6)
    structure = gm.Structure(net, x)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.02)
    if "fraction" in options:
        options["protect"] = gm.HardProtection(net, fraction=options.pop("fraction"))
    manager = gm.StructuralManager(
        structure,
        mas=gm.MAS(net),
        optimizer=optimizer,
        grow=gm.GrowPolicy(units=2),
        prune=gm.PrunePolicy(ratio=0.1),
        **options,
    )
    return manager, optimizer, x


def test_the_manager_freezes_at_the_end_of_every_task() -> None:
    manager, optimizer, x = managed(fraction=0.4)
    shares = []
    for task in "abc":
        manager.begin_task(task)
        before = frozen_bits(manager.protect)
        train(manager.structure.model, optimizer, x)
        assert frozen_bits(manager.protect) == before
        manager.end_task([x])
        shares.append(manager.protect.share)
    assert 0.2 < shares[0] <= 0.4
    assert all(0.2 < share < 0.5 for share in shares)


def test_the_manager_remembers_norms_for_every_view() -> None:
    for norms, kept in (("statistics", 2), ("affine", 4), (None, 0)):
        manager, optimizer, x = managed(norms=norms)
        structure = manager.structure
        manager.begin_task("a")
        train(structure.model, optimizer, x)
        manager.end_task([x])
        statistics = structure.model[1].running_mean.clone()
        manager.begin_task("b")
        train(structure.model, optimizer, 5 * x + 1)
        assert len(structure.norms.get("a", ())) == kept
        slim = structure.extract("a")
        assert torch.equal(slim[1].running_mean, statistics) == (norms is not None)


def test_what_a_manager_refuses() -> None:
    with pytest.raises(PlanError, match="protect is of another network than the structure"):
        managed(protect=gm.HardProtection(network(), fraction=0.5))
    with pytest.raises(PlanError, match="norms='all': expected 'statistics', 'affine' or None"):
        managed(norms="all")
    plain, protected = managed()[0], managed(fraction=0.5)[0]
    with pytest.raises(DataError, match=r"made without protection .* and its state with"):
        plain.load_state_dict(protected.state_dict())
    with pytest.raises(DataError, match=r"made with protection .* and its state without"):
        protected.load_state_dict(plain.state_dict())


def view_of_old_task(fraction: float | None, norms: str | None) -> tuple[Tensor, Tensor]:
    """Answers of the first task's view, before and after another task is learnt."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 10), nn.BatchNorm1d(10), nn.Tanh(), nn.Linear(10, 3))
    x, optimizer = torch.randn(24, 6), torch.optim.AdamW(net.parameters(), lr=0.02)
    structure = gm.Structure(net, x)
    protect = None if fraction is None else gm.HardProtection(net, fraction=fraction)
    manager = gm.StructuralManager(
        structure,
        mas=gm.MAS(net),
        optimizer=optimizer,
        grow=gm.GrowPolicy(units=2),
        protect=protect,
        norms=norms,
    )
    answers = []
    manager.begin_task("a")
    train(net, optimizer, x)
    manager.end_task([x])
    manager.begin_task("b")
    for _ in range(2):
        net.eval()
        with structure.view("a"), torch.no_grad():
            answers.append(net(x))
        net.train()
        train(net, optimizer, 3 * x + 1, steps=10)
    return answers[0], answers[1]


def test_with_everything_frozen_and_norms_remembered_an_old_task_is_answered_bit_by_bit() -> None:
    assert torch.equal(*view_of_old_task(1.0, "statistics"))
    for fraction, norms in ((1.0, None), (0.5, "statistics"), (None, "statistics")):
        assert not torch.allclose(*view_of_old_task(fraction, norms)), (fraction, norms)


def test_every_optimizer_is_guarded_though_earlier_ones_are_gone(scene: Any) -> None:
    """Python gives the id of an object that is gone to the next one."""
    net, x, omega = scene
    protect = gm.HardProtection(net, fraction=0.5)
    protect.freeze(omega)
    before = frozen_bits(protect)
    for _ in range(20):
        optimizer = OPTIMIZERS["sgd"](net.parameters())
        protect.guard(optimizer)
        train(net, optimizer, x, steps=1)
        assert frozen_bits(protect) == before
        del optimizer


@pytest.mark.parametrize("way", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_a_copy_is_guarded_anew(scene: Any, way: Any) -> None:
    net, x, omega = scene
    protect = gm.HardProtection(net, fraction=0.5)
    protect.freeze(omega)
    protect.guard(torch.optim.SGD(net.parameters(), lr=0.1))
    net, protect = way((net, protect))
    optimizer, before = OPTIMIZERS["adam"](net.parameters()), frozen_bits(protect)
    protect.guard(optimizer)
    train(net, optimizer, x)
    assert frozen_bits(protect) == before
