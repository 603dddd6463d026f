"""Odd models and batches: importance equals the loop, or is refused in one clear message."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import reference
import snapshots
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from growmas import GrowmasError, mas_importance
from growmas.errors import ImportanceError

Forward = Callable[[Any, Tensor], Any]


class Odd(nn.Module):
    """Two layers and a function of them."""

    def __init__(self, call: Forward) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 4), nn.Linear(4, 2)
        self.slope = nn.Parameter(torch.linspace(0.5, 1.5, 4))
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("count", torch.zeros(4))
        self.seen: list[Tensor] = []
        self.call = call

    def forward(self, x: Tensor) -> Any:
        return self.call(self, x)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        return gradient * w, (gradient * x).sum(0)


def nested(self: Any, x: Tensor) -> Any:
    return {"one": {"two": self.first(x)}, "three": [self.head(x), {"four": (x * self.slope,)}]}


def in_place(self: Any, x: Tensor) -> Tensor:
    y = self.first(x)
    y[:, 0] = 0
    y[:, 1:] *= 2
    y += 1
    F.relu_(y)
    return self.head(y)


def forces(self: Any, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    energy = self.head(self.first(x).tanh()).sum()
    return torch.autograd.grad(energy, x, create_graph=True)[0]


def writes(self: Any, x: Tensor) -> Tensor:
    self.count += x.mean(0)
    self.seen.append(x)
    return self.head(self.first(x))


def silent(self: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        y = self.first(x)
    return self.head(y)


ANSWERED: dict[str, Forward] = {
    "nested outputs": nested,
    "in-place operations": in_place,
    "forces": forces,
    "writes to buffers and lists": writes,
    "a part without gradient": silent,
    "vmap inside": lambda m, x: torch.func.vmap(lambda row: m.head(m.first(row).tanh()))(x),
    "a Jacobian inside": lambda m, x: torch.func.vmap(
        torch.func.jacrev(lambda row: m.first(row).tanh())
    )(x),
    "a Fourier transform": lambda m, x: m.head(
        torch.fft.irfft(torch.fft.rfft(x) * torch.view_as_complex(m.slope.view(2, 2))[:1], n=4)
    ),
    "checkpoints": lambda m, x: m.head(checkpoint(m.first, x, use_reentrant=False)),
    "a function of one's own": lambda m, x: m.head(Square.apply(m.first(x), m.slope)),
    "numpy inside": lambda m, x: m.head(m.first(torch.as_tensor(x.numpy())).tanh()),
    "dropout": lambda m, x: m.head(F.dropout(m.first(x), 0.5, m.training)),
    "batch norm": lambda m, x: m.head(m.norm(m.first(x))),
    "a double loop": lambda m, x: torch.stack([sum(m.first(r[None]) for r in x[:0]) + m.head(r)
                                               for r in x]),
    "attention with a learnt mask": lambda m, x: m.head(F.scaled_dot_product_attention(
        m.first(x)[:, None], x[:, None], x[:, None], attn_mask=m.slope[:1].view(1, 1, 1)
    )[:, 0]),
    "a real view of complex numbers": lambda m, x: m.head(
        torch.view_as_real(torch.view_as_complex(m.first(x).view(-1, 2, 2))).flatten(1)
    ),
    "a standard deviation": lambda m, x: m.head(x) * m.first(x).std(1, keepdim=True),
}  # fmt: skip


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ANSWERED)
def test_answered(name: str, training: bool) -> None:
    torch.manual_seed(0)
    model = Odd(ANSWERED[name]).double().train(training)
    data = torch.randn(4, 4).double()
    before = snapshots.of_model(model)
    found = mas_importance(model, [data])
    assert snapshots.of_model(model) == before
    wanted = reference.importance(model.eval(), list(data.split(1)), forward=flat)
    for parameter, omega in wanted.items():
        assert torch.allclose(found[parameter], omega, rtol=1e-9, atol=1e-12), parameter


def flat(model: nn.Module, batch: Tensor) -> Tensor:
    def tensors(nest: Any) -> list[Tensor]:
        if isinstance(nest, Tensor):
            return [nest.flatten(1)]
        entries = nest.values() if isinstance(nest, dict) else nest
        return [tensor for entry in entries for tensor in tensors(entry)]

    return torch.cat(tensors(model(batch)), 1)


def doubled(self: Any, x: Tensor) -> Tensor:
    x.mul_(2)
    return self.head(x)


def raising(error: Exception) -> Forward:
    def call(self: Any, x: Tensor) -> Tensor:
        raise error

    return call


def trained(self: Any, x: Tensor) -> Tensor:
    self.norm.train()
    return self.head(self.norm(self.first(x)))


REFUSED: dict[str, tuple[Forward, str]] = {
    "writes to its inputs": (doubled, r"writes to its inputs.*batch\.clone\(\)"),
    "a missing key": (raising(KeyError("oops")), "does not run on it .KeyError: 'oops'"),
    "a missing attribute": (lambda m, x: m.nothing(x), "no attribute 'nothing'"),
    "a failed assertion": (raising(AssertionError("no")), "AssertionError: no"),
    "dropout at all times": (lambda m, x: m.head(F.dropout(x, 0.5)), "dropout that ignores"),
    "batch statistics at all times": (trained, "a sample by itself does not"),
    "no output": (lambda m, x: None, "returned NoneType"),
    "one number": (lambda m, x: m.head(x).sum(), "one scalar per sample"),
    "the spread of all values": (lambda m, x: m.head(x) * m.first(x).var(False), "depends on"),
    "square tensors that are transposed": (lambda m, x: m.head(x.T), "a sample by itself does not"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_words(name: str) -> None:
    torch.manual_seed(0)
    call, words = REFUSED[name]
    model = Odd(call).double()
    before = snapshots.of_model(model)
    with pytest.raises(GrowmasError, match=words):
        mas_importance(model, [torch.randn(4, 4).double()])
    assert snapshots.of_model(model) == before


@dataclasses.dataclass
class Pair:
    x: Tensor
    y: Tensor


def test_a_batch_that_is_a_dataclass() -> None:
    model, x = nn.Linear(4, 2).double(), torch.randn(5, 4).double()
    with pytest.raises(GrowmasError, match="type Pair cannot be passed"):
        mas_importance(model, [Pair(x, x)])
    found = mas_importance(model, [Pair(x, x)], forward=lambda model, batch: model(batch.x))
    assert torch.equal(found["weight"], mas_importance(model, [x])["weight"])


def test_an_encoding_of_transformers_is_a_dict() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=11, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=12, max_position_embeddings=8,
    )  # fmt: skip
    model = transformers.BertModel(config).double()
    ids, mask = torch.randint(11, (3, 5)), torch.ones(3, 5, dtype=torch.long)
    mask[1, 3:] = 0
    plain = {"input_ids": ids, "attention_mask": mask}
    found = mas_importance(model, [transformers.BatchEncoding(plain)])
    for name, omega in mas_importance(model, [plain]).items():
        assert torch.equal(found[name], omega)


def test_hooks_on_gradients_do_not_count_and_stay() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)), torch.randn(5, 4)
    plain = mas_importance(model, [x])
    calls = []
    handle = model[0].weight.register_hook(lambda gradient: calls.append(1) or gradient * 3)
    found = mas_importance(model, [x])
    assert not calls
    assert torch.equal(found["0.weight"], plain["0.weight"])
    model(x).sum().backward()
    assert calls == [1]
    handle.remove()
    model(x).sum().backward()
    assert calls == [1]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers_on_a_gpu_run_without_cudnn(
    kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """cuDNN has no backward pass in eval mode; `tests/gpu` runs them where there is a GPU."""
    seen = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = kind(3, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            seen.append(torch.backends.cudnn.enabled)
            out: Tensor = self.cell(x)[0][:, -1]
            return out

    monkeypatch.setattr("growmas.importance.mas.any_on_cuda", lambda module: True)
    before = torch.backends.cudnn.enabled
    mas_importance(Watched(), [torch.randn(4, 2, 3)])
    assert set(seen) == {False}
    assert torch.backends.cudnn.enabled is before


def test_a_model_without_a_backward_pass_in_eval_mode_is_refused_in_words() -> None:
    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            state = self.layer(x).exp()
            squared = state.square()
            state[:, 0] = 0.0
            return squared + state

    with pytest.raises(ImportanceError, match="no backward pass in eval mode"):
        mas_importance(Stateful(), [torch.randn(4, 3)])
