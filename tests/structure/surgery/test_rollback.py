"""When anything goes wrong, everything is exactly as it was."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import snapshots
import torch
from cases import CONVNET, MLP
from torch import Tensor, nn

from growmas import MAS, Edit, Plan, Structure, TopologyHistory, TopologyTracker
from growmas.errors import PlanError, SurgeryError
from growmas.structure import LayerAxes, Size, TensorAxis, register_layer
from growmas.structure.layers import axes


class PixelsFirst(nn.Module):
    """A flatten that keeps a channel's pixels apart, unlike what the analysis assumes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().permute(0, 2, 3, 1).flatten(1))


class FixedView(nn.Module):
    """A width written into the code."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().view(len(x), 16))


class Mixes(nn.Module):
    """A softmax over hidden units: a fresh unit changes all others."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(18, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.flatten(1)[:, :18]).softmax(1))


class Trouble(Exception):
    pass


class World:
    """A model that has lived, and everything that follows it."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        self.model, self.x = model, x
        self.optimizers = [
            torch.optim.Adam(model.parameters(), lr=0.01, amsgrad=True),
            torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
        ]
        self.mas = MAS(model)
        for _ in range(2):
            model(x).square().mean().backward()
            for optimizer in self.optimizers:
                optimizer.step()
        self.mas.consolidate([x])
        self.structure = Structure(model, x)
        self.structure.begin_task("first")

    @property
    def followers(self) -> list[object]:
        return [*self.optimizers, self.mas]

    def snapshot(self) -> dict[str, Any]:
        return {
            "model": snapshots.of_model(self.model),
            "optimizers": [snapshots.of_optimizer(optimizer) for optimizer in self.optimizers],
            "penalty": snapshots.of_penalty(self.mas),
            "groups": snapshots.of_groups(self.structure),
            "layers": self.structure.layers(),
            "tasks": self.structure.tasks,
        }


PLANS = {
    "grow": Plan(grow={"conv": 2}),
    "prune": Plan(prune={"conv": [1]}),
    "both": Plan(prune={"conv": [0, 1]}, grow={"conv": 3}),
}


@pytest.mark.parametrize("build", [PixelsFirst, FixedView])
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("training", [True, False])
def test_rolled_back_when_the_analysis_was_wrong(
    build: type[nn.Module], plan: Plan, training: bool
) -> None:
    world = World(build().train(training), torch.randn(3, 2, 4, 4))
    before, output = world.snapshot(), world.model(world.x)
    if "conv" in world.structure.fixed:
        return
    called: list[Edit] = []
    world.structure.subscribe(called.append)
    try:
        world.structure.apply(plan, followers=world.followers)
    except SurgeryError as error:
        assert "conv" in str(error)  # noqa: PT017
        assert "nothing was changed" in str(error)  # noqa: PT017
        assert world.snapshot() == before
        assert torch.equal(world.model(world.x), output)
        assert not called
    else:  # a better analysis may do it right
        assert len(called) == 1
        if plan.grow and not plan.prune:
            torch.testing.assert_close(world.model(world.x), output)


def test_a_width_in_the_code_is_named_as_the_cause() -> None:
    world = World(FixedView(), torch.randn(3, 2, 4, 4))
    if "conv" in world.structure.groups:
        with pytest.raises(
            SurgeryError, match=r"forward pass fails .*; nothing was changed.*view\("
        ):
            world.structure.apply(PLANS["grow"])


def test_growth_that_would_change_the_function_is_refused() -> None:
    world = World(Mixes(), torch.randn(3, 2, 4, 4))
    before = world.snapshot()
    with pytest.raises(PlanError, match="'body' cannot grow: an operation runs over its channels"):
        world.structure.apply(Plan(grow={"body": 2}), followers=world.followers)
    assert world.snapshot() == before


class Backwards(nn.Module):
    """Registered below as a layer that keeps channels apart, which it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = 5
        self.gain = nn.Parameter(torch.rand(5) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(1) * self.gain


@pytest.mark.parametrize(
    "plan", [Plan(grow={"0": 2}), Plan(prune={"0": [0]}), Plan(prune={"0": [0]}, grow={"0": 1})]
)
def test_a_layer_registered_wrongly_is_found_out_and_undone(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(axes, "LAYERS", dict(axes.LAYERS))
    gain = TensorAxis("gain", 0, "norm", 1.0)
    register_layer(Backwards, LayerAxes(out=(gain,), out_size=(Size("channels"),)))
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), Backwards(), nn.Linear(5, 2))
    world = World(net, torch.randn(3, 6))
    assert set(world.structure.groups) == {"0"}
    before = world.snapshot()
    message = r"changing 0 would move the output by .* where it reaches .*; nothing was changed"
    with pytest.raises(SurgeryError, match=message):
        world.structure.apply(plan, followers=world.followers)
    assert world.snapshot() == before


