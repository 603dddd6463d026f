"""Contexts that a config describes, and how views answer with them."""

from itertools import product
from typing import Any

import pytest
import torch
from test_methods import growmas, inputs_and_labels, learner_of, taught

from growmas.config import (
    GaussianContextConfig,
    RidgeContextConfig,
    SeparateConfig,
    SharedContextConfig,
)
from growmas.contexts import (
    NetworkFeatures,
    RandomFilters,
    RidgeContext,
    SharedGaussianContext,
    combine_views,
    view_answers,
)
from growmas.data import load_source, own_heads, split_stream
from growmas.experiment.contexts import build_answering

KINDS: dict[str, tuple[Any, Any]] = {
    "ridge": (RidgeContextConfig, RidgeContext),
    "shared": (SharedContextConfig, SharedGaussianContext),
}


def config(kind: str, **keys: Any) -> Any:
    return KINDS[kind][0].model_validate({"kind": kind, **keys})


@pytest.mark.parametrize("kind", KINDS)
def test_defaults(kind: str) -> None:
    how = build_answering(config(kind), seed=0)
    assert type(how.context) is KINDS[kind][1]
    assert (how.combine, how.weight, how.temperature) == ("classes", 0.2, 1.0)
    assert build_answering(config(kind, per="task"), seed=0).combine == "tasks"
    assert how.context.extract is None


@pytest.mark.parametrize(("kind", "whiten"), [*product(KINDS, ["analytic", "patches", "none"])])
def test_filters(kind: str, whiten: str) -> None:
    how = build_answering(config(kind, features="filters", filters=9, whiten=whiten), seed=3)
    filters = how.context.extract  # type: ignore[union-attr]
    assert isinstance(filters, RandomFilters)
    wanted = None if whiten == "none" else whiten
    assert (filters.filters, filters.pool, filters.seed, filters.whiten) == (9, 7, 3, wanted)


def test_filters_of_gaussians_are_as_they_were() -> None:
    given = GaussianContextConfig(kind="gaussian", features="filters")
    filters = build_answering(given, seed=3).context._projection.extract  # type: ignore[union-attr]
    assert repr(filters) == repr(RandomFilters(seed=3))
    assert build_answering(given, seed=3).weight == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("features", ["inputs", "filters", "model"])
def test_classes_are_told_apart_without_the_task(kind: str, features: str) -> None:
    context = config(kind, features=features, filters=8, pool=2)
    learner, asked, _ = taught(growmas(context=context), "class")
    least = 0.75 if features == "model" else 0.85  # a network of one task knows less of others
    assert sum(map(learner.accuracy, asked)) / 3 > least
    extract = learner.method.context.extract
    if features == "model":  # as it was after the first task, whatever grew since
        assert isinstance(extract, NetworkFeatures)
        assert extract._frozen.fc1.out_features < learner.method.structure.model.fc1.out_features
        assert learner.method.context.class_scores(asked[0].test.inputs).isfinite().all()


def test_the_views_have_a_say_of_the_weight() -> None:
    learner, asked, lessons = taught(growmas(context=config("ridge", weight=0.25)), "class")
    method, (inputs, _) = learner.method, inputs_and_labels(asked)
    context = method.context
    answers = view_answers(method.structure, inputs, tasks=context.tasks,
                           forward=lambda model, x, task: model(x, lessons[task].head))  # fmt: skip
    classes = [list(task.classes) for task in asked]
    wanted = combine_views(
        context.scores(inputs), answers, classes=classes,
        experts=context.class_answers(inputs), weight=0.25,
    )  # fmt: skip
    assert torch.equal(method.predict(inputs, None), wanted.argmax(1))


@pytest.mark.parametrize("kind", ["growmas", "separate"])
@pytest.mark.parametrize("per", ["class", "task"])
def test_after_a_first_task_of_one_class(kind: str, per: str) -> None:
    """Nothing is told apart yet: the only class is the answer."""
    context = config("ridge", per=per)
    given = growmas(context=context) if kind == "growmas" else SeparateConfig(
        kind="separate", context=context
    )  # fmt: skip
    learner, asked, lessons = learner_of(given, "class", tasks=2)
    learner.method.structure.begin_task(lessons[0].name)
    images = asked[0].train.inputs[:50]
    labels = torch.zeros(50, dtype=torch.long)
    learner.method.context.update(lessons[0].name, images, labels)
    assert learner.method.predict(images, None).shape == (50,)


def test_ten_tasks_of_one_class() -> None:
    stream = split_stream(
        load_source("digits"), tasks=10, scenario="class", generator=torch.Generator(), limit=40
    )
    one = build_answering(config("ridge"), seed=0).context
    two = build_answering(config("ridge"), seed=0).context
    lessons = own_heads(stream).tasks
    for task in lessons:
        one.update(task.name, task.train.inputs, task.train.labels)  # type: ignore[union-attr]
        two.update("all", task.train.inputs, task.train.labels + task.index)  # type: ignore[union-attr]
    inputs = stream.tasks[3].test.inputs
    torch.testing.assert_close(one.class_scores(inputs), two.class_scores(inputs))  # type: ignore[union-attr]
