"""Layers with a forward pass of their own: what they compute is found, chosen by and repaired."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import growmas as gm
from growmas.structure.reconstruction.inner_operation import (
    convolved,
    is_convolution,
    is_linear,
)


class Padded(nn.Conv2d):
    """Pads below and on the right, as TensorFlow does."""

    def forward(self, x):
        x = F.pad(x, (0, 1, 0, 1))
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation)


class Circular(nn.Conv1d):
    def forward(self, x):
        x = F.pad(x, (2, 2), mode="circular")
        return F.conv1d(input=x, weight=self.weight, bias=self.bias, padding=(1,))


class Standardised(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)


class Mixing(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x.flip(1), self.weight, self.bias)


class Scaled(nn.Conv2d):
    def forward(self, x):
        return 2 * F.conv2d(x, self.weight, self.bias)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * F.linear(x, self.weight, self.bias)


class Cast(nn.Linear):
    def forward(self, x):
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


class Needy(nn.Conv2d):
    def forward(self, x):
        raise RuntimeError(self.no_such_attribute)


@pytest.mark.parametrize(
    ("layer", "found"),
    [
        (Padded(4, 3, 3, stride=2), True),
        (Padded(4, 3, 2, dilation=2), True),
        (Circular(4, 3, 3), True),
        (nn.Conv3d(4, 2, 3, padding=1, groups=2), True),
        (Standardised(4, 3, 3), False),
        (Mixing(4, 3, 3), False),
        (Scaled(4, 3, 3), False),
        (Needy(4, 3, 3), False),
    ],
    ids=lambda given: type(given).__name__,
)
def test_convolutions_are_known_by_what_they_compute(layer, found):
    state = torch.get_rng_state()
    assert is_convolution(layer) is found
    assert torch.equal(torch.get_rng_state(), state)
    assert layer.training


def test_linear_layers_are_known_by_what_they_compute():
    assert is_linear(Cast(4, 3))
    assert not is_linear(Doubled(4, 3))


def test_the_padded_input_has_both_paddings():
    layer, x = Circular(2, 3, 3), torch.rand(1, 2, 6)
    wanted = F.pad(F.pad(x, (2, 2), mode="circular"), (1, 1))
    assert torch.equal(convolved(layer, (x,), {}), wanted)


def twins():
    """Return two networks that compute the same, of which one pads inside its convolutions."""
    torch.manual_seed(0)
    inside = nn.Sequential(
        Padded(1, 8, 2), nn.ReLU(), Padded(8, 10, 2, stride=2, bias=False), nn.BatchNorm2d(10),
        nn.ReLU(), Padded(10, 6, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), Cast(6, 3),
    )  # fmt: skip
    pad = lambda: nn.ZeroPad2d((0, 1, 0, 1))  # noqa: E731
    plain = [nn.Conv2d(1, 8, 2), nn.Conv2d(8, 10, 2, 2, bias=False), nn.Conv2d(10, 6, 2)]
    beside = nn.Sequential(
        pad(), plain[0], nn.ReLU(), pad(), plain[1], nn.BatchNorm2d(10), nn.ReLU(), pad(),
        plain[2], nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip
    for held, other in zip(inside.parameters(), beside.parameters(), strict=True):
        other.data.copy_(held.data)
    return inside.eval(), beside.eval()


@pytest.mark.parametrize("gathered", [False, True])
def test_choice_and_repair_are_those_of_the_same_network_in_plain_layers(gathered):
    x = torch.rand(60, 1, 7, 7)
    found = []
    for net in twins():
        before, structure = copy.deepcopy(net), gm.Structure(net, x[:4])
        source = [x[:30], x[30:]]
        if gathered:
            source = gm.ActivationStatistics(structure)
            source.update([x])
            assert not source.skipped
        plan = structure.select(source, ratio=0.4)
        assert "skipped" not in plan.cause
        structure.apply(plan, reconstruct=source)
        assert (net(x) - before(x)).norm() < 0.2 * (before(x) - before(x).mean(0)).norm()
        found.append((list(plan.prune.values()), list(net.parameters())))
    (chosen, inside), (others, beside) = found
    assert chosen == others
    for held, other in zip(inside, beside, strict=True):
        torch.testing.assert_close(held, other, rtol=1e-3, atol=1e-4)
