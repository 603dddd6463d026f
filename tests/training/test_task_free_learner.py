import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import growmas as gm
from growmas.checkpoint import read_state, write_state
from growmas.data import load_source, permuted_stream, split_stream, task_free_stream
from growmas.errors import CheckpointError, PlanError, ShiftError
from growmas.importance import mas_importance
from growmas.models import MLP
from growmas.training.task_free.fixed import norm
from growmas.training.task_free.recent import Rewind

HEADS = 6


# losses of next to nothing, which few samples seen over and over end at, are no match for a penalty
pytestmark = pytest.mark.filterwarnings("ignore:the gradient of the penalty is")


def make_stream(kind="split", **settings):
    source, draw = load_source("digits"), torch.Generator().manual_seed(0)
    base = (
        split_stream(source, tasks=5, scenario="class", generator=draw)
        if kind == "split"
        else permuted_stream(source, tasks=2, scenario="domain", generator=draw)
    )
    return task_free_stream(base, **{"batch_size": 32, "steps_per_task": 60, **settings})


def make_learner(stream, **settings):
    torch.manual_seed(0)
    model = MLP(stream.input_shape, [24, 24], (stream.outputs,) * HEADS)
    structure = gm.Structure(
        model, stream.tasks[0].train.inputs[:4], generator=torch.Generator().manual_seed(0)
    )
    given = {
        "mas": gm.MAS(model, strength=0.01),
        "grow": gm.GrowPolicy(8),
        "prune": gm.PrunePolicy(0.05),
        "forward": lambda model, inputs, context: model(inputs, context),
        "contexts": HEADS,
    }
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    return gm.TaskFreeLearner(structure, optimizer, **{**given, **settings})


def learn(learner, batches):
    return [learner.learn(batch.inputs, batch.labels) for batch in batches]


def deeds(done):
    return [(d.shift.action, d.step) for d in done if d.shift]


def accuracy(learner, task):
    right = learner.predict(task.test.inputs).argmax(1) == task.test.labels
    return float(right.double().mean())


@pytest.fixture(scope="module")
def learnt():
    stream = make_stream(steps_per_task=50)
    learner = make_learner(stream)
    return stream, learner, learn(learner, stream)


def test_shifts_open_contexts_and_the_network_grows_for_each(learnt):
    stream, learner, done = learnt
    opened = [step for deed, step in deeds(done) if deed == "opened"]
    assert all(0 <= at - true.first <= 3 for at, true in zip(opened, stream.shifts(), strict=True))
    assert len(learner.structure.tasks) == 5
    births = learner.structure.groups["fc1"].births
    assert [births.count(task) for task in range(1, 5)] == [8, 8, 8, 8]


@pytest.mark.parametrize("steps", [1, 3])
def test_the_penalty_is_the_mean_over_the_gradient_steps(steps):
    stream = make_stream("permuted", steps_per_task=40)
    learner = make_learner(stream, steps=steps)
    seen, step = [], learner.optimizer.step

    def watched():
        mas = learner.memory.before if learner.memory.settled else learner.mas
        values = {n: p.detach() for n, p in learner.structure.model.named_parameters()}
        terms = [(o * (values[n] - mas.anchor[n]).square()).sum() for n, o in mas.omega.items()]
        seen.append(float(mas.strength * sum(terms)))
        step()

    learner.optimizer.step = watched
    found = []
    for batch in itertools.islice(stream, 50):
        before = len(seen)
        done = learner.learn(batch.inputs, batch.labels)
        if done.shift is None:
            assert done.penalty == pytest.approx(sum(seen[before:]) / steps, rel=1e-4)
            found.append(done.penalty)
    assert found[0] == 0
    assert found[-1] > 0


def test_answers_need_no_task(learnt):
    stream, learner, _ = learnt
    # chance is 0.1; a network that forgets ends at 0.2, knowing the last two of ten digits
    assert sum(accuracy(learner, task) for task in stream.tasks) / 5 > 0.85


def test_every_context_is_consolidated_once(learnt):
    _, learner, done = learnt
    settled = [step for deed, step in deeds(done) if deed == "settled"]
    last = max(step for deed, step in deeds(done) if deed == "opened")
    assert 1 <= len(settled) <= 5
    assert learner.mas.tasks == 4 + any(step > last for step in settled)


