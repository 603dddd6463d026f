"""FLOPs of one sample, against counts written out by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

import growmas as gm
from growmas.batches import example_forward
from growmas.errors import PlanError
from growmas.structure.inspection.flops import FlopCount, sample_flops


def counted(model: nn.Module, inputs: Any, forward: Any = example_forward) -> FlopCount:
    return sample_flops(model, inputs, forward)


class Two(nn.Module):
    """Linear(8, 6) and Linear(6, 2), 120 FLOPs a sample, with something odd between them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.between(self.a(x)))

    def between(self, x: Tensor) -> Tensor:
        return x.relu()


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class Rows(torch.autograd.Function):
    """DeBERTa's XSoftmax, in little: it gives a tensor without a gradient function."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:
        return torch.softmax(x, dim).requires_grad_()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class CustomFunction(Two):
    def between(self, x: Tensor) -> Tensor:
        return Square.apply(x)  # type: ignore[no-untyped-call]


class NoGradient(Two):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Dropout(0.1)

    def between(self, x: Tensor) -> Tensor:
        return self.mix(Rows.apply(x, -1))  # type: ignore[no-untyped-call]


class Checkpointed(Two):
    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = torch.utils.checkpoint.checkpoint(self.a, x, use_reentrant=False)
        return self.b(hidden.relu())


class Mapped(Two):
    def forward(self, x: Tensor) -> Tensor:
        return torch.func.vmap(lambda row: self.b(self.a(row).relu()))(x)


class Functional(Two):
    def forward(self, x: Tensor) -> Tensor:
        weights = dict(self.b.named_parameters())
        return torch.func.functional_call(self.b, weights, (self.a(x),))


class Spectral(Two):
    def between(self, x: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(x) * (1 + 2j), n=6)


class Mixed(Two):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x)


class ThroughNumpy(Two):
    def between(self, x: Tensor) -> Tensor:
        return x + torch.from_numpy(x.detach().numpy().copy())


class Subclassed(Two):
    class Marked(Tensor):
        pass

    def between(self, x: Tensor) -> Tensor:
        return x.as_subclass(self.Marked).relu()


class Caught(Two):
    """A module that fails in a `try`: what runs instead is counted for its own module."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Linear(9, 6)

    def forward(self, x: Tensor) -> Tensor:
        try:
            return self.b(self.c(x))
        except RuntimeError:
            return self.b(self.a(x))


ODD = (
    *(CustomFunction, NoGradient, Checkpointed, Mapped, Functional, Spectral, Mixed, ThroughNumpy),
    *(Subclassed, Caught),
)


@pytest.mark.parametrize("kind", ODD, ids=lambda kind: kind.__name__)
def test_odd_networks_are_counted(kind: type[Two]) -> None:
    found = counted(kind(), torch.rand(4, 8))
    assert (found.layers[""], found.layers["a"], found.layers["b"]) == (120, 96, 24)
    assert (found.samples, found.uncounted) == (4, "")


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(8, 6)
        self.b = torch.jit.script(nn.Sequential(nn.Linear(6, 2), nn.ReLU()))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_part_is_counted_as_a_whole() -> None:
    found = counted(Scripted(), torch.rand(4, 8))
    assert (found.total, found.layers["b"]) == (120, 24)


class Graph(nn.Module):
    def __init__(self, layout: torch.layout) -> None:
        super().__init__()
        self.register_buffer("edges", torch.eye(8).to_sparse(layout=layout))
        self.a = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sparse.mm(self.edges, self.a(x))


@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning")
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr], ids=str)
def test_a_sparse_product_costs_what_its_entries_cost(layout: torch.layout) -> None:
    model = Graph(layout)
    before = model.edges.to_dense().clone()
    assert counted(model, torch.rand(8, 4)).total == 2 * 4 * 6 + 2 * 6
    assert torch.equal(model.edges.to_dense(), before)


class Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Bilinear(8, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, x[:, :5])


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


class MatrixVector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3, 8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.weight @ row for row in x])


