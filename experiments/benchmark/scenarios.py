"""The scenarios of the benchmark: a stream each, and the methods that are for it."""

from dataclasses import dataclass

from front import front_settings
from methods import FILTERS, INPUTS, TRAINED, growing, ridge, separate

PENALTIES = ("mas", "ewc", "online_ewc", "si", "lwf", "l2_init")
REPLAY = ("er", "derpp")
RIDGE = "{kind: ridge, features: filters, filters: 32, combine: classes}"
GAUSSIAN = "{kind: gaussian, dimensions: 60}"
FEW = "{kind: gaussian, dimensions: 20}"


@dataclass(frozen=True)
class Scenario:
    """A stream, and the methods that are for it.

    Attributes:
        name: As `--only` has it.
        title: Of its table.
        about: What is learnt, in a sentence.
        overrides: What it changes in benchmark.yaml.
        settings: Method -> its settings, lists of overrides.
        baseline: The method that the others are tested against; of each SIZE where it says so.
        metric: "accuracy", or "ahead": the mean over periods before they are learnt.
        seeds: What is reported.
        tried: Positions of the settings of each method that are compared.
    """

    name: str
    title: str
    about: str
    overrides: tuple[str, ...]
    settings: dict[str, list[list[str]]]
    baseline: str = "growmas"
    metric: str = "accuracy"
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    tried: tuple[int, ...] = (1, 2)


def _of(*names):
    return {name: TRAINED[name] for name in names}


def _images(*names, units=8, hidden="[20, 20]", context=RIDGE):
    """Return the settings of methods on images: those of a name, growmas, and statistics."""
    return {
        **_of("finetune", "joint", *names),
        "separate": separate(hidden, context),
        "growmas": growing(units, context),
        "context alone": ridge(32),
        **FILTERS,
    }


def _start(settings, width):
    """Return the settings with the width that growmas begins at."""
    begun = [[*setting, f"model.hidden=[{width}, {width}]"] for setting in settings["growmas"]]
    return {**settings, "growmas": begun}


def _vectors(*names, units, hidden, context, tasks_known=False):
    return {
        **_of("finetune", "joint", *names),
        "separate": separate(hidden, context),
        "growmas": growing(units, context),
        **({} if tasks_known else {"context alone": ridge(0)}),
        **INPUTS,
    }


def _front(name, title, about, stream):
    """Return a scenario of accuracy against numbers kept on five tasks of 200 images."""
    return Scenario(
        name,
        title,
        about,
        (
            f"stream={{{stream}, source: {{kind: python, target: 'sources:fashion', resize: 14}}, "
            "tasks: 5, scenario: task}",
            "training.epochs=20",
            "training.batch_size=50",
            "model={kind: mlp, hidden: [8]}",
        ),
        front_settings(),
        baseline="warm copies | SIZE",
        tried=(0, 1, 2),
    )


FASHION = "Fashion-MNIST, 400 training images and 200 test images a class"

