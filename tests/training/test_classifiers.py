"""SLDA and RanPAC: equal to closed forms on all samples at once."""

import pytest
import torch
from small_streams import learner_of, stream_of, structure_of, teach

from growmas.errors import ContextError
from growmas.training.methods import SLDA, RanPAC
from growmas.training.methods.random_features import RandomFeatures


def together(stream):
    """All training samples, labelled by class and task."""
    inputs = torch.cat([task.train.inputs for task in stream.tasks]).double()
    labels = torch.cat([2 * task.index + task.train.labels % 2 for task in stream.tasks])
    return inputs, labels


def taught(kind, scenario, **settings):
    stream = stream_of(scenario)
    method = kind(structure_of(stream), stream=stream, **settings)
    before = [p.clone() for p in method.structure.model.parameters()]
    teach(learner_of(method, known=scenario == "task"), stream.tasks)
    assert all(map(torch.equal, before, method.structure.model.parameters()))
    assert method.parameters == 0
    return method, stream


def wanted_labels(log_shares, scenario):
    """Labels by the probabilities of the six classes, [N, 6], of a task if it is known."""
    if scenario == "class":
        return log_shares.argmax(1)
    return log_shares.view(-1, 3, 2).logsumexp(1).argmax(1)


@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
def test_slda_is_linear_discriminant_analysis(scenario):
    """The closed form: pooled covariance within classes, shrunk, and priors."""
    method, stream = taught(SLDA, scenario, strength=0.2)
    inputs, labels = together(stream)
    means = torch.stack([inputs[labels == c].mean(0) for c in range(6)])
    apart = inputs - means[labels]
    within = apart.mT @ apart / len(inputs)
    shrunk = 0.8 * within + 0.2 * within.trace() / 6 * torch.eye(6, dtype=torch.double)
    precise = torch.linalg.inv(shrunk)
    for task in stream.tasks:
        x = task.test.inputs.double()
        scores = x @ precise @ means.mT - (means @ precise * means).sum(1) / 2
        shares = (scores / 5).log_softmax(1)  # five is the temperature
        if scenario == "task":
            wanted = shares[:, 2 * task.index : 2 * task.index + 2].argmax(1)
        else:
            wanted = wanted_labels(shares, scenario)
        known = task if scenario == "task" else None
        assert torch.equal(method.predict(task.test.inputs, known), wanted)


@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
def test_ranpac_is_the_solution_of_the_ridge(scenario):
    method, stream = taught(RanPAC, scenario, projections=30, strength=0.1, seed=5)
    inputs, labels = together(stream)
    matrix = torch.randn(6, 30, generator=torch.Generator().manual_seed(5)).double()
    hidden = (inputs @ matrix).relu()
    mean = hidden.mean(0)
    centred = hidden - mean
    truth = torch.nn.functional.one_hot(labels, 6).double()
    gram = centred.mT @ centred
    gram = gram + 0.1 * gram.trace() / 30 * torch.eye(30, dtype=torch.double)
    weights = torch.linalg.solve(gram, centred.mT @ (truth - truth.mean(0)))
    for task in stream.tasks:
        x = (task.test.inputs.double() @ matrix).relu() - mean
        shares = ((x @ weights + truth.mean(0)) / 0.1).log_softmax(1)  # 0.1 is the temperature
        if scenario == "task":
            wanted = shares[:, 2 * task.index : 2 * task.index + 2].argmax(1)
        else:
            wanted = wanted_labels(shares, scenario)
        known = task if scenario == "task" else None
        assert torch.equal(method.predict(task.test.inputs, known), wanted)


@pytest.mark.parametrize("kind", [SLDA, RanPAC])
def test_a_single_class_is_the_answer_until_there_is_a_second(kind):
    stream = stream_of("class", classes=1, samples=20)
    method = kind(structure_of(stream), stream=stream)
    learner = learner_of(method, known=False)
    teach(learner, stream.tasks[:1])
    assert set(method.predict(stream.tasks[1].test.inputs, None).tolist()) == {0}
    teach(learner, stream.tasks[1:2])
    assert learner.accuracy(stream.tasks[1]) > 0.9


def test_random_features_follow_from_their_seed():
    inputs = torch.rand(5, 4)
    one, same, other = RandomFeatures(7), RandomFeatures(7), RandomFeatures(7, seed=1)
    assert torch.equal(one(inputs), same(inputs))
    assert not torch.equal(one(inputs), other(inputs))
    assert (one(inputs) >= 0).all()
    same.load_state_dict(one.state_dict())
    with pytest.raises(ContextError, match="give both the same settings"):
        other.load_state_dict(one.state_dict())
    with pytest.raises(ContextError, match="a sample has 3 features, but earlier samples had 4"):
        one(inputs[:, :3])


def test_the_numbers_kept_are_those_of_the_sums():
    method, _ = taught(RanPAC, "class", projections=30)
    assert method.numbers_kept == method.context.size == 30 * 31 // 2 + 30 + 6 * 31
