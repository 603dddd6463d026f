import pytest
import torch

from growmas.config import FinetuneConfig, GrowConfig, GrowmasConfig, MASConfig, TrainingConfig
from growmas.data import load_source, split_stream
from growmas.errors import RunError
from growmas.experiment import build_method, build_optimizer
from growmas.models import MLP
from growmas.structure import Structure
from growmas.training.learner import TaskAwareLearner

TRAINING = TrainingConfig(epochs=12, batch_size=32, learning_rate=3e-3)


def learner_of(method, training=TRAINING, tasks=2):
    torch.manual_seed(0)
    stream = split_stream(
        load_source("digits"), tasks=5, scenario="task", generator=torch.Generator(), limit=40
    )
    model = MLP(stream.input_shape, [16, 16], stream.head_sizes)
    structure = Structure(model, stream.tasks[0].train.inputs[:4])
    optimizer = build_optimizer(training, model.parameters())
    built = build_method(method, structure, optimizer=optimizer, stream=stream)
    learner = TaskAwareLearner(built, optimizer, training, generator=torch.Generator())
    return learner, stream.tasks[:tasks]


@pytest.mark.parametrize(
    "method",
    [
        FinetuneConfig(kind="finetune"),
        MASConfig(kind="mas"),
        GrowmasConfig(kind="growmas", grow=GrowConfig(units=4)),
    ],
    ids=lambda method: method.kind,
)
def test_learns_what_it_is_shown(method):
    learner, tasks = learner_of(method)
    for task in tasks:
        losses = [done.loss for done in learner.learn(task)]
        assert losses[-1] < losses[0]
        assert learner.accuracy(task) > 0.8
    assert learner.seconds > 0


def test_old_tasks_are_answered_by_their_view():
    """What a younger unit says is not heard by an older task, whatever its weights."""
    learner, tasks = learner_of(GrowmasConfig(kind="growmas", grow=GrowConfig(units=6)))
    for task in tasks:
        list(learner.learn(task))
    before = learner.accuracy(tasks[0])
    model = learner.method.structure.model
    with torch.no_grad():
        model.heads[0].weight[:, 16:] = 100.0
        model.fc2.weight[:16, 16:] = 100.0
    assert learner.accuracy(tasks[0]) == before
    assert learner.accuracy(tasks[1]) < 0.9


def test_the_penalty_is_nothing_in_the_first_task_and_something_in_the_second():
    learner, tasks = learner_of(MASConfig(kind="mas", strength=1.0))
    assert all(done.penalty == 0 for done in learner.learn(tasks[0]))
    assert all(done.penalty > 0 for done in learner.learn(tasks[1]))


def test_a_loss_that_leaves_the_numbers_is_named():
    training = TrainingConfig(epochs=2, batch_size=16, learning_rate=1e30, optimizer="sgd")
    learner, tasks = learner_of(FinetuneConfig(kind="finetune"), training)
    with pytest.raises(RunError, match=r"epoch \d of task '0/1': lower training.learning_rate"):
        list(learner.learn(tasks[0]))


def test_a_cosine_schedule_ends_at_nothing_and_starts_anew_in_every_task():
    training = TrainingConfig(epochs=3, batch_size=32, learning_rate=0.01, schedule="cosine")
    learner, tasks = learner_of(FinetuneConfig(kind="finetune"), training)
    for task in tasks:
        rates = []
        for _ in learner.learn(task):
            rates.append(learner.optimizer.param_groups[0]["lr"])
        # (1 + cos(π e / 3)) / 2 of the rate after epoch e
        assert rates == pytest.approx([0.0075, 0.0025, 0.0], abs=1e-9)


def test_a_constant_schedule_leaves_the_rate_alone():
    learner, tasks = learner_of(FinetuneConfig(kind="finetune"))
    list(learner.learn(tasks[0]))
    assert learner.optimizer.param_groups[0]["lr"] == TRAINING.learning_rate


def test_dropped_inputs_are_zero_and_the_others_scaled_up():
    training = TrainingConfig(epochs=1, batch_size=32, learning_rate=1e-3, input_dropout=0.25)
    learner, _ = learner_of(FinetuneConfig(kind="finetune"), training)
    thinned = learner._thinned(torch.ones(100, 100))
    assert thinned.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float((thinned == 0).float().mean()) == pytest.approx(0.25, abs=0.02)


def test_a_method_learns_every_task_once():
    learner, tasks = learner_of(
        FinetuneConfig(kind="finetune"), TrainingConfig(epochs=1, batch_size=32, learning_rate=1e-3)
    )
    list(learner.learn(tasks[0]))
    with pytest.raises(RunError, match="was learnt before, and a method learns every task once"):
        next(learner.learn(tasks[0]))
    assert learner.between_tasks
    list(learner.learn(tasks[1]))


def test_views_without_the_task_are_refused():
    learner, tasks = learner_of(GrowmasConfig(kind="growmas", grow=GrowConfig(units=4)))
    list(learner.learn(tasks[0]))
    with pytest.raises(RunError, match="a context must infer it"):
        learner.method.predict(tasks[0].test.inputs, None)