@pytest.mark.parametrize(
    ("model", "shape", "flops"),
    [
        (nn.LSTM(8, 6, batch_first=True), (4, 5, 8), 2 * 5 * 4 * 6 * (8 + 6)),
        (nn.LSTM(8, 6, 2, batch_first=True), (4, 5, 8), 2 * 5 * 4 * 6 * (8 + 6 + 6 + 6)),
        (nn.LSTM(8, 6, batch_first=True, bidirectional=True), (4, 5, 8), 4 * 5 * 4 * 6 * 14),
        (nn.GRU(8, 6, batch_first=True), (4, 5, 8), 2 * 5 * 3 * 6 * (8 + 6)),
        (Attention(), (4, 2, 5, 8), 2 * 2 * 5 * 5 * 8 * 2),
        (Bilinear(), (4, 8), 2 * 3 * 8 * 5),
        (MatrixVector(), (4, 8), 2 * 3 * 8),
        (nn.Conv2d(2, 6, 3, groups=2), (4, 2, 8, 8), 2 * 6 * 36 * 9),
        (nn.Linear(8, 6), (4, 7, 8), 2 * 7 * 8 * 6),
        (nn.Linear(8, 8), (8,), 2 * 8 * 8),
        (nn.Conv2d(3, 6, 1), (3, 5, 5), 2 * 3 * 6 * 25),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_one_sample_costs_as_much_in_any_batch(
    model: nn.Module, shape: tuple[int, ...], flops: int
) -> None:
    assert counted(model.eval(), torch.rand(shape)).total == flops
    if shape[0] == 4:
        assert counted(model, torch.rand(9, *shape[1:])).total == flops


class Heads(nn.Module):
    def __init__(self, several: bool = True) -> None:
        super().__init__()
        self.body = nn.Linear(8, 12)
        self.heads = nn.ModuleList([nn.Linear(12, 2), nn.Linear(12, 3)])
        self.several = several

    def forward(self, x: Tensor, task: int | None = None) -> Tensor | tuple[Tensor, ...]:
        hidden = self.body(x).relu()
        return (
            tuple(head(hidden) for head in self.heads) if task is None else self.heads[task](hidden)
        )


@pytest.mark.parametrize(
    "forward",
    [
        lambda model, x: model(x),
        lambda model, x: [model(x, 0), model(x, 1)],
        lambda model, x: dict(zip("ab", model(x), strict=True)),
    ],
    ids=["one call", "a call for each task", "a dict of outputs"],
)
def test_a_task_runs_its_own_head_only(forward: Any) -> None:
    structure = gm.Structure(Heads(), torch.rand(4, 8), forward=forward)
    assert structure.cost().flops == 2 * 8 * 12 + 2 * 12 * 3
    found = {layer.name: layer.flops for layer in structure.architecture().layers}
    assert found == {"body": 192, "heads.0": 48, "heads.1": 72}
    after = structure.cost(gm.Plan(grow={"body": 4})).flops
    assert after == 2 * 8 * 16 + 2 * 16 * 3
    structure.grow_head("heads.0", 5)
    assert structure.cost().flops == 2 * 8 * 12 + 2 * 12 * 7


def test_calls_that_run_the_same_layers_add_up() -> None:
    """A model that is called on two halves, and a list of blocks that follow one another."""

    def siamese(model: nn.Module, x: Tensor) -> Tensor:
        return model(x) - model(x + 1)

    assert counted(nn.Linear(8, 6), torch.rand(4, 8), siamese).total == 2 * 2 * 8 * 6

    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

        def forward(self, x: Tensor) -> list[Tensor]:
            found = []
            for block in self.blocks:
                x = block(x)
                found.append(x)
            return found

    assert counted(Blocks(), torch.rand(4, 8)).total == 3 * 2 * 8 * 8


class Opaque(Two):
    def between(self, x: Tensor) -> Tensor:
        if "flop_counter" in type(_get_current_dispatch_mode()).__module__:
            raise RuntimeError("bears no counter")
        return x.relu()


def test_what_cannot_be_counted_says_why_and_all_else_goes_on() -> None:
    structure = gm.Structure(Opaque(), torch.rand(4, 8))
    plan = structure.plan(grow={"a": 2})
    cost = structure.cost(plan)
    assert (cost.flops, cost.parameters) == (None, 8 * 8 + 8 + 8 * 2 + 2)
    assert cost.uncounted == "RuntimeError: bears no counter"
    explanation = structure.explain(plan)
    assert explanation.flops == (None, None)
    assert explanation.groups[0].flops is None
    assert explanation.parameters[1] == cost.parameters
    text = str(explanation)
    assert "not counted" in text
    assert "FLOPs are not counted: RuntimeError: bears no counter" in text
    assert structure.architecture().flops is None
    assert structure.dry_run(plan).after.relative_change < 1e-6
    for needs_them in (
        lambda: structure.select([torch.rand(32, 8)], flops=0.5),
        lambda: gm.Budget(flops=100).check(structure),
        lambda: gm.Budget(flops=100).trim(structure, plan),
    ):
        with pytest.raises(PlanError, match=r"cannot be counted \(RuntimeError.*in parameters"):
            needs_them()
    assert structure.select([torch.rand(32, 8)], parameters=0.5)


def test_a_forward_pass_that_fails_fails() -> None:
    class Broken(Two):
        def between(self, x: Tensor) -> Tensor:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        counted(Broken(), torch.rand(4, 8))


def test_counting_leaves_no_trace() -> None:
    model, x = Heads().train(), torch.rand(4, 8)
    hooks = torch.nn.modules.module._global_forward_hooks
    before = dict(hooks), torch.get_rng_state()
    counted(model, x)
    assert dict(hooks) == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert model.training
