import copy
from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import nn

import growmas as gm
from growmas.errors import DataError, PlanError

PLAN = gm.Plan(prune={"0": [0, 1, 2], "3": [4]}, grow={"3": 2})


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3)
    )


def generator():
    return torch.Generator().manual_seed(2)


def prepared():
    net, x = network(), torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(net.parameters())
    net(x).square().mean().backward()
    optimizer.step()
    structure = gm.Structure(net, x[:8], generator=generator())
    return net, x, structure, optimizer


def size(model):
    return float(sum(p.numel() for p in model.parameters()))


def test_says_what_apply_then_does():
    net, x, structure, _ = prepared()
    found = structure.dry_run(PLAN, batches=x.split(16), metrics={"size": size}, reconstruct=[x])
    before = net.eval()(x).detach()
    for outcome, options in (
        (found.after, {}),
        (found.reconstructed, {"reconstruct": [x]}),
    ):
        other = gm.Structure(copy.deepcopy(net), x[:8], generator=generator())
        other.apply(PLAN, **options)
        after = other.model(x).detach()
        off = (after - before).abs()
        assert outcome.largest_change == pytest.approx(float(off.max()), rel=1e-4)
        assert outcome.relative_change == pytest.approx(float(off.sum() / before.abs().sum()), 1e-4)
        assert outcome.metrics["size"] == outcome.parameters == other.parameters
    assert (found.before.parameters, found.before.largest_change) == (structure.parameters, 0.0)
    assert found.reconstructed.relative_change < found.after.relative_change
    with pytest.raises(FrozenInstanceError):
        found.plan = None


def test_example_inputs_do_and_reconstruction_is_optional():
    _, _, structure, _ = prepared()
    found = structure.dry_run(PLAN)
    assert found.reconstructed is None
    assert found.after.relative_change > 0
    assert found.after.metrics == {}


def state_of(net, structure, optimizer):
    return {
        "parameters": [(name, id(p), p.detach().clone()) for name, p in net.named_parameters()],
        "gradients": [p.grad.clone() for p in net.parameters()],
        "buffers": [b.clone() for b in net.buffers()],
        "modes": [module.training for module in net.modules()],
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "groups": dict(structure.groups),
        "random": torch.get_rng_state(),
        "generator": structure.generator.get_state(),
    }


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_everything_is_exactly_as_before():
    net, x, structure, optimizer = prepared()
    statistics = gm.ActivationStatistics(structure)
    statistics.update([x])
    held = statistics.state_dict()
    heard = []
    structure.subscribe(heard.append)
    before = state_of(net, structure, optimizer)
    noisy = {"noise": lambda model: float(torch.rand(()) + model.train()(x).sum().detach())}
    for source in (None, [x], statistics):
        structure.dry_run(PLAN, batches=[x], metrics=noisy, reconstruct=source)
        assert same(state_of(net, structure, optimizer), before)
    assert same(statistics.state_dict(), held)
    assert heard == []


def failing(model):
    raise ZeroDivisionError


def test_errors_come_through_and_leave_nothing():
    net, _, structure, optimizer = prepared()
    before = state_of(net, structure, optimizer)
    with pytest.raises(ZeroDivisionError):
        structure.dry_run(PLAN, metrics={"bad": failing})
    with pytest.raises(PlanError, match="no group 'no'"):
        structure.dry_run(gm.Plan(prune={"no": [1]}))
    with pytest.raises(DataError, match="batches= has no batch"):
        structure.dry_run(PLAN, batches=[])
    assert same(state_of(net, structure, optimizer), before)


def test_printed():
    _, x, structure, _ = prepared()
    found = structure.dry_run(PLAN, batches=[x], metrics={"size of it": size}, reconstruct=[x])
    lines = [line.split() for line in str(found).splitlines() if line.strip()]
    assert " ".join(lines[0]) == "network parameters largest change relative change size of it"
    rows = {" ".join(line[:-4]): line[-4:] for line in lines[2:]}
    assert list(rows) == ["as it is", "with the plan", "reconstructed"]
    outcomes = (found.before, found.after, found.reconstructed)
    for row, outcome in zip(rows.values(), outcomes, strict=True):
        assert row[0] == row[3] == str(outcome.parameters)
        assert float(row[1]) == pytest.approx(outcome.largest_change, rel=1e-3)
        assert float(row[2]) == pytest.approx(outcome.relative_change, rel=1e-3)
