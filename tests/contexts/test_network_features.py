"""Features that a network computes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import growmas as gm
from growmas import GaussianContext, NetworkFeatures, RidgeContext
from growmas.errors import ContextError, GrowmasWarning
from growmas.models import MLP


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3)
    )


def samples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(60, 6, generator=generator), torch.arange(60) % 2


def test_output_and_what_a_layer_reads() -> None:
    net, (x, _) = network(), samples()
    plain = net.eval()(x)
    hidden = net[:4](x)
    net.train()
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert torch.equal(NetworkFeatures(net)(x), plain)
    assert torch.equal(NetworkFeatures(net, into="4")(x), hidden)
    assert net.training
    assert all(torch.equal(net.state_dict()[name], state[name]) for name in state)
    assert not net[4]._forward_pre_hooks


def test_tuples_dicts_and_maps_of_features() -> None:
    conv = nn.Conv2d(1, 2, 3)
    x = torch.rand(4, 1, 5, 5)
    assert NetworkFeatures(conv)((x, torch.arange(4))).shape == (4, 18)
    assert NetworkFeatures(conv)({"input": x}).shape == (4, 18)


def test_a_copy_is_frozen_at_the_first_call() -> None:
    model = MLP((1, 2, 3), [8, 8], [2, 2])
    x, labels = samples()
    x = x.reshape(60, 1, 2, 3)
    structure = gm.Structure(model, x[:4])
    features = NetworkFeatures(model, into="heads.0", copy=True)
    context = RidgeContext(extract=features, strength=0.1)
    model.fc1.register_forward_hook(lambda *_: pytest.fail("a hook of the network was called"))
    with torch.no_grad():
        model.fc1.weight += 1  # before the first call: counts
    context.update("a", x, labels)
    model.fc1._forward_hooks.clear()
    before = context.class_scores(x)
    with torch.no_grad():
        model.fc1.weight += 1
    structure.apply(gm.Plan(grow={"fc1": 4}))
    assert torch.equal(context.class_scores(x), before)


def test_a_state_holds_the_copy_whatever_its_widths() -> None:
    x, labels = samples()
    x = x.reshape(60, 1, 2, 3)
    model, fresh, wide = (MLP((1, 2, 3), [8, width], [2, 2]) for width in (8, 8, 7))
    gm.Structure(model, x[:4]).apply(gm.Plan(grow={"fc1": 4}, prune={"fc2": [0]}))
    contexts = [
        RidgeContext(extract=NetworkFeatures(net, into="heads.0", copy=True), strength=0.1)
        for net in (model, fresh)
    ]
    contexts[0].update("a", x, labels)
    contexts[1].load_state_dict(contexts[0].state_dict())
    assert torch.equal(contexts[1].class_scores(x), contexts[0].class_scores(x))
    assert fresh.fc1.out_features == 8
    other = RidgeContext(extract=NetworkFeatures(wide, into="heads.0", copy=True), strength=0.1)
    other.update("a", x, labels)
    with pytest.raises(ContextError, match="with other weights were frozen"):
        contexts[0].merge(other)
    with pytest.raises(ContextError, match="'copy': True"):
        RidgeContext(extract=NetworkFeatures(model, into="heads.0")).merge(other)
    strange = RidgeContext(extract=NetworkFeatures(nn.Linear(6, 2), copy=True))
    with pytest.raises(ContextError, match="features"):
        strange.load_state_dict(contexts[0].state_dict())


def test_a_network_that_changes_is_noticed() -> None:
    net, (x, labels) = network(), samples()
    context = RidgeContext(extract=net, strength=0.1)
    context.update("a", x, labels)
    context.class_scores(x)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(x).square().sum().backward()
    optimizer.step()
    with pytest.warns(GrowmasWarning, match="changed since the first call.*copy=True"):
        context.update("b", x, labels)


@pytest.mark.parametrize("kind", [GaussianContext, RidgeContext])
def test_any_context_takes_a_module(kind: Any) -> None:
    net, (x, labels) = network(), samples()
    context = kind(per="class", extract=net)
    context.update("a", x, labels)
    assert net.training  # it was run in eval mode, and left as it was
    assert not (context.state_dict().get("extract") or {}).get("weights")  # they are the user's
    fresh = kind(per="class", extract=net)
    fresh.load_state_dict(context.state_dict())


def test_refusals() -> None:
    with pytest.raises(ContextError, match=r"into='5' is not a layer .* 0, 1, 2, 3, 4"):
        NetworkFeatures(network(), into="5")
    with pytest.raises(ContextError, match="network must be a module, got str"):
        NetworkFeatures("resnet")  # type: ignore[arg-type]
    twice = nn.Sequential(*[nn.Linear(6, 6)] * 2)
    with pytest.raises(ContextError, match=r"layer '0' reads NoneType, .* into="):
        NetworkFeatures(twice, into="0")(samples()[0])
    pairs = nn.LSTM(6, 3)
    with pytest.raises(ContextError, match="the network returns tuple"):
        NetworkFeatures(pairs)(samples()[0])
