"""What is run: streams, methods, and the settings that each of them is tuned over.

Every method gets four settings on every stream. A setting is a dict of overrides.
"""

from dataclasses import dataclass, field

SEEDS = (1, 2, 3, 4, 5)
DROPPED = 0.2  # share of input pixels set to zero in training

FILTERS = {"kind": "gaussian", "per": "class", "features": "filters", "dimensions": 200}
TASKS = {"kind": "gaussian", "per": "task", "dimensions": 30, "combine": "none"}


@dataclass(frozen=True)
class Case:
    """A method on a stream.

    Attributes:
        method: What the tables call it.
        config: Of the method.
        model: Of its network.
        settings: To choose from on the validation data of seed 0.
        like: Title of the study whose choice for this method (for growmas, if it is a way of
            answering) is taken over: the same networks, asked another question.
        fixed: Overrides that win over what was chosen.
    """

    method: str
    config: dict
    model: dict
    settings: tuple[dict, ...] = ({},)
    like: str | None = None
    fixed: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """The methods compared on one stream.

    Attributes:
        title: What the tables call it.
        stream: Its config.
        training: What all methods have in common.
        cases: The methods.
        seeds: That are reported.
        tune_on: Tasks of the stream that settings are chosen on; None takes all.
    """

    title: str
    stream: dict
    training: dict
    cases: tuple[Case, ...]
    seeds: tuple[int, ...] = SEEDS
    tune_on: int | None = None


def mlp(*hidden):
    return {"kind": "mlp", "hidden": list(hidden)}


def conv(channels, hidden):
    return {"kind": "convnet", "channels": list(channels), "hidden": [hidden]}


def plain():
    """Learning rate and input dropout, for methods without a penalty."""
    return tuple(
        {"training.learning_rate": rate, "training.input_dropout": share}
        for rate in (0.003, 0.006)
        for share in (0.0, DROPPED)
    )


def penalised(low, high):
    """Learning rate, strength and input dropout, for methods with one."""
    return tuple(
        {
            "training.learning_rate": rate,
            "training.input_dropout": share,
            "method.strength": strength,
        }
        for rate, strength, share in (
            (0.003, low, DROPPED),
            (0.006, low, DROPPED),
            (0.006, high, DROPPED),
            (0.006, low, 0.0),
        )
    )


def gaussians(features):
    """Dimensions and shrinkage."""
    return tuple(
        {
            "method": {
                "kind": "gaussian",
                "features": features,
                "dimensions": dimensions,
                "shrinkage": shrinkage,
            }
        }
        for dimensions in (100, 200)
        for shrinkage in (0.1, 0.2)
    )


def alone(*kinds):
    """Gaussians as classifiers, without a network."""
    names = {"inputs": "Gaussians of pixels", "filters": "Gaussians of random filters"}
    return tuple(Case(names[kind], {}, mlp(1), gaussians(kind)) for kind in kinds)


def grown(units, strength, context, **others):
    return {"kind": "growmas", "strength": strength, "grow": {"units": units},
            "context": context, **others}  # fmt: skip


def split(scenario):
    """Five tasks of two digits. Without labels of tasks, networks are those learnt with them."""
    known = scenario == "task"
    like = None if known else "split, task known"
    context = None if known else {**FILTERS, "combine": "tasks"}
    strengths = (0.1, 1.0) if known else (1.0, 10.0)
    separate = {"kind": "separate", "context": context}
    both = grown(16, 0.1, {**FILTERS, "combine": "classes"})
    cases = (
        Case("growmas", grown(16, 0.1, context), mlp(128, 128), penalised(0.1, 1.0), like),
        Case("growmas × Gaussians", both, mlp(128, 128), like="split, task known"),
        Case("joint", {"kind": "joint"}, mlp(192, 192), plain(), like),
        *alone("inputs", "filters"),
        Case("separate networks", separate, mlp(45, 45), plain(), like),
        Case("MAS, final width", {"kind": "mas"}, mlp(192, 192), penalised(*strengths)),
        Case("MAS, start width", {"kind": "mas"}, mlp(128, 128), penalised(*strengths)),
        Case("finetune", {"kind": "finetune"}, mlp(192, 192), plain()),
    )
    return Study(
        "split, task known" if known else f"split, {scenario}-incremental",
        {"kind": "split", "source": "mnist5k", "tasks": 5, "scenario": scenario},
        {"epochs": 10, "batch_size": 64, "schedule": "cosine"},
        cases,
    )


