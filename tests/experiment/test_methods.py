"""Methods, and what they answer when nobody names the task."""

import pytest
import torch
import torch.nn.functional as F

from growmas import UNKNOWN
from growmas.config import (
    EnergyContextConfig,
    FinetuneConfig,
    GaussianConfig,
    GaussianContextConfig,
    GrowByGainConfig,
    GrowByNeedConfig,
    GrowBySaturationConfig,
    GrowConfig,
    GrowmasConfig,
    GrowShareConfig,
    JointConfig,
    OvergrowConfig,
    PruneBelowConfig,
    PruneConfig,
    PruneRedundantConfig,
    PruneWithinConfig,
    SeparateConfig,
    TrainingConfig,
    load_config,
)
from growmas.data import load_source, own_heads, split_stream
from growmas.experiment import build_method, build_optimizer, run_experiment
from growmas.models import MLP, SeparateNetworks
from growmas.structure import Structure
from growmas.training.learner import TaskAwareLearner

TRAINING = TrainingConfig(epochs=12, batch_size=32, learning_rate=3e-3)
SHORT = TrainingConfig(epochs=3, batch_size=32, learning_rate=3e-3)
CONTEXT = GaussianContextConfig(kind="gaussian", per="class", dimensions=20)


def learner_of(config, scenario, *, tasks=3, training=TRAINING):
    """The learner, the stream that it is asked about, and that which it learns."""
    torch.manual_seed(0)
    stream = split_stream(
        load_source("digits"), tasks=5, scenario=scenario, generator=torch.Generator(), limit=40
    )
    own = config.kind in ("growmas", "separate")
    lessons = own_heads(stream) if own else stream
    if config.kind == "separate":
        model = SeparateNetworks(
            [MLP(stream.input_shape, [12], [size]) for size in lessons.head_sizes]
        )
    else:
        model = MLP(stream.input_shape, [16, 16], lessons.head_sizes)
    structure = Structure(model, stream.tasks[0].train.inputs[:4])
    optimizer = build_optimizer(training, model.parameters())
    method = build_method(config, structure, optimizer=optimizer, stream=lessons)
    learner = TaskAwareLearner(
        method, optimizer, training, generator=torch.Generator(), task_known=scenario == "task"
    )
    return learner, stream.tasks[:tasks], lessons.tasks[:tasks]


def taught(config, scenario, **options):
    learner, asked, lessons = learner_of(config, scenario, **options)
    for lesson in lessons:
        list(learner.learn(lesson))
    return learner, asked, lessons


def growmas(**parts):
    return GrowmasConfig(kind="growmas", **{"grow": GrowConfig(units=4), **parts})


def inputs_and_labels(tasks):
    return (
        torch.cat([task.test.inputs for task in tasks]),
        torch.cat([task.test.labels for task in tasks]),
    )


@pytest.mark.parametrize("combine", ["none", "tasks", "classes"])
@pytest.mark.parametrize("kind", ["growmas", "separate"])
def test_classes_are_told_apart_without_the_task(kind, combine):
    context = CONTEXT.model_copy(update={"combine": combine})
    config = growmas(context=context) if kind == "growmas" else SeparateConfig(
        kind="separate", context=context
    )  # fmt: skip
    learner, asked, _ = taught(config, "class")
    assert sum(map(learner.accuracy, asked)) / 3 > 0.85
    inputs, _ = inputs_and_labels(asked)
    assert set(learner.method.predict(inputs, None).tolist()) <= set(range(6))


def test_the_likeliest_view_answers_in_labels_of_the_stream():
    config = growmas(context=CONTEXT.model_copy(update={"combine": "none"}))
    learner, asked, lessons = taught(config, "class")
    method = learner.method
    inputs, _ = inputs_and_labels(asked)
    chosen = method.context.select(inputs)
    assert UNKNOWN not in chosen
    wanted = []
    for sample, position in zip(inputs, chosen.tolist(), strict=True):
        with method.structure.view(lessons[position].name), torch.no_grad():
            output = int(method.structure.model(sample[None], position).argmax())
        wanted.append(asked[position].classes[output])
    assert method.predict(inputs, None).tolist() == wanted


def test_labels_that_tasks_share_collect_what_all_views_say():
    learner, asked, lessons = taught(growmas(context=CONTEXT), "domain")
    method = learner.method
    inputs, labels = inputs_and_labels(asked)
    scores = method.context.scores(inputs).exp()
    total = torch.zeros(len(inputs), 2, dtype=torch.float64)
    for position, lesson in enumerate(lessons):
        with method.structure.view(lesson.name), torch.no_grad():
            logits = method.structure.model(inputs, lesson.head)
        total += scores[:, [position]] * logits.double().softmax(1)
    found = method.predict(inputs, None)
    assert torch.equal(found, total.argmax(1))
    assert float((found == labels).double().mean()) > 0.9


