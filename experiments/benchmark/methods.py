"""The settings of each method that are compared on seed 0: four of each.

A method that trains a network and has no strength is given four learning rates; one that has a
strength, two rates × two strengths. A classifier of statistics is given four combinations of what
it has. `growmas` and `context alone` are in scenarios.py, as their context depends on the data.
"""

from itertools import product

RATES = (0.0005, 0.001, 0.003, 0.006)
TWO_RATES = (0.001, 0.003)
EPOCHS_OF_JOINT = 10


def _rates(method, *more):
    return [[f"method={method}", f"training.learning_rate={rate}", *more] for rate in RATES]


def _strengths(kind, key, values, more=""):
    return [
        [f"method={{kind: {kind}, {key}: {value}{more}}}", f"training.learning_rate={rate}"]
        for value, rate in product(values, TWO_RATES)
    ]


def _statistics(kind, *choices):
    return [[f"method={{kind: {kind}, {choice}}}"] for choice in choices]


TRAINED = {
    "finetune": _rates("{kind: finetune}"),
    "joint": _rates("{kind: joint}", f"training.epochs={EPOCHS_OF_JOINT}"),
    "mas": _strengths("mas", "strength", (0.1, 3.0)),
    "ewc": _strengths("ewc", "strength", (100.0, 3000.0)),
    "online_ewc": _strengths("online_ewc", "strength", (100.0, 3000.0)),
    "si": _strengths("si", "strength", (1.0, 30.0)),
    "lwf": _strengths("lwf", "strength", (1.0, 3.0)),
    "er": _rates("{kind: er, memory: 200}"),
    "derpp": _strengths("derpp", "alpha", (0.2, 1.0), ", memory: 200"),
    "icarl": _rates("{kind: icarl, memory: 200}"),
    "packnet": _strengths("packnet", "prune", (0.5, 0.75)),
    "hat": _strengths("hat", "sparsity", (0.1, 0.75)),
    "l2_init": _strengths("l2_init", "strength", (1e-4, 1e-2)),
}
"""Methods that train the network of the scenario -> their settings."""

FILTERS = {
    "slda": _statistics(
        "slda",
        *(f"features: filters, filters: 32, strength: {s}" for s in ("null", 1e-4, 1e-3, 1e-2)),
    ),
    "ranpac": _statistics(
        "ranpac",
        *(
            f"features: filters, filters: 32, projections: {p}, strength: {s}"
            for p, s in product((500, 1000), ("null", 1e-2))
        ),
    ),
    "gaussian": _statistics(
        "gaussian",
        *(
            f"features: filters, dimensions: {d}, shrinkage: {s}"
            for d, s in product((100, 200), (0.05, 0.2))
        ),
    ),
}
"""Classifiers of statistics on random filters, for images."""

INPUTS = {
    "slda": _statistics("slda", *(f"strength: {s}" for s in ("null", 1e-3, 1e-2, 1e-1))),
    "ranpac": _statistics(
        "ranpac",
        *(f"projections: {p}, strength: {s}" for p, s in product((500, 1000), ("null", 1e-2))),
    ),
    "gaussian": _statistics(
        "gaussian",
        *(f"dimensions: {d}, shrinkage: {s}" for d, s in product((100, 200), (0.1, 0.4))),
    ),
}
"""The same on the inputs as they are, where neighbourhoods mean nothing."""


def growing(units, context, rates=TWO_RATES, strengths=(0.1, 1.0)):
    """Return the settings of growmas with some units a task and a context."""
    return [
        [
            f"method={{kind: growmas, strength: {s}, grow: {{units: {units}}}, "
            f"context: {context}}}",
            f"training.learning_rate={rate}",
        ]
        for s, rate in product(strengths, rates)
    ]


def separate(hidden, context):
    """Return the settings of a network of some width for each task, with a context."""
    return [
        [*setting, f"model.hidden={hidden}"]
        for setting in _rates(f"{{kind: separate, context: {context}}}")
    ]


def ridge(filters):
    """Return the settings of the context of growmas without a network."""
    return [
        [
            "method={kind: python, target: 'own_methods:Ridge', "
            f"args: {{filters: {filters}, strength: {s}}}}}"
        ]
        for s in ("null", 1e-4, 1e-3, 1e-2)
    ]