TEN = "permuted × 10, 10 epochs"


def permuted(tasks, epochs, cases, seeds=SEEDS):
    """All ten digits, in another order of pixels in each task; nobody names the task."""
    return Study(
        f"permuted × {tasks}, {epochs} epochs",
        {"kind": "permuted", "source": "mnist5k", "tasks": tasks, "scenario": "domain"},
        {"epochs": epochs, "batch_size": 128, "schedule": "cosine"},
        cases,
        seeds,
        tune_on=5,
    )


def ten(epochs):
    """Ten permutations; settings are chosen at ten epochs."""
    like = None if epochs == 10 else TEN
    separate = {"kind": "separate", "context": TASKS}
    mas = penalised(0.001, 0.005)
    return permuted(10, epochs, (
        Case("growmas", grown(24, 0.01, TASKS), mlp(64, 64), penalised(0.005, 0.02), like),
        Case("joint", {"kind": "joint"}, mlp(280, 280), plain(), like),
        Case("growmas × Gaussians", grown(16, 0.01, CLASSES), mlp(64, 64), like=TEN),
        Case("MAS, final width", {"kind": "mas"}, mlp(280, 280), mas, like),
        *alone("inputs"),
        Case("separate networks", separate, mlp(38, 38), plain(), like),
        Case("MAS, start width", {"kind": "mas"}, mlp(64, 64), mas, like),
        Case("finetune", {"kind": "finetune"}, mlp(280, 280), plain(), like),
    ))  # fmt: skip


def images(title, stream, epochs, seeds=(1, 2), batch=64, task_known=False):
    """A small conv net, whose norms the views remember; nothing is tuned."""
    rates = ({"training.learning_rate": 0.003},)
    context = None if task_known else {**FILTERS, "combine": "tasks"}
    both = grown(4, 0.1, {**FILTERS, "combine": "classes"})
    small, large = conv((8, 16), 32), conv((24, 32), 48)
    cases = (
        Case("growmas", grown(4, 0.1, context), small, rates),
        *([] if task_known else [Case("growmas × Gaussians", both, small, like=title)]),
        Case("joint", {"kind": "joint"}, large, rates),
        *alone("inputs", "filters"),
        Case("MAS, final width", {"kind": "mas", "strength": 0.1}, large, rates),
    )
    training = {"epochs": epochs, "batch_size": batch, "schedule": "cosine"}
    return Study(title, stream, training, cases, seeds)


def sources():
    """Digits in two sizes, and shapes: three sources of ten classes each."""
    title = "digits → mnist5k → shapes, domain"
    context = {**FILTERS, "combine": "tasks"}
    both = grown(32, 0.1, {**FILTERS, "combine": "classes"})
    return Study(
        title,
        {"kind": "sources", "sources": ["digits", "mnist5k", "shapes"], "scenario": "domain"},
        {"epochs": 10, "batch_size": 64, "schedule": "cosine"},
        (
            Case("growmas", grown(32, 0.1, context), mlp(128, 128), penalised(0.1, 1.0)),
            Case("growmas × Gaussians", both, mlp(128, 128), like=title),
            Case("joint", {"kind": "joint"}, mlp(192, 192), plain()),
            *alone("inputs", "filters"),
            Case("MAS, final width", {"kind": "mas"}, mlp(192, 192), penalised(0.1, 1.0)),
        ),
        (1, 2),
    )


def cluttered(scenario):
    """Digits anywhere among scraps of others, on which Gaussians fail."""
    return {"kind": "split", "source": "mnist5k_cluttered", "tasks": 5, "scenario": scenario}


CLASSES = {"kind": "gaussian", "per": "class", "dimensions": 40, "combine": "classes"}
TWENTY = Case("growmas", grown(12, 0.01, TASKS), mlp(64, 64), like=TEN)

STUDIES = (
    split("task"),
    split("class"),
    split("domain"),
    ten(10),
    ten(3),
    images("cluttered split, task known, conv net", cluttered("task"), 8, task_known=True),
    permuted(20, 10, (TWENTY,), (1,)),
    sources(),
    images("cluttered split, class-incremental, conv net", cluttered("class"), 8),
    images("split, class-incremental, conv net", dict(split("class").stream), 4),
)