class Fails:
    def follow(self, edit: Edit) -> None:
        raise Trouble


class FailsHalfWay:
    """Has already changed itself."""

    def __init__(self) -> None:
        self.count = 0
        self.log: list[Edit] = []

    def follow(self, edit: Edit) -> None:
        self.count += 1
        self.log.append(edit)
        raise Trouble


def worlds() -> dict[str, Callable[[], World]]:
    return {
        "mlp": lambda: World(MLP.model(), MLP.inputs(3)),
        "conv": lambda: World(CONVNET.model(), CONVNET.inputs(3)),
    }


@pytest.mark.parametrize("make", worlds().values(), ids=worlds())
@pytest.mark.parametrize("place", [0, 1, 3])
def test_rolled_back_when_a_follower_raises(make: Callable[[], World], place: int) -> None:
    world = make()
    before = world.snapshot()
    half_way = FailsHalfWay()
    for failing in (Fails(), half_way):
        followers = world.followers
        followers.insert(place, failing)
        with pytest.raises(Trouble):
            world.structure.apply(Plan(prune={"0": [1]}, grow={"0": 2}), followers=followers)
        assert world.snapshot() == before
    assert half_way.count == 0
    assert half_way.log == []


@pytest.mark.parametrize("make", worlds().values(), ids=worlds())
def test_rolled_back_when_a_listener_raises(make: Callable[[], World]) -> None:
    world = make()
    before = world.snapshot()
    heard: list[Edit] = []

    def listener(edit: Edit) -> None:
        heard.append(edit)
        if len(heard) == 1:
            raise Trouble

    stop = world.structure.subscribe(listener)
    plan = Plan(prune={"0": [1]}, grow={"0": 2})
    with pytest.raises(Trouble):
        world.structure.apply(plan, followers=world.followers)
    assert world.snapshot() == before
    world.structure.apply(plan, followers=world.followers)
    assert len(heard) == 2
    assert world.structure.groups["0"].unit_ids[-2:] == heard[0].born["0"] == heard[1].born["0"]
    stop()
    world.structure.apply(Plan(grow={"0": 1}), followers=world.followers)
    assert len(heard) == 2


def test_listeners_hear_of_the_network_as_it_is_afterwards() -> None:
    world = worlds()["mlp"]()
    seen: list[Any] = []
    world.structure.subscribe(
        lambda edit: seen.append(
            (edit.born, world.structure.groups["0"].width, world.mas.omega["0.bias"].shape)
        )
    )
    world.structure.apply(Plan(grow={"0": 2}), followers=world.followers)
    assert seen == [({"0": (8, 9)}, 10, (10,))]


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_rolled_back_when_interrupted(exception: type[BaseException]) -> None:
    world = worlds()["mlp"]()
    before = world.snapshot()

    def interrupt(edit: Edit) -> None:
        raise exception

    world.structure.subscribe(interrupt)
    with pytest.raises(exception):
        world.structure.apply(Plan(grow={"0": 2}), followers=world.followers)
    assert world.snapshot() == before


