"""PackNet: earlier tasks are answered to the bit as when they were learnt."""

from dataclasses import replace

import pytest
import torch
from small_streams import ROUNDING, Classes, learner_of, stream_of, structure_of, teach
from torch import nn

from growmas.errors import ConfigError, RunError
from growmas.models import MLP, ConvNet, ResNet, ViT
from growmas.structure import Structure
from growmas.training.methods import PackNet
from growmas.training.methods.packnet import packed_weights

SHAPE = (1, 8, 8)


def bits(method, task):
    """The logits of a task, as the method computes them for its prediction."""
    seen = []
    head = method.structure.model.heads[task.head]
    handle = head.register_forward_hook(lambda _, given, output: seen.append(output.clone()))
    method.structure.model.eval()
    with torch.no_grad():
        labels = method.predict(task.test.inputs, task)
    handle.remove()
    assert torch.equal(seen[0].argmax(1), labels)
    return seen[0]


def networks(stream):
    sizes = stream.head_sizes
    yield "mlp", MLP(SHAPE, [12, 8], sizes)
    yield "convnet", ConvNet(SHAPE, [6], [8], sizes)
    yield "resnet with BatchNorm", ResNet(SHAPE, [4, 8], 1, sizes)
    yield (
        "vit with LayerNorm",
        ViT(SHAPE, patch=4, width=8, depth=1, heads=2, hidden=12, head_sizes=sizes),
    )
    body = nn.Sequential(
        nn.Conv2d(1, 6, 3, groups=1), nn.GroupNorm(2, 6), nn.GELU(),
        nn.Conv2d(6, 6, 3, groups=6), nn.InstanceNorm2d(6, affine=True, track_running_stats=True),
        nn.Flatten(), nn.Linear(96, 8), nn.PReLU(), nn.Dropout(0.2),
    )  # fmt: skip
    yield "a network of one's own", Classes(body, 8, sizes)


@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_later_tasks_do_not_change_a_bit_of_earlier_answers(which, optimizer):
    stream = stream_of("task", shape=SHAPE, samples=24)
    torch.manual_seed(0)
    _, model = [*networks(stream)][which]
    method = PackNet(structure_of(stream, model=model), epochs=3)
    learner, before = learner_of(method, optimizer=optimizer), []
    for task in stream.tasks:
        teach(learner, [task])
        before.append(bits(method, task))
        for earlier, held in zip(stream.tasks, before, strict=False):
            torch.testing.assert_close(bits(method, earlier), held, rtol=0, atol=ROUNDING)
    state = model.state_dict()
    assert len({tuple(held.flatten().tolist()) for held in before}) == 3
    assert all(t.isfinite().all() for t in state.values())


def test_each_task_leaves_the_share_of_what_was_free():
    stream = stream_of("task")
    method = PackNet(structure_of(stream, hidden=(10, 10)), prune=0.75, epochs=3)
    learner = learner_of(method)
    for number, task in enumerate(stream.tasks, start=1):
        teach(learner, [task])
        for name, weight in packed_weights(method.structure.model):
            owner = method.owners[name]
            free = weight.numel()
            for known in range(1, number + 1):
                left = int(0.75 * free)
                assert int((owner == known).sum()) == free - left
                free = left
            assert (weight[owner == 0] == 0).all()
    assert "heads.0.weight" not in method.owners


def test_the_smallest_free_weights_are_pruned_and_the_rest_trained_on():
    stream = stream_of("task", tasks=1)
    method = PackNet(structure_of(stream), prune=0.5, epochs=3, after=2)
    learner, seen = learner_of(method), []
    weight = method.structure.model.fc1.weight
    for done in learner.learn(stream.tasks[0]):
        seen.append((done.epoch, weight.detach().clone()))
        if done.epoch == 1:
            assert (method.owners["fc1.weight"] == 0).all()
    (_, _), (_, pruned), (_, last) = seen
    kept = method.owners["fc1.weight"] == 1
    assert int(kept.sum()) == kept.numel() // 2
    assert (pruned[~kept] == 0).all()
    assert (last[~kept] == 0).all()
    assert not torch.equal(pruned[kept], last[kept])


def test_one_epoch_prunes_at_its_end():
    stream = stream_of("task", tasks=2)
    method = PackNet(structure_of(stream), epochs=1)
    teach(learner_of(method, epochs=1), stream.tasks)
    assert set(method.owners["fc1.weight"].unique().tolist()) == {0, 1, 2}


def test_masks_count_by_their_bits():
    stream = stream_of("task", tasks=2)
    method = PackNet(structure_of(stream))
    network = sum(p.numel() for p in method.structure.model.parameters())
    assert method.numbers_kept == network + -(-6 * 8 * 8 // 32)


def test_networks_without_layers_to_pack_are_refused():
    stream = stream_of("task")
    model = MLP(stream.input_shape, [], stream.head_sizes)
    with pytest.raises(ConfigError, match="this network has none that are trained: give it a hid"):
        PackNet(structure_of(stream, model=model))
    frozen = MLP(stream.input_shape, [8], stream.head_sizes)
    frozen.fc1.requires_grad_(False)
    with pytest.raises(ConfigError, match="has none that are trained"):
        PackNet(Structure(frozen, stream.tasks[0].train.inputs[:4]))


def test_more_tasks_than_numbers_are_refused():
    stream = stream_of("task", tasks=1)
    method = PackNet(structure_of(stream))
    with pytest.raises(RunError, match="at most 255 tasks: this is task 256"):
        method.begin_task(replace(stream.tasks[0], index=255))
