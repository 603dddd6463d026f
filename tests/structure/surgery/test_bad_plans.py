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


class Halved(nn.Module):
    """Half of the units are read: both halves can grow together, but neither alone."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 6), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.a(x)
        return self.b(hidden[:, : hidden.shape[1] // 2])


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.out = nn.Linear(8, 3), nn.Linear(8, 2)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 8)) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        weight = self.gate(x).softmax(-1)
        every = enumerate(self.experts)
        return self.out(sum(weight[:, i : i + 1] * expert(x) for i, expert in every))


class Between(nn.Module):
    """An operation between two layers."""

    def __init__(self, between: Callable[[Tensor], Tensor], width: int = 6) -> None:
        super().__init__()
        self.a, self.b, self.between = nn.Linear(8, 6), nn.Linear(width, 2), between

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.between(self.a(x)))


ODD: dict[str, Callable[[], nn.Module]] = {
    "a width in the code": Hardcoded,
    "half of the units": Halved,
    "experts": Experts,
    "the value of an activation": lambda: Between(lambda x: x * float(x.mean().detach())),
    "divided by the width": lambda: Between(lambda x: x / x.shape[1]),
    "largest entries": lambda: Between(lambda x: x * (x >= x.topk(2, -1).values[:, 1:])),
    "without the mean": lambda: Between(lambda x: x - x.mean(-1, keepdim=True)),
    "running sums": lambda: Between(lambda x: x.cumsum(-1)),
    "sorted": lambda: Between(lambda x: x.sort(-1).values),
    "rolled": lambda: Between(lambda x: x + x.roll(1, -1)),
    "a ramp": lambda: Between(lambda x: x + torch.linspace(0, 1, x.shape[1])),
    "a Gram matrix": lambda: Between(lambda x: (x[:, :, None] * x[:, None]).flatten(1), 36),
    "the largest of three": lambda: Between(lambda x: x.view(-1, 2, 3).amax(-1), 2),
    "every other unit": lambda: Between(lambda x: x[:, ::2], 3),
}


@pytest.mark.parametrize("case", ODD)
def test_what_is_listed_after_a_check_is_not_refused(case: str) -> None:
    torch.manual_seed(0)
    model = ODD[case]()
    structure = gm.Structure(model, X, check=True)
    for name in structure.groups:
        for count in (1, 3):
            if structure.groups[name].can_grow:
                structure.apply(gm.Plan(grow={name: count}))
            group = structure.groups[name]
            if (group.can_shrink or group.approximate) and group.width > count:
                structure.apply(gm.Plan(prune={name: group.unit_ids[-count:]}, approximate=True))
            if group.can_shrink and group.can_grow:
                structure.apply(gm.Plan(replace={name: structure.groups[name].unit_ids[:1]}))
    assert {*structure.fixed} | {x for g in structure.groups.values() for x in g.layers} >= {
        name for name, module in model.named_modules() if module._parameters
    }


def test_equal_reasons_are_printed_once() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(Hardcoded() for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([block(x) for block in self.blocks], -1)

    lines = repr(gm.Structure(Deep(), X, check=True)).splitlines()
    assert "  and 8 fixed; structure.fixed has the reasons" in lines
    assert (
        sum("4 layers: it was tried, and refused: after changing …" in line for line in lines) == 1
    )
    assert sum("4 layers: it reaches the output of the network" in line for line in lines) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_part_is_refused_by_name() -> None:
    net = nn.Sequential(nn.Linear(8, 6), torch.jit.script(sequence()[:0].append(nn.Linear(6, 2))))
    with pytest.raises(SurgeryError, match=r"'1' is TorchScript.*before scripting it$"):
        gm.Structure(net, X)