def test_a_context_that_comes_back_is_recognised_and_nothing_grows():
    stream = make_stream("permuted", visits=2, steps_per_task=60)
    learner = make_learner(stream)
    first = learn(learner, itertools.islice(stream, 120))
    born = learner.structure.groups["fc1"].next_id
    later = learn(learner, stream.batches(120))
    assert [deed for deed, _ in deeds(first)].count("opened") == 1
    back = [(deed, step) for deed, step in deeds(later) if deed not in ("settled", "known")]
    assert [deed for deed, _ in back] == ["returned"] * 2
    assert all(step - 60 * (i + 2) <= 3 for i, (_, step) in enumerate(back))
    assert learner.structure.groups["fc1"].next_id == born
    assert len(learner.structure.tasks) == 2
    assert later[-1].context == learner.structure.tasks[1]


def test_what_was_learnt_through_the_wrong_view_is_undone():
    """The anchor of the first context is the network of before the first batch of the second."""
    stream = make_stream("permuted")
    learner = make_learner(stream, prune=None, grow=None)
    learn(learner, itertools.islice(stream, 60))
    before = {n: p.detach().clone() for n, p in learner.structure.model.named_parameters()}
    for batch in stream.batches(60):
        done = learner.learn(batch.inputs, batch.labels)
        if done.shift and done.shift.event.kind == "peak":
            break
    assert done.step > done.shift.event.onset == 60
    assert all(torch.equal(learner.mas.anchor[name], value) for name, value in before.items())
    assert any(not torch.equal(p, before[n]) for n, p in learner.structure.model.named_parameters())


def test_states_of_the_network_are_kept_now_and_then_and_come_back():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    rewind = Rewind(model)
    assert rewind.back_to(3) is None
    for step in range(33):
        rewind.keep(step)
        with torch.no_grad():
            model[0].weight.fill_(step)
            model[1].running_mean.fill_(step)
    for asked, reached in ((31, 30), (30, 30), (29, 25), (3, 15)):
        assert rewind.back_to(asked) == reached
        assert model[0].weight.unique().tolist() == [reached - 1]
        assert model[1].running_mean.unique().tolist() == [reached - 1]
    rewind.forget()
    assert rewind.back_to(30) is None


class ManyHeads(nn.Module):
    """A layer and a head for each of many contexts."""

    def __init__(self, heads):
        super().__init__()
        self.fc = nn.Linear(4, 8)
        self.heads = nn.ModuleList(nn.Linear(8, 3) for _ in range(heads))

    def forward(self, x, head=None):
        h = torch.relu(self.fc(x))
        return tuple(m(h) for m in self.heads) if head is None else self.heads[head](h)


def test_heads_that_are_not_in_use_cost_the_step_nothing():
    torch.manual_seed(0)
    model = ManyHeads(30)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    learner = gm.TaskFreeLearner(
        gm.Structure(model, torch.rand(2, 4)),
        optimizer,
        contexts=30,
        forward=lambda m, x, context: m(x, context),
    )
    first = {name: p.clone() for name, p in model.heads[1:].named_parameters()}
    x = torch.rand(16, 4)
    for step in range(12):
        learner.learn(x, torch.randint(3, (16,)))
        if step == 6:
            learner._settle(list(learner.memory.recent))  # importance of all, 0 for most heads
    used = {*model.fc.parameters(), *model.heads[0].parameters()}
    assert {p for p in model.parameters() if p.grad is not None} == used
    assert set(optimizer.state) == used
    for name, p in model.heads[1:].named_parameters():
        assert torch.equal(p, first[name])


def test_a_state_that_was_undone_does_not_come_back():
    model, kept = torch.nn.Linear(1, 1), {}
    rewind = Rewind(model)
    for step in range(0, 20, 5):
        kept[step] = model.weight.detach().clone()
        rewind.keep(step)
        with torch.no_grad():
            model.weight.add_(1.0)
    assert rewind.back_to(7) == 5
    assert rewind.back_to(16) == 5
    assert torch.equal(model.weight, kept[5])


def test_a_false_alarm_changes_nothing_but_a_few_steps():
    class Nervous:
        def __init__(self):
            self.step = 0

        def update(self, loss):
            step, self.step = self.step, self.step + 1
            return gm.ShiftEvent("peak", step, step - 1, "nerves") if step == 80 else None

    one = permuted_stream(
        load_source("digits"), tasks=1, scenario="domain", generator=torch.Generator()
    )
    stream = task_free_stream(one, batch_size=32, steps_per_task=100)
    learner = make_learner(stream, detector=Nervous())
    done = learn(learner, stream)
    assert deeds(done) == [("stayed", 80)] or deeds(done) == [("returned", 80)]
    assert len(learner.structure.tasks) == 1
    assert accuracy(learner, stream.tasks[0]) > 0.85


