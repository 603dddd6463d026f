"""What checkpoints hold of a method of one's own, and how its numbers are counted."""

import pytest
import torch
from small_streams import learner_of, stream_of, structure_of, teach

import growmas as gm
from growmas.errors import ShiftError
from growmas.training.methods.own_state import load_own_state, numbers_in, own_state


class Mine(gm.Method):
    """A method with state of every kind, and some that is not held."""

    def __init__(self, structure):
        super().__init__(structure)
        self.sums = {"fc1.weight": torch.zeros(2, 3)}
        self.mask = torch.zeros(70, dtype=torch.bool)
        self.generator = torch.Generator().manual_seed(1)
        self.steps = 0
        self.word = "start"
        self.nothing = None
        self.memory = gm.Reservoir(4)
        self.notes = ["not held"]
        self.places = {("a", 1): torch.zeros(2)}

    def step_done(self, task):
        self.steps += 1
        self.sums["fc1.weight"] += torch.rand(2, 3, generator=self.generator)


def test_everything_that_can_be_held_comes_back():
    stream = stream_of("task", tasks=1)
    one, other = Mine(structure_of(stream)), Mine(structure_of(stream))
    teach(learner_of(one, epochs=2, batch_size=8), stream.tasks)
    assert one.steps == 2 * 5
    state = own_state(one)
    assert {*state} == {"sums", "mask", "generator", "steps", "word", "nothing", "memory"}
    load_own_state(other, state)
    assert (other.steps, other.word, other.nothing) == (10, "start", None)
    assert torch.equal(other.sums["fc1.weight"], one.sums["fc1.weight"])
    assert torch.equal(
        torch.rand(3, generator=other.generator), torch.rand(3, generator=one.generator)
    )


def test_numbers_are_entries_and_masks_are_bits():
    assert numbers_in(torch.zeros(3, 4)) == 12
    assert numbers_in(torch.zeros(70, dtype=torch.bool)) == 3
    assert numbers_in(torch.zeros(70, dtype=torch.uint8)) == 18
    assert numbers_in({"a": [torch.zeros(2), {"b": torch.zeros(3)}], "c": 7, "d": None}) == 5
    assert numbers_in({"generator": torch.Generator().get_state()}) == 0
    stream = stream_of("task", tasks=1)
    method = Mine(structure_of(stream))
    network = sum(p.numel() for p in method.structure.model.parameters())
    assert method.numbers_kept == network + 6 + 3


def test_a_loss_that_is_not_finite_stops_a_stream_before_the_update():
    stream = stream_of("domain", tasks=1)
    method = gm.L2Init(structure_of(stream))
    model = method.structure.model
    learner = gm.TaskFreeMethod(method, torch.optim.SGD(model.parameters(), lr=0.1))
    before = [p.clone() for p in model.parameters()]
    inputs = torch.full((4, 6), torch.nan)
    with pytest.raises(ShiftError, match=r"became nan at step 0: lower training\.learning_rate"):
        learner.learn(inputs, torch.zeros(4).long())
    assert all(map(torch.equal, before, model.parameters()))
    done = learner.learn(torch.rand(4, 6), torch.zeros(4).long())
    assert (done.step, learner.step) == (0, 1)
    with pytest.raises(ShiftError, match="lacks step"):
        learner.load_state_dict({k: v for k, v in learner.state_dict().items() if k != "step"})