def test_the_surest_view_answers_where_the_context_asks_them():
    context = EnergyContextConfig(kind="energy")
    learner, asked, lessons = taught(growmas(context=context), "class", training=SHORT)
    structure = learner.method.structure
    inputs, _ = inputs_and_labels(asked)
    wanted, best = torch.zeros(len(inputs)).long(), torch.full((len(inputs),), -torch.inf)
    for lesson, task in zip(lessons, asked, strict=True):
        with structure.view(lesson.name), torch.no_grad():
            logits = structure.model(inputs, lesson.head)
        surer = logits.logsumexp(1) > best
        wanted[surer] = torch.tensor(task.classes)[logits.argmax(1)][surer]
        best = torch.maximum(best, logits.logsumexp(1))
    assert torch.equal(learner.method.predict(inputs, None), wanted)


def test_joint_weighs_each_sample_by_its_own_head():
    learner, _, lessons = learner_of(JointConfig(kind="joint"), "task")
    method = learner.method
    lesson = method.lesson(lessons[0])
    rows = torch.arange(0, len(lesson), 9)
    inputs, labels = lesson.inputs[rows], lesson.labels[rows]
    wanted = torch.stack([
        F.cross_entropy(
            method.structure.model(sample[None], int(label) // 2), label.reshape(1) % 2
        )
        for sample, label in zip(inputs, labels, strict=True)
    ]).mean()  # fmt: skip
    torch.testing.assert_close(method.loss(inputs, labels, lessons[0]), wanted)


@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
def test_joint_learns_everything_with_the_first_task_and_nothing_after(scenario):
    learner, asked, lessons = learner_of(JointConfig(kind="joint"), scenario)
    first, *later = ([done.loss for done in learner.learn(lesson)] for lesson in lessons)
    assert len(first) == TRAINING.epochs
    assert later == [[], []]
    assert sum(map(learner.accuracy, asked)) / 3 > 0.8


def test_a_network_of_its_own_is_not_changed_by_other_tasks():
    learner, asked, lessons = learner_of(SeparateConfig(kind="separate"), "task")
    list(learner.learn(lessons[0]))
    first, second = learner.method.structure.model.networks[:2]
    before = [p.clone() for p in first.parameters()]
    untouched = [p.clone() for p in second.parameters()]
    list(learner.learn(lessons[1]))
    assert all(map(torch.equal, before, first.parameters()))
    assert not any(map(torch.equal, untouched, second.parameters()))
    assert min(map(learner.accuracy, asked[:2])) > 0.9


@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
def test_gaussians_answer_by_themselves(scenario):
    config = GaussianConfig(kind="gaussian", dimensions=20)
    learner, asked, lessons = learner_of(config, scenario)
    before = [p.clone() for p in learner.method.structure.model.parameters()]
    for lesson in lessons:
        assert list(learner.learn(lesson)) == []
    assert all(map(torch.equal, before, learner.method.structure.model.parameters()))
    assert learner.method.parameters == 0
    assert learner.method.context.size == 6 * (1 + 20 + 210)
    assert sum(map(learner.accuracy, asked)) / 3 > 0.85


@pytest.mark.parametrize(
    "parts",
    [
        {"grow": GrowShareConfig(kind="share", share=0.25)},
        {"grow": GrowBySaturationConfig(kind="saturation", threshold=0.05)},
        {"grow": GrowByGainConfig(kind="gain", threshold=0.01, most=8)},
    ],
    ids=lambda parts: parts["grow"].kind,
)
def test_every_kind_of_growth_adds_units(parts):
    learner, _, lessons = taught(growmas(**parts), "task", tasks=2, training=SHORT)
    groups = learner.method.structure.groups.values()
    assert sum(group.width for group in groups) > 32
    assert lessons[0].index == 0


def test_growth_by_need_tries_every_task():
    need = GrowByNeedConfig(kind="need", step=4, most=4, trial=5)
    learner, _, _ = taught(growmas(grow=need), "task", tasks=2, training=SHORT)
    assert len(learner.method.manager.reached) == 2


def test_of_overgrown_units_the_best_stay_after_some_epochs():
    config = growmas(grow=OvergrowConfig(kind="overgrow", keep=4, factor=3, after=2))
    learner, _, lessons = learner_of(config, "task", training=SHORT)
    widths = []
    for lesson in lessons:
        for _ in learner.learn(lesson):
            widths.append(learner.method.structure.groups["fc1"].width)
    assert widths == [16, 16, 16, 28, 20, 20, 32, 24, 24]


@pytest.mark.parametrize(
    ("prune", "most"),
    [
        (PruneConfig(kind="ratio", ratio=0.25), 12),
        (PruneBelowConfig(kind="below", threshold=1.0), 15),
        (PruneRedundantConfig(kind="redundancy", ratio=0.25, guard=0.1, round_to=4), 12),
        (PruneWithinConfig(kind="within", bound=10.0, most=0.4), 10),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_every_kind_of_pruning_removes_units(prune, most):
    config = growmas(grow=None, prune=prune.model_copy(update={"grace": 0}))
    learner, _, _ = taught(config, "task", tasks=1, training=SHORT)
    assert learner.method.structure.groups["fc1"].width <= most


def test_a_budget_is_never_exceeded_and_what_is_protected_does_not_move():
    config = growmas(grow=GrowConfig(units=50), budget={"units": 40}, protect=1.0)
    learner, asked, lessons = learner_of(config, "task", training=SHORT)
    list(learner.learn(lessons[0]))
    weights = learner.method.structure.model.fc1.weight
    held = learner.method.manager.protect.frozen["fc1.weight"]
    before = weights[held].clone()
    accuracy = learner.accuracy(asked[0])
    list(learner.learn(lessons[1]))
    groups = learner.method.structure.groups.values()
    assert sum(group.width for group in groups) == 40
    after = learner.method.structure.model.fc1.weight[:16][held]
    assert held.any()
    assert torch.equal(after, before)
    assert learner.accuracy(asked[0]) == pytest.approx(accuracy, abs=0.05)


def test_finetuning_has_one_answer_for_all_tasks():
    learner, asked, _ = taught(FinetuneConfig(kind="finetune"), "class")
    inputs, _ = inputs_and_labels(asked)
    with torch.no_grad():
        wanted = learner.method.structure.model(inputs, 0).argmax(1)
    assert torch.equal(learner.method.predict(inputs, None), wanted)


def test_protection_by_birth_forgets_nothing_and_keeps_nothing_but_the_network():
    learner, asked, lessons = learner_of(growmas(protect="old"), "task", training=SHORT)
    first, *others = lessons
    list(learner.learn(first))
    before = learner.accuracy(asked[0])
    for lesson in others:
        list(learner.learn(lesson))
    method = learner.method
    assert learner.accuracy(asked[0]) == before > 0.8
    assert method.numbers_kept == method.parameters
    assert growmas_numbers("task") > 2 * method.parameters


def test_gains_and_biases_of_each_task_are_counted_and_part_of_its_answer():
    config = growmas(protect="old", per_task=("biases",))
    learner, asked, lessons = learner_of(config, "task", training=SHORT)
    found = []
    for lesson, task in zip(lessons, asked, strict=True):
        list(learner.learn(lesson))
        found.append(learner.accuracy(task))
    assert [learner.accuracy(task) for task in asked] == found
    method = learner.method
    assert method.numbers_kept == method.parameters + 3 * 2 * (16 + 2 * 4)


def growmas_numbers(scenario):
    return taught(growmas(), scenario, training=SHORT)[0].method.numbers_kept


@pytest.mark.parametrize("more", ["", ", replace_dead: recent, prune: {ratio: 0.1, grace: 0}"])
def test_a_run_frozen_by_birth_is_resumed_to_the_bit(tmp_path, more):
    path = tmp_path / "small.yaml"
    path.write_text(
        "name: small\n"
        "stream: {kind: split, source: digits, tasks: 5, scenario: task, limit: 30}\n"
        "model: {kind: mlp, hidden: [12, 8]}\n"
        "method: {kind: growmas, protect: old, per_task: [gains, biases], grow: {units: 2}, "
        f"init: paired{more}}}\n"
        "training: {epochs: 2, learning_rate: 0.01, batch_size: 16}\n"
    )
    config = load_config(path)
    whole = run_experiment(config, tmp_path / "whole")
    with pytest.raises(Stopped):
        run_experiment(config, tmp_path / "cut", observer=StopsAfter(1))
    resumed = run_experiment(config, tmp_path / "cut", resume=True)
    assert resumed.accuracy == whole.accuracy
    assert resumed.numbers_kept == whole.numbers_kept


class Stopped(Exception):
    pass


class StopsAfter:
    """An observer that ends the run after some tasks."""

    def __init__(self, tasks):
        self.left = tasks

    def epoch_done(self, done):
        pass

    def task_done(self, done):
        self.left -= 1
        if not self.left:
            raise Stopped


def test_the_protection_is_chosen_on_the_second_task():
    learner, _, lessons = learner_of(growmas(protect="auto"), "task", training=SHORT)
    method = learner.method
    list(learner.learn(lessons[0]))
    assert method.protection.state_dict()["inputs"].shape[0] <= 256
    for lesson in lessons[1:]:
        list(learner.learn(lesson))
    choice = method.manager.protect.choice
    tried = [candidate for candidate, _ in choice.scores]
    assert tried == ["old", *(method_factor * growmas().strength for method_factor in (0.1, 1, 10))]
    assert choice.chosen == "old"  # all answer well: none is better by more than the error
    assert method.protection.state_dict() == {}  # what was kept of the first task is dropped