def test_the_random_state_is_rolled_back_too() -> None:
    """A run in which an edit was refused goes on as one in which nobody tried."""
    world = World(FixedView(), torch.randn(3, 2, 4, 4))
    own = torch.Generator().manual_seed(3)
    for generator in (None, own):
        random_state, own_state = snapshots.of_random_state(), snapshots.bits(own.get_state())
        world.structure.subscribe(lambda edit: 1 / 0)
        with pytest.raises((SurgeryError, ZeroDivisionError)):
            world.structure.apply(PLANS["grow"], generator=generator)
        assert snapshots.of_random_state() == random_state
        assert snapshots.bits(own.get_state()) == own_state


def test_training_goes_on_after_a_roll_back() -> None:
    world, twin = worlds()["conv"](), worlds()["conv"]()
    for each in (world, twin):
        if each is world:
            with pytest.raises(Trouble):
                each.structure.apply(Plan(grow={"4": 2}), followers=[*each.followers, Fails()])
        for optimizer in each.optimizers:
            optimizer.zero_grad()
        (each.model(each.x).square().mean() + each.mas.penalty()).backward()
        for optimizer in each.optimizers:
            optimizer.step()
    assert snapshots.values(world.model.named_parameters()) == snapshots.values(
        twin.model.named_parameters()
    )


def test_what_a_listener_writes_counts_only_when_all_have_agreed() -> None:
    """A context manager is entered at once, left when all have been called, and told of failure."""
    world = worlds()["mlp"]()
    told: list[str] = []

    @contextmanager
    def careful(edit: Edit) -> Iterator[None]:
        told.append("entered")
        try:
            yield
        except BaseException as error:
            told.append(f"undone by {type(error).__name__}")
            raise
        told.append("agreed")

    def late(edit: Edit) -> None:
        told.append("called")
        if len(told) == 2:
            raise Trouble

    world.structure.subscribe(careful)
    world.structure.subscribe(late)
    before = world.snapshot()
    with pytest.raises(Trouble):
        world.structure.apply(Plan(grow={"0": 2}), followers=world.followers)
    assert world.snapshot() == before
    assert told == ["entered", "called", "undone by Trouble"]
    world.structure.apply(Plan(grow={"0": 2}), followers=world.followers)
    assert told[3:] == ["entered", "called", "agreed"]


def test_a_listener_cannot_hide_that_another_undid_the_edit() -> None:
    world = worlds()["mlp"]()
    before = world.snapshot()
    world.structure.subscribe(lambda edit: suppress(Exception))
    world.structure.subscribe(lambda edit: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        world.structure.apply(Plan(grow={"0": 2}), followers=world.followers)
    assert world.snapshot() == before


@pytest.mark.parametrize("late", [True, False])
def test_the_history_forgets_an_edit_that_a_listener_undid(tmp_path: Path, late: bool) -> None:
    world = worlds()["mlp"]()

    def refuse(edit: Edit) -> None:
        raise Trouble

    if not late:
        stop = world.structure.subscribe(refuse)
    with TopologyTracker(world.structure, tmp_path / "run.db") as tracker:
        if late:
            stop = world.structure.subscribe(refuse)
        with pytest.raises(Trouble):
            world.structure.apply(Plan(prune={"0": [1]}, grow={"0": 2}))
        with TopologyHistory(tmp_path / "run.db") as history:
            assert history.events() == ()
            assert set(history.units()["0"]) == set(world.structure.groups["0"].unit_ids)
        stop()
        world.structure.apply(Plan(grow={"0": 1}))
        tracker.snapshot("first")
    with TopologyHistory(tmp_path / "run.db") as history:
        assert [event.task for event in history.events()] == ["first"]
        assert set(history.units()["0"]) == set(world.structure.groups["0"].unit_ids)


def test_a_listener_may_take_a_snapshot(tmp_path: Path) -> None:
    world = worlds()["mlp"]()
    with TopologyTracker(world.structure, tmp_path / "run.db") as tracker:
        world.structure.subscribe(lambda edit: tracker.snapshot(metrics={"loss": 1.0}))
        world.structure.apply(Plan(grow={"0": 1}))
    with TopologyHistory(tmp_path / "run.db") as history:
        assert history.metrics("first") == {"loss": 1.0}
        assert len(history.events()) == 1
