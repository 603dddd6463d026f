"""Hard attention to the task: masks, what they hold, and how they are learnt."""

import pytest
import torch
import torch.nn.functional as F
from small_streams import ROUNDING, learner_of, stream_of, structure_of, teach
from test_packnet import SHAPE, networks

from growmas.errors import ConfigError
from growmas.models import MLP, ViT
from growmas.training.methods import HAT


def hat_of(stream, model=None, hidden=(8, 6), **settings):
    structure = structure_of(stream, hidden=hidden, model=model)
    return HAT(structure, stream=stream, batch_size=8, **settings)


def harden(method):
    """Make the numbers of gates so large that gates are 0 or 1 in floating point."""
    with torch.no_grad():
        for e in method.gates.numbers.values():
            e.copy_(torch.where(e > 0, 6.0, -6.0))


def logits_of(method, task):
    gates = method.gates.of(task.index, 400.0)
    method.structure.model.eval()
    with torch.no_grad(), method.gates.open(gates):
        return method.structure.model(task.test.inputs, task.head)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("which", range(5))
def test_with_hard_gates_nothing_is_forgotten(which, optimizer):
    """The limit s → ∞: the answers of earlier tasks stay as they were, to the bit."""
    stream = stream_of("task", shape=SHAPE, samples=24)
    torch.manual_seed(0)
    _, model = [*networks(stream)][which]
    method = hat_of(stream, model)
    harden(method)
    learner, before = learner_of(method, optimizer=optimizer), []
    for task in stream.tasks:
        teach(learner, [task])
        harden(method)
        before.append(logits_of(method, task))
        for earlier, held in zip(stream.tasks, before, strict=False):
            found = logits_of(method, earlier)
            torch.testing.assert_close(found, held, rtol=0, atol=ROUNDING)
    assert len(method.gates.numbers) > 0


def test_a_perceptron_is_masked_as_in_the_paper():
    """Units times gates after the activation; 1 − min(a_i, a_j) for the weight from j to i."""
    stream = stream_of("task")
    method = hat_of(stream)
    model, task = method.structure.model, stream.tasks[1]
    gates = method.gates.of(1, 3.0)
    assert {name: tuple(gate.shape) for name, gate in gates.items()} == {"fc1": (8,), "fc2": (6,)}
    for name, e in method.gates.numbers.items():
        torch.testing.assert_close(gates[name], 1 / (1 + (-3.0 * e[1]).exp()))
    with method.gates.open(gates):
        found = model(task.train.inputs, 1)
    hidden = model.fc1(task.train.inputs).relu() * gates["fc1"]
    hidden = model.fc2(hidden).relu() * gates["fc2"]
    torch.testing.assert_close(found, model.heads[1](hidden))

    taken = method.gates.until(2, 400.0)
    for name, e in method.gates.numbers.items():
        torch.testing.assert_close(taken[name], (400 * e.detach()[:2]).sigmoid().max(0).values)
    factors, one, two = method.gates.factors(taken), taken["fc1"], taken["fc2"]
    torch.testing.assert_close(factors["fc1.weight"], (1 - one)[:, None].expand(8, 6))
    torch.testing.assert_close(factors["fc1.bias"], 1 - one)
    for i in range(6):
        for j in range(8):
            wanted = 1 - min(float(two[i]), float(one[j]))
            assert float(factors["fc2.weight"][i, j]) == pytest.approx(wanted, abs=1e-6)


def test_updates_are_multiplied_by_the_factors():
    stream = stream_of("task", tasks=2)
    method = hat_of(stream)
    teach(learner_of(method, rate=0.1), stream.tasks[:1])
    task, model = stream.tasks[1], method.structure.model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    method.begin_task(task)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    method.loss(task.train.inputs[:8], task.train.labels[:8], task).backward()
    factors = method.gates.factors(method.gates.until(1, 400.0))
    method.penalty_grad_()
    optimizer.step()
    method.step_done(task)
    for name in ("fc1.weight", "fc1.bias", "fc2.weight"):
        p = model.get_parameter(name)
        torch.testing.assert_close(p.detach(), before[name] - 0.5 * factors[name] * p.grad)
    assert torch.equal(model.heads[0].weight, before["heads.0.weight"])
    assert not torch.equal(model.heads[1].weight, before["heads.1.weight"])


def test_gates_are_learnt_with_the_gradient_that_the_steepness_hides():
    """One step by hand: s after two of five batches, the gradient compensated, plain SGD."""
    stream = stream_of("task", tasks=2)
    method = hat_of(stream, gate_rate=0.1, sparsity=0.5)
    task, model = stream.tasks[0], method.structure.model
    method.begin_task(task)
    method._step = 2
    s = 1 / 400 + (400 - 1 / 400) * 2 / 4
    e = {n: t.detach()[0].clone().requires_grad_() for n, t in method.gates.numbers.items()}
    inputs, labels = task.train.inputs[:8], task.train.labels[:8]
    gates = {n: (s * t).sigmoid() for n, t in e.items()}
    hidden = model.fc1(inputs).relu() * gates["fc1"]
    hidden = model.fc2(hidden).relu() * gates["fc2"]
    loss = F.cross_entropy(model.heads[0](hidden), labels)
    loss = loss + 0.5 * (gates["fc1"].sum() + gates["fc2"].sum()) / 14
    found = method.loss(inputs, labels, task)
    torch.testing.assert_close(found, loss)
    found.backward()
    grads = dict(zip(e, torch.autograd.grad(loss, [*e.values()]), strict=True))
    method.step_done(task)
    for name, old in e.items():
        old = old.detach()
        steep = torch.cosh((s * old).clamp(-50, 50)) + 1
        factor = 400 * steep / (s * (torch.cosh(old) + 1))
        wanted = (old - 0.1 * factor * grads[name]).clamp(-6, 6)
        torch.testing.assert_close(method.gates.numbers[name].detach()[0], wanted)


def test_channels_that_pass_layer_norm_have_no_gate():
    stream = stream_of("task", shape=SHAPE, samples=24)
    torch.manual_seed(0)
    sizes = stream.head_sizes
    model = ViT(SHAPE, patch=4, width=8, depth=1, heads=2, hidden=12, head_sizes=sizes)
    method = hat_of(stream, model)
    assert "patches" not in method.gates.numbers
    assert "block1.fc1" in method.gates.numbers
    factors = method.gates.factors(method.gates.until(1, 400.0))
    assert (factors["norm.weight"] == 0).all()
    assert (factors["place.weight"] == 0).all()


def test_networks_without_hidden_units_are_refused():
    stream = stream_of("task")
    model = MLP(stream.input_shape, [], stream.head_sizes)
    with pytest.raises(ConfigError, match="has none that can be left out: give it a hidden layer"):
        hat_of(stream, model)


def test_gates_count_among_the_numbers_kept():
    stream = stream_of("task")
    method = hat_of(stream)
    network = sum(p.numel() for p in method.structure.model.parameters())
    assert method.numbers_kept == network + 3 * (8 + 6)
