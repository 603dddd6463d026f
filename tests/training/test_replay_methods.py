"""Experience replay, dark experience replay and their memory."""

import pytest
import torch
import torch.nn.functional as F
from small_streams import learner_of, stream_of, structure_of, teach

from growmas.training.methods import ER, DERpp, Reservoir


def test_every_sample_is_kept_with_the_same_probability():
    stream = stream_of("class", tasks=1, samples=2)
    task, counts, rounds = stream.tasks[0], torch.zeros(40), 600
    for seed in range(rounds):
        memory = Reservoir(8, seed=seed)
        for start in range(0, 40, 5):  # in batches of 5
            numbers = torch.arange(start, start + 5)
            memory.add(numbers[:, None].float(), numbers, task)
        kept = memory.state_dict()["labels"]
        assert len(set(kept.tolist())) == 8
        counts[kept] += 1
    expected = rounds * 8 / 40
    chi_squared = float(((counts - expected).square() / expected).sum())
    assert chi_squared < 73  # 39 degrees of freedom: p = 0.001


def test_a_memory_that_is_not_full_keeps_all():
    task = stream_of("class", tasks=1).tasks[0]
    memory = Reservoir(50)
    memory.add(task.train.inputs, task.train.labels, task)
    assert len(memory) == 40
    assert torch.equal(memory.state_dict()["inputs"], task.train.inputs)
    assert memory.draw(0) == []
    assert Reservoir(5).draw(3) == []


def test_logits_of_heads_of_other_sizes_are_kept_side_by_side():
    first = stream_of("task", tasks=2).tasks
    memory, wide = Reservoir(10), torch.arange(8.0).view(2, 4)
    memory.add(torch.rand(2, 6), torch.zeros(2).long(), first[0], logits=torch.ones(2, 2))
    memory.add(torch.rand(2, 6), torch.ones(2).long(), first[1], logits=wide)
    for part in memory.draw(64):
        assert part.logits.shape[1] == 4
        if part.head == 0:
            assert torch.equal(
                part.logits, torch.tensor([1.0, 1, 0, 0]).expand(len(part.labels), 4)
            )
        else:
            assert all(any(torch.equal(row, known) for known in wide) for row in part.logits)


@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
def test_er_is_the_mean_over_batch_and_memory(scenario):
    stream = stream_of(scenario)
    method = ER(structure_of(stream), memory=30, replayed=20)
    teach(learner_of(method, epochs=1), stream.tasks[:2])
    task = stream.tasks[2]
    inputs, labels = task.train.inputs[:8], task.train.labels[:8]
    state = method.memory.state_dict()
    drawn = method.memory.draw(20)
    method.memory.load_state_dict(state)  # so that the same are drawn again
    model, losses = method.structure.model, []
    for x, y in zip(inputs, labels, strict=True):
        losses.append(F.cross_entropy(model(x[None], task.head), y[None]))
    for part in drawn:
        for x, y in zip(part.inputs, part.labels, strict=True):
            losses.append(F.cross_entropy(model(x[None], part.head), y[None]))
    assert len(losses) == 28
    method.begin_task(task)
    torch.testing.assert_close(method.loss(inputs, labels, task), torch.stack(losses).mean())


def test_er_keeps_no_sample_twice():
    stream = stream_of("class", tasks=1)
    method = ER(structure_of(stream), memory=40)
    teach(learner_of(method, epochs=3), stream.tasks)
    kept = method.memory.state_dict()["inputs"]
    assert len({tuple(row.tolist()) for row in kept}) == 40
    assert method.memory.seen == 40


@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
def test_derpp_is_what_the_paper_says(scenario):
    """CE + α MSE of one draw + β CE of another, sample by sample."""
    stream = stream_of(scenario)
    method = DERpp(structure_of(stream), memory=30, alpha=0.3, beta=0.7, replayed=20)
    teach(learner_of(method, epochs=2), stream.tasks[:2])
    task = stream.tasks[2]
    inputs, labels = task.train.inputs[:8], task.train.labels[:8]
    state = method.memory.state_dict()
    dark, labelled = method.memory.draw(20), method.memory.draw(20)
    method.memory.load_state_dict(state)
    model = method.structure.model
    size = stream.head_sizes[0]
    wanted = F.cross_entropy(model(inputs, task.head), labels)
    distances, again = [], []
    for part in dark:
        for x, z in zip(part.inputs, part.logits, strict=True):
            distances.append((model(x[None], part.head)[0] - z[:size]).square().sum() / size)
    for part in labelled:
        for x, y in zip(part.inputs, part.labels, strict=True):
            again.append(F.cross_entropy(model(x[None], part.head), y[None]))
    wanted = wanted + 0.3 * torch.stack(distances).mean() + 0.7 * torch.stack(again).mean()
    torch.testing.assert_close(method.loss(inputs, labels, task), wanted)


def test_derpp_keeps_the_logits_of_the_step_in_which_a_sample_was_offered():
    stream = stream_of("class", tasks=1)
    method = DERpp(structure_of(stream), memory=40)
    task = stream.tasks[0]
    inputs, labels = task.train.inputs[:8], task.train.labels[:8]
    logits = method.structure.model(inputs, 0).detach()
    method.loss(inputs, labels, task)
    torch.testing.assert_close(method.memory.state_dict()["logits"], logits)
    assert not method.memory.state_dict()["logits"].requires_grad


def test_a_memory_continues_as_it_would_have():
    stream = stream_of("task")
    one, other = Reservoir(6, seed=3), Reservoir(6)
    one.add(stream.tasks[0].train.inputs, stream.tasks[0].train.labels, stream.tasks[0])
    other.load_state_dict(one.state_dict())
    for memory in (one, other):
        memory.add(stream.tasks[1].train.inputs, stream.tasks[1].train.labels, stream.tasks[1])
    ours, theirs = one.state_dict(), other.state_dict()
    assert all(torch.equal(ours[n], theirs[n]) for n in ("inputs", "labels", "heads", "generator"))
    drawn = [memory.draw(9) for memory in (one, other)]
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(*drawn, strict=True))


def test_memories_of_a_stream_are_of_all_tasks():
    stream = stream_of("class", tasks=4, samples=200)
    method = ER(structure_of(stream), memory=80)
    teach(learner_of(method, epochs=1), stream.tasks)
    counts = torch.bincount(method.memory.state_dict()["labels"], minlength=8)
    assert counts.min() > 2
