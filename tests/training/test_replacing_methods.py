"""Methods against the loss of plasticity: against their equations, written out slowly."""

import copy
from typing import Any

import pytest
import torch
from small_streams import stream_of, structure_of
from torch import nn

import growmas as gm
from growmas.training.methods import UPGD, ContinualBackprop, ReDo, ShrinkPerturb


def steps(method: gm.Method, optimizer: Any, task: Any, count: int) -> None:
    model = method.structure.model
    for _ in range(count):
        optimizer.zero_grad()
        method.loss(task.train.inputs, task.train.labels, task).backward()
        method.penalty_grad_()
        optimizer.step()
        method.step_done(task)
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize("kind", [ContinualBackprop, ReDo])
def test_units_are_replaced_and_start_with_columns_of_zero(kind: Any):
    stream = stream_of("domain")
    structure = structure_of(stream)
    optimizer = torch.optim.Adam(structure.model.parameters(), lr=1e-3)
    settings = (
        {"rate": 0.02, "maturity": 5}
        if kind is ContinualBackprop
        else {"every": 5, "threshold": 0.9}
    )
    method = kind(structure, optimizer=optimizer, **settings)
    before = {name: group.unit_ids for name, group in structure.groups.items()}
    steps(method, optimizer, stream.tasks[0], 40)
    assert method.plasticity.replaced > 0
    assert any(group.unit_ids != before[name] for name, group in structure.groups.items())
    assert method.plasticity.settings.init == "zero_out"


def test_shrink_and_perturb_is_what_its_equation_says():
    stream = stream_of("domain")
    structure = structure_of(stream)
    method = ShrinkPerturb(structure, shrink=0.1, noise=0.5, seed=3)
    before = {n: p.detach().clone() for n, p in structure.model.named_parameters()}
    method.step_done(stream.tasks[0])
    generator = torch.Generator().manual_seed(3)
    for layer_name, layer in structure.model.named_modules():
        if not isinstance(layer, nn.Linear):
            continue
        for name, p in layer.named_parameters():
            drawn = torch.randn(p.shape, generator=generator)
            size = 0.5 * (3 * layer.in_features) ** -0.5
            expected = 0.9 * before[f"{layer_name}.{name}"] + size * drawn
            torch.testing.assert_close(p.detach(), expected)


def test_upgd_moves_useful_weights_less():
    """Against Eqs. 3 to 5 of the paper, entry by entry, over three steps of SGD."""
    stream = stream_of("domain")
    structure = structure_of(stream)
    model = structure.model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    method = UPGD(structure, noise=0.01, decay=0.9, seed=5)
    generator = torch.Generator().manual_seed(5)
    slow = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    for step in (1, 2, 3):
        optimizer.zero_grad()
        method.loss(
            stream.tasks[0].train.inputs, stream.tasks[0].train.labels, stream.tasks[0]
        ).backward()
        named = [(n, p) for n, p in model.named_parameters() if p.grad is not None]
        for name, p in named:
            slow[name] = 0.9 * slow[name] - 0.1 * p.grad * p.detach()
        largest = max(float((slow[n] / (1 - 0.9**step)).max()) for n, _ in named)
        expected = {}
        for name, p in named:
            useful = torch.sigmoid(slow[name] / (1 - 0.9**step) / largest)
            noise = 0.01 * torch.randn(p.shape, generator=generator)
            expected[name] = p.detach() - 0.1 * (p.grad + noise) * (1 - useful)
        method.penalty_grad_()
        optimizer.step()
        for name, p in named:
            torch.testing.assert_close(p.detach(), expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [ShrinkPerturb, UPGD])
def test_a_state_continues_to_the_bit(kind: Any):
    found = []
    for resumed in (False, True):
        stream = stream_of("domain")
        structure = structure_of(stream)
        optimizer = torch.optim.SGD(structure.model.parameters(), lr=0.1)
        method = kind(structure, seed=1)
        steps(method, optimizer, stream.tasks[0], 3)
        if resumed:
            state = copy.deepcopy(method.state_dict())
            method = kind(structure, seed=9)
            method.load_state_dict(state)
        steps(method, optimizer, stream.tasks[0], 3)
        found.append(structure.model.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