SCENARIOS = (
    Scenario(
        "fashion-class",
        "Fashion-MNIST, 5 × 2 classes, scenario class",
        f"{FASHION}; five tasks of two kinds of clothes; the task is unknown.",
        (),
        _start(_images(*PENALTIES, *REPLAY, "icarl"), 68),
        tried=(0, 1, 2, 3),
    ),
    Scenario(
        "fashion-task",
        "Fashion-MNIST, 5 × 2 classes, scenario task",
        f"{FASHION}; the task of each test image is known.",
        ("stream.scenario=task",),
        _start(_images(*PENALTIES, *REPLAY, "packnet", "hat", context="null"), 68),
    ),
    Scenario(
        "frozen-features",
        "Frozen features, 5 × 2 classes, scenario class",
        f"{FASHION}, as 1,280 features each of an EfficientNet-Lite0 trained on ImageNet, at "
        "64 × 64 pixels; the network that is trained or grows is an adapter behind them.",
        ("stream.source={kind: python, target: 'sources:features'}", "model.hidden=[64]"),
        {
            **_of("finetune", "joint", "mas", "ewc", *REPLAY, "icarl"),
            "separate": separate("[13]", "{kind: ridge, combine: classes}"),
            "growmas": [
                [*each, "model.hidden=[32]"]
                for each in growing(8, "{kind: ridge, combine: classes}")
            ],
            "context alone": ridge(0),
            **INPUTS,
        },
    ),
    Scenario(
        "flights",
        "Flights of a year, ten periods, before they are learnt",
        "Late or on time: every eighth of 327,346 flights from New York in 2013 in order of time; "
        "ACC here is prequential, the mean over periods 2 to 10 of the accuracy before the period "
        "is learnt.",
        (
            "stream={kind: ordered, source: {kind: python, target: 'sources:flights'}, tasks: 10, "
            "scenario: domain}",
            "model.hidden=[32, 32]",
            "training.epochs=2",
            "training.batch_size=128",
        ),
        _start(_vectors(*PENALTIES, *REPLAY, units=2, hidden="[10, 10]", context=FEW), 14),
        metric="ahead",
    ),
    Scenario(
        "one-class",
        "Fashion-MNIST, ten tasks of one class",
        f"{FASHION}; one class at a time, scenario class.",
        ("stream.tasks=10",),
        _start(_images(*PENALTIES, *REPLAY, "icarl", units=4, hidden="[10, 10]"), 64),
    ),
    Scenario(
        "fashion-domain",
        "Fashion-MNIST, 5 × 2 classes, scenario domain",
        f"{FASHION}; the answer is the place of a class in its task; the task is unknown.",
        ("stream.scenario=domain",),
        _start(_images(*PENALTIES, *REPLAY), 68),
    ),
    Scenario(
        "mnist5k-class",
        "mnist5k, 5 × 2 digits, scenario class",
        "mnist5k, 400 training images a class; five tasks of two digits; the task is unknown.",
        ("stream.source=mnist5k",),
        _start(_images(*PENALTIES, *REPLAY, "icarl"), 68),
    ),
    Scenario(
        "small-rotated",
        "Fashion-MNIST, five rotations, 20 images a class, scenario task",
        "Fashion-MNIST at 0 to 60 degrees, 20 training images a class and rotation: 200 images a "
        "task, all ten classes, the same structure in each; the rotation is known.",
        (
            "stream={kind: rotated, source: {kind: python, target: 'sources:fashion'}, tasks: 5, "
            "degrees: 60, scenario: task, limit: 20}",
            "training.epochs=20",
            "training.batch_size=32",
        ),
        _start(
            {
                **_images(*PENALTIES, *REPLAY, "packnet", "hat", context="null"),
            },
            68,
        ),
    ),
    Scenario(
        "mnist5k-permuted",
        "mnist5k, ten permutations, scenario domain",
        "mnist5k, 200 training images a class; ten orders of the pixels, the task is unknown.",
        (
            "stream={kind: permuted, source: mnist5k, tasks: 10, scenario: domain, limit: 200}",
            "training.epochs=5",
        ),
        _start(_vectors(*PENALTIES, *REPLAY, units=4, hidden="[10, 10]", context=GAUSSIAN), 64),
    ),
    Scenario(
        "fashion-permuted",
        "Fashion-MNIST, five permutations, scenario domain",
        "Fashion-MNIST, 200 training images a class; five orders of the pixels, the task is "
        "unknown.",
        (
            "stream={kind: permuted, source: {kind: python, target: 'sources:fashion'}, tasks: 5, "
            "scenario: domain, limit: 200}",
        ),
        _start(_vectors(*PENALTIES, *REPLAY, units=8, hidden="[20, 20]", context=GAUSSIAN), 68),
    ),
    Scenario(
        "sources",
        "mnist5k → shapes → Fashion-MNIST, scenario domain",
        "Three sources one after another, 100 training images a class each; the source is unknown.",
        (
            "stream={kind: sources, sources: [mnist5k, shapes, {kind: python, target: "
            "'sources:fashion'}], scenario: domain, limit: 100}",
        ),
        _start(_images(*PENALTIES, *REPLAY, hidden="[33, 33]"), 84),
    ),
    Scenario(
        "fashion-60k",
        "Fashion-MNIST, all 60,000 images, 5 × 2 classes, scenario class",
        "Statistics alone, one pass; 10,000 test images. No network is trained.",
        ("stream.source=fashion_mnist", "stream.limit=null"),
        {"context alone": ridge(32), **FILTERS},
        baseline="context alone",
    ),
    _front(
        "front-rotated",
        "Five rotations of Fashion-MNIST, 200 images each, by numbers kept",
        "Fashion-MNIST at 14 × 14 pixels, 0 to 60 degrees, 20 training images a class and "
        "rotation; the rotation is known. One hidden layer, 20 epochs.",
        "kind: rotated, degrees: 60, limit: 20",
    ),
    _front(
        "front-split",
        "Fashion-MNIST, 5 × 2 classes, 200 images each, by numbers kept",
        "Fashion-MNIST at 14 × 14 pixels, 100 training images a class; the task is known. The same "
        "networks.",
        "kind: split, limit: 100",
    ),
)
"""In the order in which they are run: what is finished first is whole first."""

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
