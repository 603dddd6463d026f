"""Inputs and models that do not fit: one clear message each, and nothing is changed."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import growmas as gm
from growmas.errors import PlanError, SurgeryError


def sequence() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))


class Asserting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        assert len(x) > 100
        return self.a(x)


class Reshaping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = sequence()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x).view(3, 7)


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 6), nn.Linear(8, 6)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.a(x) * mask + self.b(x)


class Mapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = sequence()

    def forward(self, x: Tensor) -> Tensor:
        return torch.func.vmap(self.block)(x)


X = torch.rand(4, 8)
HERE = r"\S*test_failing_forwards\.py, line \d+, in "
WRONG: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    "an exception without words": (
        Asserting, X, {}, rf"the forward pass fails \(AssertionError.*{HERE}forward\)",
    ),
    "a wrong reshape": (Reshaping, X, {}, rf"\(RuntimeError: shape '\[3, 7\]' .*{HERE}forward\)"),
    "a wrong width": (sequence, X[:, :7], {}, r"RuntimeError: mat1 and mat2.*, in layer '0'\)"),
    "a wrong forward=": (
        sequence, X, {"forward": lambda model, x: model(x)[5, 5, 5]},
        rf"\(IndexError: .*{HERE}<lambda>\)\. They must be what",
    ),
    "too few inputs": (Masked, X, {}, r"called as Masked\(x: .*mask: .*given a tensor: missing"),
    "too many inputs": (Masked, (X, X, X), {}, "given a tensor, a tensor, a tensor: too many"),
    "a wrong keyword": (Masked, {"x": X, "msk": X}, {}, "and was given x, msk: missing a required"),
    "float64": (sequence, X.double(), {}, "are torch.float64 and the parameters are torch.f"),
    "integers": (sequence, X.long(), {}, "are torch.int64, and the first layer is a Linear"),
    "no ids": (lambda: nn.Sequential(nn.Embedding(9, 4)), X, {}, "give ids, torch.long"),
    "inputs elsewhere": (
        sequence, X.to("meta"), {}, r"inputs are on meta and the model is on cpu: move",
    ),
    "a model without values": (
        lambda: sequence().to("meta"), X, {}, r"'0.weight' and 3 more .* meta device.*to_empty",
    ),
    "no inputs": (sequence, None, {}, r"\(TypeError: .*not NoneType, in layer '0'\)"),
    "layers inside vmap": (Mapped, X, {}, "it runs, but not while it is traced"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_named(case: str) -> None:
    build, inputs, options, message = WRONG[case]
    model = build()
    model.train()
    before = copy.deepcopy(model.state_dict()), vars(model).keys()
    with pytest.raises(SurgeryError, match=message) as caught:
        gm.Structure(model, inputs, **options)
    assert "analysed on its example inputs" in str(caught.value) or "meta" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert model.training
    assert vars(model).keys() == before[1]
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    if not any(p.is_meta for p in model.parameters()):
        assert all(torch.equal(v, before[0][k]) for k, v in model.state_dict().items())


class Fragile(nn.Module):
    """A network whose forward pass can be made to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.broken = sequence(), False

    def forward(self, x: Tensor) -> Tensor:
        if self.broken:
            raise LookupError
        return self.block(x)


def test_a_forward_pass_that_fails_later_is_named_too() -> None:
    model = Fragile()
    optimizer = torch.optim.Adam(model.parameters())
    structure = gm.Structure(model, X)
    model.broken = True
    held = [id(p) for p in model.parameters()]
    with pytest.raises(SurgeryError, match=rf"does not run on .* \(LookupError, {HERE}forward\)"):
        structure.apply(gm.Plan(grow={"block.0": 2}), followers=[optimizer])
    assert [id(p) for p in model.parameters()] == held
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == held


class WithIdle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.spare = nn.Linear(8, 6), nn.Linear(6, 2), nn.Linear(5, 5)
        self.block = nn.Module()
        self.block.gain = nn.Parameter(torch.ones(6))
        self.block.unused = nn.Parameter(torch.ones(3))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x) * self.block.gain)


def test_layers_that_take_no_part_are_noted_and_left_alone() -> None:
    model = WithIdle()
    structure = gm.Structure(model, X, check=True)
    idle = [name for name, reason in structure.fixed.items() if "takes no part" in reason]
    assert sorted(idle) == ["block.unused", "scale", "spare"]
    assert "3 layers: it takes no part in the output" in repr(structure)
    before = copy.deepcopy(model.spare.state_dict())
    structure.apply(gm.Plan(grow={"a": 2}, prune={"a": [0]}))
    assert all(torch.equal(v, before[k]) for k, v in model.spare.state_dict().items())
    with pytest.raises(PlanError, match="'spare' cannot change: it takes no part"):
        structure.apply(gm.Plan(grow={"spare": 1}))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.decoder = nn.Linear(8, 6), nn.Linear(6, 2), nn.Linear(8, 6)
        self.decoder.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu())


class Experts(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        parts = {str(i): nn.Sequential(nn.Linear(8, 6), nn.ReLU()) for i in range(3)}
        self.experts = nn.ModuleDict(parts) if kind is nn.ModuleDict else kind(parts.values())
        self.out = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(next(iter(self.experts.children()))(x))


@pytest.mark.parametrize(
    ("build", "layers"),
    [
        (Tied, ["decoder"]),
        (lambda: Experts(nn.ModuleList), ["experts.1.0", "experts.2.0"]),
        (lambda: Experts(nn.ModuleDict), ["experts.1.0", "experts.2.0"]),
    ],
)
def test_layers_that_surgery_would_leave_behind_are_refused(build: Any, layers: list[str]) -> None:
    with pytest.raises(SurgeryError, match="take no part") as caught:
        gm.Structure(build(), X)
    assert all(repr(layer) in str(caught.value) for layer in layers)
    assert gm.Structure(build(), X, ignore=layers).groups
