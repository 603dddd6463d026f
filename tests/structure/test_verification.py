"""How far an edit may move the output: by rounding, and no further."""

import pytest
import torch
from torch import Tensor, nn

from growmas import Plan, Structure
from growmas.errors import SurgeryError
from growmas.structure import register_layer
from growmas.structure.layers import axes
from growmas.structure.surgery.verification import check_outputs

BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 5e-2}
"""Largest change relative to the largest output, as docs/surgery.md promises."""

PLAN = Plan(grow={"fc": 1})


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_the_bound_is_relative_and_sharp(dtype: torch.dtype, scale: float) -> None:
    old = torch.tensor([[0.0, 0.5], [-1.0, 0.25]], dtype=torch.float64).mul(scale)

    def moved(relative: float) -> list[Tensor]:
        return [(old + torch.tensor([[0.0, relative * scale], [0.0, 0.0]]).double()).to(dtype)]

    check_outputs([old.to(dtype)], lambda: moved(BOUNDS[dtype] / 2), PLAN)
    with pytest.raises(SurgeryError, match="changing fc would move the output by"):
        check_outputs([old.to(dtype)], lambda: moved(BOUNDS[dtype] * 2), PLAN)


def test_every_output_is_compared() -> None:
    same, old, new = torch.ones(2), torch.ones(2), torch.tensor([1.0, 1.001])
    with pytest.raises(SurgeryError, match="would move the output by"):
        check_outputs([same, old], lambda: [same, new], PLAN)


def test_float64_may_be_off_by_float32_rounding_only_where_norms_were_widened() -> None:
    old = torch.ones(2).double()
    check_outputs([old], lambda: [old + 1e-6], PLAN, in_float32=True)
    with pytest.raises(SurgeryError, match="would move the output by"):
        check_outputs([old], lambda: [old + 1e-6], PLAN)
    with pytest.raises(SurgeryError, match="would move the output by"):
        check_outputs([old], lambda: [old + 1e-3], PLAN, in_float32=True)


class Leaky(nn.Linear):
    """A Linear that adds a little of something its registration does not know of."""

    leak = 1e-3

    def forward(self, x: Tensor) -> Tensor:
        plain = super().forward(x)
        return plain + self.leak * plain.detach().abs().max() * x.square().sum(1, keepdim=True)


@pytest.fixture
def leaky_net(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.setattr(axes, "LAYERS", dict(axes.LAYERS))
    register_layer(Leaky, axes.LAYERS[nn.Linear])
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), Leaky(8, 3))


@pytest.mark.parametrize("plan", [Plan(grow={"0": 4}), Plan(prune={"0": [2, 3]})], ids=str)
def test_a_mapping_that_is_off_by_a_thousandth_is_refused(leaky_net: nn.Module, plan: Plan) -> None:
    x = torch.randn(5, 6)
    structure = Structure(leaky_net, x)
    before = {name: tensor.clone() for name, tensor in leaky_net.state_dict().items()}
    with pytest.raises(SurgeryError, match="changing 0 would move the output by"):
        structure.apply(plan)
    after = leaky_net.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    leaky_net[2].leak = 0.0
    structure.apply(plan)
