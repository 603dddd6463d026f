"""On a GPU importance, Fisher information and the penalty are what they are on a CPU."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

import growmas as gm
from tests.foreign.kinds import KINDS
from tests.foreign.test_kinds import drawn, loop, scale

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

ON_THE_CPU_ALONE = frozenset(
    {
        "zeros that are written to",  # by NumPy
        "words masks and positions",  # these make masks and positions on the CPU
        "language model with tied head",
        "mask that is left out if full",
        "mask by vmap",
        "graph batches with owners",  # the owners are a closure over a tensor
        "graph owners with a mean over all nodes",
    }
)


def on_cuda(batch: Any) -> Any:
    if isinstance(batch, Tensor | PackedSequence):
        return batch.to("cuda")
    if isinstance(batch, Mapping):
        return {key: on_cuda(value) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return type(batch)(map(on_cuda, batch))
    return batch


@pytest.mark.parametrize("name", sorted(KINDS.keys() - ON_THE_CPU_ALONE))
def test_every_kind_equals_the_loop_on_a_cpu_or_is_refused(name: str) -> None:
    case = drawn(name, 0)
    model, batch = case.model.cuda(), on_cuda(case.batch)
    if case.samples is None:
        with pytest.raises(gm.GrowmasError):
            gm.mas_importance(model, [batch], forward=case.forward, **case.options)
        return
    found = gm.mas_importance(model, [batch], forward=case.forward, **case.options)
    expected = loop(name, 0)
    for n, wanted in expected.items():
        assert found[n].is_cuda
        assert float((found[n].cpu() - wanted).norm()) <= 1e-8 * scale(n, expected), n


class Last(nn.Module):
    def __init__(self, cell: nn.Module, width: int) -> None:
        super().__init__()
        self.cell, self.head = cell, nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.cell(x)[0][:, -1])
        return out


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("both", [False, True])
def test_recurrent_layers_in_eval_mode(kind: type[nn.Module], both: bool) -> None:
    """cuDNN has no backward pass for them in eval mode."""
    torch.manual_seed(0)
    model = Last(kind(3, 4, 2, batch_first=True, bidirectional=both), 8 if both else 4)
    data = torch.randn(6, 5, 3)
    wanted = gm.mas_importance(model.double(), [data.double()])
    enabled = torch.backends.cudnn.enabled
    found = gm.mas_importance(copy.deepcopy(model).cuda(), [data.double().cuda()])
    assert torch.backends.cudnn.enabled is enabled
    for name, omega in wanted.items():
        torch.testing.assert_close(found[name].cpu(), omega, rtol=1e-8, atol=1e-12)


def test_an_lstm_with_a_projection_in_eval_mode() -> None:
    torch.manual_seed(0)
    model = Last(nn.LSTM(3, 6, batch_first=True, proj_size=4), 4).double()
    data = torch.randn(4, 5, 3).double()
    wanted = gm.mas_importance(model, [data])
    found = gm.mas_importance(model.cuda(), [data.cuda()])
    for name, omega in wanted.items():
        torch.testing.assert_close(found[name].cpu(), omega, rtol=1e-8, atol=1e-12)


def test_fisher_and_the_penalty() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    data, labels = torch.randn(8, 4).double(), torch.randint(3, (8,))
    wanted = gm.fisher_information(model, [(data, labels)])
    model.cuda()
    found = gm.fisher_information(model, [(data.cuda(), labels.cuda())])
    for name, fisher in wanted.items():
        torch.testing.assert_close(found[name].cpu(), fisher)
    mas = gm.MAS(model)
    mas.consolidate(found)
    assert mas.penalty_grad_() == 0
    assert all(p.grad is None for p in model.parameters())  # at the anchor
    with torch.no_grad():
        model[0].weight.add_(0.1)
    mas.penalty().backward()
    by_autograd = model[0].weight.grad.clone()
    model.zero_grad()
    mas.penalty_grad_()
    torch.testing.assert_close(model[0].weight.grad, by_autograd)
    assert model[2].weight.grad is None
