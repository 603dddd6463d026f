"""Plans and registrations that do not fit: one clear message each, and nothing is changed."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import growmas as gm
from growmas.errors import GrowmasError, PlanError, SurgeryError
from growmas.structure.layers.axes import LAYERS

X = torch.rand(4, 8)


class Hardcoded(nn.Module):
    """The width of `a` stands in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).view(-1, 6)).relu())


def sequence() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))


def normed() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 24), nn.LayerNorm(24), nn.Linear(24, 3))


def refused(
    structure: gm.Structure, act: Callable[[], Any], message: str, kind: type[GrowmasError]
) -> None:
    """Check that an action is refused, and that model and optimizer are as they were."""
    model = structure.model
    optimizer = torch.optim.Adam(model.parameters())
    held = [(id(p), p.detach().clone()) for p in model.parameters()]
    groups, state = dict(structure.groups), copy.deepcopy(optimizer.state_dict())
    with pytest.raises(kind, match=message):
        act()
    now = [(id(p), p.detach()) for p in model.parameters()]
    assert all(a == b and torch.equal(p, q) for (a, p), (b, q) in zip(held, now, strict=True))
    assert optimizer.state_dict() == state
    assert {n: g.unit_ids for n, g in structure.groups.items()} == {
        n: g.unit_ids for n, g in groups.items()
    }


@pytest.mark.parametrize("plan", [gm.Plan(grow={"a": 1}), gm.Plan(prune={"a": [0]})], ids=repr)
def test_a_group_that_check_moved_to_fixed(plan: gm.Plan) -> None:
    structure = gm.Structure(Hardcoded(), X, check=True)
    message = r"group 'a' cannot change: it was tried, and refused: .*test_bad_plans\.py, line"
    for act in (
        structure.apply,
        structure.explain,
        structure.cost,
        structure.dry_run,
        lambda plan: structure.plan(grow=plan.grow, prune=plan.prune),
    ):
        refused(structure, lambda act=act: act(plan), message, PlanError)


def test_a_group_that_was_refused_once_says_so() -> None:
    structure = gm.Structure(Hardcoded(), X)
    act = lambda: structure.apply(gm.Plan(grow={"a": 1}))  # noqa: E731
    refused(structure, act, "forward pass fails", SurgeryError)
    (line,) = [line for line in repr(structure).splitlines() if line.startswith("  a ")]
    assert "shrinks and grows; refused: after changing a the forward pass fails" in line
    assert len(line) < 120


@pytest.mark.parametrize("multiple", [16, 100, {"0": 64}], ids=str)
def test_a_multiple_that_is_larger_than_the_group(multiple: Any) -> None:
    structure = gm.Structure(sequence(), X)
    plan = gm.Plan(prune={"0": [0, 1]}, round_to=multiple)
    message = r"group '0' has 6 neurons, of which 2 would be removed, and no multiple of \d+ lies"
    refused(structure, lambda: structure.apply(plan), message, PlanError)
    chosen = structure.select([torch.rand(50, 8)], ratio=0.5, round_to=multiple)
    assert not chosen
    assert "no multiple of round_to=" in chosen.cause["skipped"]["0"]
    (effect,) = structure.explain(gm.Plan(grow={"0": 1}, round_to=multiple)).groups
    assert effect.width[1] in (16, 100, 64)  # growing goes up to the next one


def test_a_multiple_for_a_group_that_does_not_exist() -> None:
    structure = gm.Structure(sequence(), X)
    plan = gm.Plan(grow={"0": 1}, round_to={"zero": 8})
    refused(structure, lambda: structure.apply(plan), "round_to: no group 'zero'", PlanError)


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_approximate_is_true_or_false(value: Any) -> None:
    with pytest.raises(PlanError, match="expected True or False"):
        gm.Plan(prune={"0": [0]}, approximate=value)


def test_approximate_plans_and_views() -> None:
    structure = gm.Structure(normed(), X)
    structure.begin_task("first")
    structure.begin_task("second")
    plan = gm.Plan(prune={"0": [0]}, approximate=True)

    def inside() -> None:
        with structure.view("first"):
            structure.apply(plan)

    refused(structure, inside, "cannot be done inside a view", SurgeryError)
    refused(
        structure, lambda: structure.apply(gm.Plan(prune={"0": [0]})),
        r"cannot shrink: it passes '1'.*Plan\(approximate=True\)", PlanError,
    )  # fmt: skip
    structure.apply(gm.Plan(grow={"0": 8}))
    for task in (structure.view("first").__enter__, lambda: structure.extract("first")):
        refused(structure, task, "there is no view of task 0 any more", PlanError)
    structure.apply(plan)
    assert structure.groups["0"].width == 31


class Scale(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels, self.gain = channels, nn.Parameter(torch.rand(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


def axes(tensor: str = "gain", dim: int = 0, *, size: str = "channels", **more: Any) -> Any:
    axis = gm.TensorAxis(tensor, dim, "norm", 1.0, **more)
    return gm.LayerAxes(out=(axis,), out_size=(gm.Size(size),) if size else ())


def failing(layer: nn.Module) -> gm.LayerAxes:
    raise ZeroDivisionError("by zero")


@pytest.fixture
def scale() -> Iterator[type[Scale]]:
    kind = type("Scale", (Scale,), {})
    yield kind
    LAYERS.pop(kind, None)


MISFITS: dict[str, tuple[Any, str]] = {
    "no such axis": (axes(dim=1), "'gain' has 1 axes, and no axis 1"),
    "no such tensor": (axes("gian"), "it has no tensor 'gian'"),
    "no such size": (axes(size="chanels"), r"'out' is not known \(.*'chanels'\): give a Size"),
    "no size": (axes(size=""), "'out' is not known"),
    "blocks that are not there": (axes(blocks=4), r"has 6 entries, and 6 channels .*take 24"),
    "a length that is wrong": (
        gm.LayerAxes(out=(gm.TensorAxis("gain", 0, "norm"),), length=lambda module, side: 5),
        "axis 0 of 'gain' has 6 entries, and 5 channels",
    ),
    "a function that fails": (failing, r"fails \(ZeroDivisionError: by zero.*test_bad_plans\.py"),
    "a function that returns nothing": (lambda layer: None, "returned None: expected LayerAxes"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_axes_that_do_not_fit_fix_their_layer_only(case: str, scale: type[Scale]) -> None:
    wrong, message = MISFITS[case]
    gm.register_layer(scale, wrong)
    net = nn.Sequential(nn.Linear(8, 6), scale(6), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    structure = gm.Structure(net, X)
    assert sorted(structure.groups) == ["2"]
    plan = gm.Plan(grow={"0": 2})
    refused(structure, lambda: structure.apply(plan), message, PlanError)
    structure.apply(gm.Plan(grow={"2": 2}))
    assert net[2].out_features == 7


@pytest.mark.parametrize("value", [5, None, [axes()]], ids=str)
def test_what_is_registered_is_axes(value: Any, scale: type[Scale]) -> None:
    with pytest.raises(SurgeryError, match="expected LayerAxes"):
        gm.register_layer(scale, value)


@pytest.mark.parametrize(
    "values", [{"role": "nrm"}, {"dim": "0"}, {"blocks": 0}, {"shared": 1.5}], ids=str
)
def test_an_axis_has_a_role_and_whole_numbers(values: dict[str, Any]) -> None:
    with pytest.raises(SurgeryError, match="expected a role of 'out', 'in', 'norm'"):
        gm.TensorAxis(**{"tensor": "gain", "dim": 0, "role": "norm", **values})