def test_contexts_and_budget_bound_growth():
    stream = make_stream()
    learner = make_learner(stream, contexts=2, budget=gm.Budget(units=54), prune=None)
    done = learn(learner, itertools.islice(stream, 190))
    peaks = [d.shift.action for d in done if d.shift and d.shift.event.kind == "peak"]
    assert peaks == ["opened", "full", "full"]
    assert len(learner.structure.tasks) == 2
    assert sum(group.width for group in learner.structure.groups.values()) <= 54


@pytest.mark.parametrize("at", [3, 51, 97])
def test_a_stopped_learner_goes_on_to_the_bit(at, learnt, tmp_path):
    stream, _, expected = learnt
    first, second = make_learner(stream), make_learner(stream)
    assert learn(first, itertools.islice(stream, at)) == expected[:at]
    write_state(tmp_path / "state", {"format": 1, **first.state_dict()})
    second.load_state_dict(read_state(tmp_path / "state"))
    assert learn(second, itertools.islice(stream.batches(at), 12)) == expected[at : at + 12]
    learn(first, itertools.islice(stream.batches(at), 12))
    ours, theirs = (dict(one.structure.model.named_parameters()) for one in (second, first))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    inputs = stream.tasks[0].test.inputs
    assert torch.equal(second.predict(inputs), first.predict(inputs))


def test_memory_is_bounded_on_a_stream_without_end():
    stream = make_stream("permuted", visits=None, steps_per_task=40)
    learner = make_learner(stream)
    sizes = []
    for end in (120, 190):
        learn(learner, itertools.islice(stream.batches(learner.step), end - learner.step))
        sizes.append(sum(t.numel() for t in tensors(learner.state_dict())))
    assert sizes[1] <= sizes[0]


def tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for item in value.values() for t in tensors(item)]
    return [t for item in value for t in tensors(item)] if isinstance(value, list | tuple) else []


def test_policies_that_try_and_measure_get_what_they_need():
    stream = make_stream("permuted", steps_per_task=60)
    for policy in (gm.GrowByNeed(step=4, most=8), gm.GrowByGain(0.25, most=8)):
        learner = make_learner(stream, grow=policy)
        done = learn(learner, itertools.islice(stream, 66))
        assert "opened" in [deed for deed, _ in deeds(done)]


def test_shifts_are_in_the_history(tmp_path):
    stream = make_stream()
    learner = make_learner(stream)
    learner.tracker = gm.TopologyTracker(learner.structure, tmp_path / "run.db")
    learn(learner, itertools.islice(stream, 130))
    learner.tracker.close()
    with gm.TopologyHistory(tmp_path / "run.db") as history:
        names = [task.name for task in history.tasks()]
        assert names[0] == "context 1"
        assert names[1].startswith("context 2, step 6")
        assert history.turnover()["fc1"][names[1]].born == 8


def test_mistakes_are_told_before_anything_is_learnt():
    stream = make_stream()
    with pytest.raises(ShiftError, match=r"contexts=0: expected a whole number >= 1"):
        make_learner(stream, contexts=0)
    with pytest.raises(ShiftError, match="recent=5: expected a whole number >= 15"):
        make_learner(stream, recent=5)
    with pytest.raises(ShiftError, match="predict before learn"):
        make_learner(stream).predict(stream.tasks[0].test.inputs)
    with pytest.raises(PlanError, match="budget is smaller"):
        make_learner(stream, budget=gm.Budget(units=3))
    learner = make_learner(stream)
    learner.structure.begin_task("mine")
    with pytest.raises(ShiftError, match="has begun 'mine'"):
        gm.TaskFreeLearner(learner.structure, learner.optimizer)
    with pytest.raises(ShiftError, match=r"lacks .*rewind"):
        make_learner(stream).load_state_dict({"model": {}})


def test_a_loss_that_is_no_number_is_named_and_not_learnt():
    stream = make_stream()
    learner = make_learner(stream)
    learn(learner, itertools.islice(stream, 3))
    before = [p.clone() for p in learner.structure.model.parameters()]
    batch = stream.batch(3)
    with pytest.raises(ShiftError, match="the loss of step 3 is nan"):
        learner.learn(batch.inputs * float("nan"), batch.labels)
    assert all(map(torch.equal, before, learner.structure.model.parameters()))


