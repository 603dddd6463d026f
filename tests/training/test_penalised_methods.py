"""EWC, synaptic intelligence and L2 Init: what their penalties are, by slow twins and laws."""

import pytest
import torch
import torch.nn.functional as F
from small_streams import learner_of, stream_of, structure_of, teach
from torch import nn

from growmas.models import MLP
from growmas.structure import Structure
from growmas.training.methods import EWC, L2Init, OnlineEWC, SynapticIntelligence
from growmas.training.methods.path_integral import PathIntegral


def slow_fisher(model, task, target):
    """The mean over samples of squared gradients, sample by sample and class by class."""
    found = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    parameters = dict(model.named_parameters())
    for sample, label in zip(task.train.inputs, task.train.labels, strict=True):
        with torch.no_grad():
            shares = model(sample[None], task.head)[0].softmax(0)
        for answer in range(len(shares)) if target == "model" else [int(label)]:
            loss = F.cross_entropy(model(sample[None], task.head), torch.tensor([answer]))
            grads = torch.autograd.grad(loss, [*parameters.values()], allow_unused=True)
            weight = shares[answer] if target == "model" else 1.0
            for name, grad in zip(parameters, grads, strict=True):
                if grad is not None:
                    found[name] += weight * grad.square() / len(task.train)
    return found


def penalty_gradients(method):
    """The gradients that the method's penalty adds, by name, and its value."""
    method.structure.model.zero_grad()
    value = float(method.penalty_grad_())
    grads = {name: p.grad for name, p in method.structure.model.named_parameters()}
    return {n: torch.zeros(1) if g is None else g.clone() for n, g in grads.items()}, value


def learnt_with_fishers(method, stream, target):
    """Learn the tasks; return F and θ* of each, measured slowly when it ended."""
    learner, terms = learner_of(method), []
    model = method.structure.model
    for task in stream.tasks:
        teach(learner, [task])
        anchors = {name: p.detach().clone() for name, p in model.named_parameters()}
        terms.append((slow_fisher(model, task, target), anchors))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    return terms


@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
@pytest.mark.parametrize("target", ["model", "label"])
def test_ewc_is_the_sum_of_a_term_for_each_task(scenario, target):
    stream = stream_of(scenario)
    method = EWC(structure_of(stream), strength=30.0, fisher=target)
    terms = learnt_with_fishers(method, stream, target)
    found, value = penalty_gradients(method)
    model, wanted = method.structure.model, 0.0
    for name, p in model.named_parameters():
        slow = sum(30.0 * fisher[name] * (p - anchor[name]) for fisher, anchor in terms)
        torch.testing.assert_close(found[name], slow.detach(), rtol=1e-3, atol=1e-6)
        wanted += float(
            sum(15.0 * (f[name] * (p.detach() - a[name]).square()).sum() for f, a in terms)
        )
    assert value == pytest.approx(wanted, rel=1e-3)


def test_online_ewc_fades_earlier_tasks_and_moves_the_anchors():
    stream = stream_of("task")
    method = OnlineEWC(structure_of(stream), strength=30.0, decay=0.5, fisher="label")
    terms = learnt_with_fishers(method, stream, "label")
    found, _ = penalty_gradients(method)
    fishers = [fisher for fisher, _ in terms]
    for name, p in method.structure.model.named_parameters():
        running = 0.25 * fishers[0][name] + 0.5 * fishers[1][name] + fishers[2][name]
        slow = 30.0 * 0.5 * running * (p - terms[-1][1][name])
        torch.testing.assert_close(found[name], slow.detach(), rtol=1e-3, atol=1e-6)


