"""Learning without forgetting and iCaRL: losses, herding and answers, by slow twins."""

import copy

import pytest
import torch
import torch.nn.functional as F
from small_streams import answers, learner_of, stream_of, structure_of, teach

from growmas.training.methods import ICaRL, LwF
from growmas.training.methods.exemplars import herding


@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
def test_lwf_answers_old_outputs_as_the_network_before_the_task(scenario):
    stream = stream_of(scenario)
    method = LwF(structure_of(stream), stream=stream, strength=0.6, temperature=3.0)
    teach(learner_of(method), stream.tasks[:2])
    task, model = stream.tasks[2], method.structure.model
    teacher = copy.deepcopy(model)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2)
    inputs, labels = task.train.inputs[:8], task.train.labels[:8]
    old = {
        "task": [(0, [0, 1]), (1, [0, 1])],
        "domain": [(0, [0, 1])],
        "class": [(0, [0, 1, 2, 3])],
    }
    wanted = F.cross_entropy(model(inputs, task.head), labels)
    for head, outputs in old[scenario]:
        total = 0.0
        for x in inputs:
            before = (teacher(x[None], head)[0][outputs] / 3).exp()
            now = (model(x[None], head)[0][outputs] / 3).exp()
            total = total - (before / before.sum() * (now / now.sum()).log()).sum()
        wanted = wanted + 0.6 * total / len(inputs)
    torch.testing.assert_close(method.loss(inputs, labels, task), wanted)


def test_lwf_is_plain_in_the_first_task_and_its_teacher_has_no_gradient():
    stream = stream_of("task", tasks=2)
    method = LwF(structure_of(stream), stream=stream)
    task = stream.tasks[0]
    inputs, labels = task.train.inputs, task.train.labels
    plain = F.cross_entropy(method.structure.model(inputs, 0), labels)
    assert torch.equal(method.loss(inputs, labels, task), plain)
    before = {n: p.clone() for n, p in method.structure.model.named_parameters()}
    method.end_task(task)
    teach(learner_of(method), stream.tasks[1:])
    held = method.teacher.state_dict()["weights"]
    assert not all(torch.equal(held[name], before[name]) for name in before)  # renewed at the end
    assert all(not p.requires_grad for p in method.teacher._copy.parameters())


def test_herding_chooses_the_sample_that_brings_the_mean_nearest():
    """Against a search over all samples for each place."""
    for seed in range(5):
        features = torch.randn(12, 3, generator=torch.Generator().manual_seed(seed)).double()
        mean, chosen = features.mean(0), []
        for k in range(1, 9):
            best = min(
                (row for row in range(12) if row not in chosen),
                key=lambda row, k=k: float((mean - features[[*chosen, row]].sum(0) / k).norm()),
            )
            chosen.append(best)
        assert herding(features, 8).tolist() == chosen
        assert sorted(herding(features, 99).tolist()) == list(range(12))


def taught_icarl(memory=12, tasks=3, taught=None):
    stream = stream_of("class", tasks=tasks)
    method = ICaRL(structure_of(stream), stream=stream, memory=memory)
    learner = learner_of(method, known=False)
    teach(learner, stream.tasks[:taught])
    return method, stream, learner


def test_icarl_keeps_equally_many_of_each_class_and_the_first_chosen_stay():
    method, stream, learner = taught_icarl(taught=1)
    before = {label: kept.clone() for label, kept in method.exemplars.inputs.items()}
    assert {label: len(kept) for label, kept in before.items()} == {0: 6, 1: 6}
    teach(learner, stream.tasks[1:])
    held = method.exemplars.inputs
    assert {label: len(kept) for label, kept in held.items()} == dict.fromkeys(range(6), 2)
    assert all(torch.equal(held[label], kept[:2]) for label, kept in before.items())
    for task in stream.tasks:
        for label in task.classes:
            mine = task.train.inputs[task.train.labels == label]
            features = F.normalize(method.structure.model.fc1(mine).relu(), dim=1)
            if task is stream.tasks[-1]:  # chosen with the features of the network as it is
                chosen = herding(features.detach(), 2)
                assert torch.equal(held[label], mine[chosen])


def test_icarl_answers_the_class_of_the_nearest_mean():
    method, stream, _ = taught_icarl()
    model = method.structure.model

    def features(inputs):
        hidden = model.fc1(inputs).relu()
        return hidden / hidden.norm(dim=1, keepdim=True).clamp(min=1e-12)

    right = []
    with torch.no_grad():
        means = {}
        for label, kept in method.exemplars.inputs.items():
            mean = features(kept).mean(0)
            means[label] = mean / mean.norm()
        for task, found in zip(stream.tasks, answers(method, stream), strict=True):
            for x, label in zip(features(task.test.inputs), found.tolist(), strict=True):
                far = {each: float((x - mean).norm()) for each, mean in means.items()}
                assert far[label] == pytest.approx(min(far.values()), abs=1e-6)
            right.append(found == task.test.labels)
    assert float(torch.cat(right).double().mean()) > 0.6


def test_icarl_learns_labels_of_new_classes_and_answers_of_old_ones():
    method, stream, _ = taught_icarl(taught=2)
    model, task = method.structure.model, stream.tasks[2]
    teacher = copy.deepcopy(model)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1)
    inputs = torch.cat([task.train.inputs[:4], method.exemplars.inputs[1][:2]])
    labels = torch.tensor([*task.train.labels[:4].tolist(), 1, 1])
    logits, before = model(inputs, 0), teacher(inputs, 0).sigmoid()
    losses = []
    for row, label in enumerate(labels.tolist()):
        for output in range(6):
            g = logits[row, output].sigmoid()
            q = before[row, output].detach() if output < 4 else float(output == label)
            losses.append(-(q * g.log() + (1 - q) * (1 - g).log()))
    torch.testing.assert_close(method.loss(inputs, labels, task), torch.stack(losses).mean())


def test_icarl_learns_a_task_together_with_its_exemplars():
    method, stream, learner = taught_icarl(taught=2)
    lesson = method.lesson(stream.tasks[2])
    assert len(lesson) == 40 + 12
    assert torch.bincount(lesson.labels, minlength=6).tolist() == [3, 3, 3, 3, 20, 20]
    losses = [done.loss for done in learner.learn(stream.tasks[2])]
    assert losses[-1] < losses[0]


def test_in_the_middle_of_a_task_the_outputs_answer():
    method, stream, _ = taught_icarl(taught=1)
    method.begin_task(stream.tasks[1])
    with torch.no_grad():
        method.structure.model.heads[0].bias[3] = 100.0
        method.structure.model.heads[0].bias[5] = 1000.0  # of a class that was never seen
    assert set(method.predict(stream.tasks[0].test.inputs, None).tolist()) == {3}