@pytest.mark.parametrize("fixed_size", [False, True])
def test_norms_take_in_no_batch_that_is_not_learnt(fixed_size):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
    optimizer, inputs = torch.optim.Adam(model.parameters()), torch.rand(16, 4)
    learner = (
        gm.TaskFreeMAS(model, optimizer, buffer=0)
        if fixed_size
        else gm.TaskFreeLearner(gm.Structure(model, inputs[:4]), optimizer)
    )
    labels = (inputs[:, 0] > inputs[:, 1]).long()
    learner.learn(inputs, labels)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ShiftError, match="is nan"):
        learner.learn(inputs * float("nan"), labels)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert learner.learn(inputs, labels).step == 1


# Task-free MAS


def fixed(stream, **settings):
    torch.manual_seed(0)
    model = MLP(stream.input_shape, [24], (stream.outputs,))
    return gm.TaskFreeMAS(model, torch.optim.SGD(model.parameters(), lr=0.1), **settings)


def test_omega_is_the_mean_over_plateaus_of_what_the_buffer_gives():
    """Ω_n = Ω_new / n + (1 − 1/n) Ω_{n−1}, measured anew at every plateau."""
    stream = make_stream(steps_per_task=40)
    learner = fixed(stream, strength=0.0001, buffer=20, steps=3, detector=gm.PlateauDetector())
    omega, plateaus = None, 0
    for batch in stream:
        done = learner.learn(batch.inputs, batch.labels)
        if done.shift and done.shift.action == "settled":
            plateaus += 1
            new = mas_importance(learner.model, [learner.buffer[0]], function=norm)
            omega = new if omega is None else {
                name: new[name] / plateaus + (1 - 1 / plateaus) * omega[name] for name in new
            }  # fmt: skip
            assert all(torch.equal(learner.mas.anchor[n], p) for n, p in named(learner))
    assert plateaus >= 2
    for name, value in omega.items():
        torch.testing.assert_close(learner.mas.omega[name], value)


def named(learner):
    return learner.model.named_parameters()


def test_the_buffer_holds_the_hardest_of_batch_and_buffer():
    stream = make_stream("permuted")
    learner = fixed(stream, buffer=7, steps=1)
    for batch in itertools.islice(stream, 4):
        inputs, labels = batch.inputs, batch.labels
        if learner.buffer is not None:
            inputs = torch.cat([inputs, learner.buffer[0]])
            labels = torch.cat([labels, learner.buffer[1]])
        with torch.no_grad():
            losses = F.cross_entropy(learner.model(inputs), labels, reduction="none")
        learner.learn(batch.inputs, batch.labels)
        assert torch.equal(learner.buffer[0], inputs[losses.argsort(descending=True)[:7]])


def test_the_detector_sees_the_first_loss_of_the_batch_alone():
    stream = make_stream("permuted")
    learner = fixed(stream, buffer=10, steps=4)
    for batch in itertools.islice(stream, 3):
        with torch.no_grad():
            expected = F.cross_entropy(learner.model(batch.inputs), batch.labels)
        assert learner.learn(batch.inputs, batch.labels).loss == pytest.approx(float(expected))


@pytest.mark.parametrize("settings", [{"buffer": 0}, {"recent": 4, "normalize": "mean"}])
def test_a_stopped_task_free_mas_goes_on_to_the_bit(settings):
    stream = make_stream("permuted", visits=2, steps_per_task=30)
    whole, first, second = (fixed(stream, **settings) for _ in range(3))
    expected = learn(whole, stream)
    learn(first, itertools.islice(stream, 50))
    second.load_state_dict(first.state_dict())
    assert learn(second, stream.batches(50)) == expected[50:]
    assert all(
        torch.equal(a, b) for (_, a), (_, b) in zip(named(second), named(whole), strict=True)
    )


def test_task_free_mas_refuses_numbers_out_of_range():
    with pytest.raises(ShiftError, match="buffer=-1: expected a whole number >= 0"):
        fixed(make_stream(), buffer=-1)
    with pytest.raises(ShiftError, match="the state of the learner lacks buffer"):
        fixed(make_stream()).load_state_dict({})


def test_a_state_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="is not a readable checkpoint"):
        read_state(tmp_path / "nothing")