def test_a_path_integral_is_the_decrease_of_the_loss():
    """On a quadratic and for small steps: the sum over parameters, to within the step size."""
    torch.manual_seed(0)
    net = nn.Linear(5, 1).double()
    curvature = torch.rand(6, dtype=torch.double) + 0.5

    def loss():
        flat = torch.cat([p.flatten() for p in net.parameters()])
        return (curvature * flat.square()).sum() / 2

    path, optimizer = PathIntegral(net), torch.optim.SGD(net.parameters(), lr=1e-4)
    path.begin()
    first = float(loss().detach())
    for _ in range(3000):
        optimizer.zero_grad()
        loss().backward()
        path.before_step()
        optimizer.step()
        path.after_step()
    decrease = first - float(loss().detach())
    total = float(sum(t.sum() for t in path.totals.values()))
    assert total == pytest.approx(decrease, rel=1e-3)
    for name, p in net.named_parameters():  # and parameter by parameter, as it is separable
        part = curvature[:5].view_as(p) if name == "weight" else curvature[5:]
        own = part * (path.start[name].square() - p.detach().square()) / 2
        torch.testing.assert_close(path.totals[name], own, rtol=1e-3, atol=1e-9)


def test_si_weighs_what_a_parameter_did_by_how_far_it_went():
    """Ω by a loop over the steps, with the gradient of the loss without the penalty."""
    stream = stream_of("task", tasks=2)
    method = SynapticIntelligence(structure_of(stream), strength=0.7, damping=0.05)
    model, wanted = method.structure.model, {}
    learner = learner_of(method, optimizer="sgd")
    plain = method.loss

    def spied(inputs, labels, task):
        """Note the gradient of the plain loss, and the parameters before the step."""
        value = plain(inputs, labels, task)
        grads = torch.autograd.grad(value, [*model.parameters()], allow_unused=True)
        names = [name for name, _ in model.named_parameters()]
        spied.grads = {n: g for n, g in zip(names, grads, strict=True) if g is not None}
        spied.before = {n: p.detach().clone() for n, p in model.named_parameters()}
        return plain(inputs, labels, task)

    def stepped():
        for n, g in spied.grads.items():
            moved = model.get_parameter(n).detach() - spied.before[n]
            paths[n] = paths.get(n, 0) - g * moved

    method.loss, learner.after_step = spied, stepped
    for task in stream.tasks:
        start, paths = {n: p.detach().clone() for n, p in model.named_parameters()}, {}
        teach(learner, [task])
        for n, path in paths.items():
            share = path / ((model.get_parameter(n).detach() - start[n]).square() + 0.05)
            wanted[n] = wanted.get(n, 0) + share.clamp(min=0)
    for name, omega in wanted.items():
        torch.testing.assert_close(method.mas.omega[name], omega, rtol=1e-4, atol=1e-7)
        assert torch.equal(method.mas.anchor[name], model.get_parameter(name))
    assert method.mas.strength == 0.7


def test_l2_init_pulls_toward_the_first_parameters():
    stream = stream_of("domain")
    method = L2Init(structure_of(stream), strength=0.2)
    first = {n: p.detach().clone() for n, p in method.structure.model.named_parameters()}
    teach(learner_of(method), stream.tasks)
    found, value = penalty_gradients(method)
    apart = {n: p.detach() - first[n] for n, p in method.structure.model.named_parameters()}
    assert value == pytest.approx(0.2 * float(sum(a.square().sum() for a in apart.values())))
    for name, each in apart.items():
        torch.testing.assert_close(found[name], 0.4 * each)


@pytest.mark.parametrize("kind", [EWC, OnlineEWC, SynapticIntelligence, L2Init])
def test_frozen_parameters_are_left_alone(kind):
    stream = stream_of("domain", tasks=2)
    model = MLP(stream.input_shape, [8, 8], stream.head_sizes)
    model.fc1.requires_grad_(False)
    before = model.fc1.weight.clone()
    method = kind(Structure(model, stream.tasks[0].train.inputs[:4]))
    teach(learner_of(method), stream.tasks)
    assert torch.equal(model.fc1.weight, before)
    assert model.fc1.weight.grad is None
