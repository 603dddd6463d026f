"""Continuous continual backprop against its equation, and layer norms put behind layers."""

import pytest
import torch
from small_streams import stream_of, structure_of
from torch import nn

from growmas.errors import ConfigError
from growmas.models.normed import add_layer_norms
from growmas.training.methods import ContinuousCBP


def test_a_step_is_what_the_equation_says():
    stream = stream_of("domain")
    structure = structure_of(stream)
    model, task = structure.model, stream.tasks[0]
    method = ContinuousCBP(structure, rate=0.5, decay=0.0, seed=3)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    seen = []
    heads = [m for n, m in model.named_modules() if n.startswith("heads.")]
    hooks = [h.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for h in heads]
    method.loss(task.train.inputs, task.train.labels, task).backward()
    method.step_done(task)
    assert len(hooks) == len(heads)
    name = list(structure.groups)[-1]
    group, h = structure.groups[name], seen[0].detach()
    columns = sum(before[f"heads.{i}.weight"].abs().sum(0) for i in range(len(heads)))
    utility = h.abs().mean(0) * columns
    share = 0.5 * (1 - utility / utility.mean()).clamp(min=0)
    now = dict(model.named_parameters())
    expected = before["heads.0.weight"] * (1 - share)
    torch.testing.assert_close(now["heads.0.weight"].detach(), expected, rtol=1e-4, atol=1e-6)
    rows = now[f"{name}.bias"].detach() != before[f"{name}.bias"]
    assert torch.equal(rows, share > 0)
    assert 0 < int(rows.sum()) < group.width
    assert method.utility[name].dtype == torch.float64


def test_its_state_continues():
    stream = stream_of("domain")
    task = stream.tasks[0]
    runs = []
    for cut in (False, True):
        torch.manual_seed(0)
        method = ContinuousCBP(structure_of(stream), rate=0.1, seed=3)
        for step in range(4):
            if cut and step == 2:
                state, model = method.state_dict(), method.structure.model
                method = ContinuousCBP(method.structure, rate=0.1, seed=99)
                method.load_state_dict(state)
                assert method.structure.model is model
            method.loss(task.train.inputs, task.train.labels, task).backward()
            method.step_done(task)
        runs.append([p.detach().clone() for p in method.structure.model.parameters()])
    assert all(map(torch.equal, *runs))


def test_norms_are_put_behind_layers_without_one():
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(36, 5), nn.ReLU(), nn.Linear(5, 2),
    )  # fmt: skip
    x = torch.rand(4, 1, 6, 6)
    assert add_layer_norms(net, x) == ("3", "6")
    assert net(x).shape == (4, 2)
    assert [type(m).__name__ for m in net[3]] == ["Conv2d", "ChannelNorm"]
    with pytest.raises(ConfigError, match="use kind finetune"):
        add_layer_norms(nn.Sequential(nn.Linear(3, 2)), torch.rand(2, 3))
