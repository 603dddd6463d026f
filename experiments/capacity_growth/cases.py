"""The cases of the study: streams, methods, and the settings that each method is tuned over.

Every method gets six settings on every stream; convolutional networks get three, Gaussians always
six. A setting is a dict of overrides.
"""

from dataclasses import dataclass, field, replace

SEEDS = (1, 2, 3, 4, 5)
DROPPED = 0.2  # share of input pixels that are set to zero in training

FILTERS = {
    "kind": "gaussian",
    "per": "class",
    "features": "filters",
    "dimensions": 200,
    "shrinkage": 0.05,
}
TASKS = {"kind": "gaussian", "per": "task", "dimensions": 30, "combine": "none"}
CLASSES = {"kind": "gaussian", "per": "class", "dimensions": 40}
MULTIPLIED = {"combine": "classes", "temperature": 2}


@dataclass(frozen=True)
class Case:
    """A method on a stream.

    Attributes:
        method: Name in the tables.
        config: Config of the method.
        model: Config of its network.
        settings: The settings to choose from, on the validation data of seed 0.
        like: Title of a study and a method in it. Its chosen setting is used here, changed by
            `settings`: the same networks with another question at the end.
        fixed: Overrides that take precedence over the chosen setting.
    """

    method: str
    config: dict
    model: dict
    settings: tuple[dict, ...] = ({},)
    like: tuple[str, str] | None = None
    fixed: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """The methods compared on one stream.

    Attributes:
        title: Heading of its table.
        stream: Config of the stream.
        training: Config of the training that all methods share.
        cases: The methods.
        goal: The goal that was set beforehand, in words.
    """

    title: str
    stream: dict
    training: dict
    cases: tuple[Case, ...]
    goal: str = ""


def mlp(*hidden):
    return {"kind": "mlp", "hidden": list(hidden)}


def conv(channels, hidden):
    return {"kind": "convnet", "channels": list(channels), "hidden": [hidden]}


def plain(rates=(0.003, 0.006, 0.012)):
    """Return six settings of learning rate and input dropout, for methods without a penalty."""
    return tuple(
        {"training.learning_rate": rate, "training.input_dropout": share}
        for rate in rates
        for share in (0.0, DROPPED)
    )


def penalised(low, middle, high):
    """Return six settings of learning rate, strength and dropout, for methods with a penalty."""
    return tuple(
        {
            "training.learning_rate": rate,
            "training.input_dropout": share,
            "method.strength": strength,
        }
        for rate, strength, share in (
            (0.003, middle, DROPPED),
            (0.006, low, DROPPED),
            (0.006, middle, DROPPED),
            (0.006, high, DROPPED),
            (0.012, middle, DROPPED),
            (0.006, middle, 0.0),
        )
    )


def gaussians(features, dimensions=200):
    """Return six settings of the shrinkage of Gaussians."""
    plain = {"kind": "gaussian", "features": features, "dimensions": dimensions}
    shares = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
    return tuple({"method": {**plain, "shrinkage": share}} for share in shares)


def opinions(temperatures=(1, 2)):
    """Return settings of shrinkage and temperature for Gaussians that are multiplied with views."""
    return tuple(
        {"method.context": {**FILTERS, "shrinkage": share, "combine": "classes", "temperature": t}}
        for share in (0.02, 0.05, 0.1)
        for t in temperatures
    )


def alone(*kinds):
    """Return cases in which Gaussians classify without a network."""
    names = {"inputs": "Gaussians of pixels", "filters": "Gaussians of random filters"}
    return tuple(Case(names[kind], {}, mlp(1), gaussians(kind)) for kind in kinds)


def settled(title, cases):
    """Return the cases with the settings that were chosen for them in another study."""
    return tuple(replace(case, settings=({},), like=(title, case.method)) for case in cases)


def grown(units, strength, context, **others):
    return {"kind": "growmas", "strength": strength, "grow": {"units": units},
            "context": context, **others}  # fmt: skip


def selected(units, after):
    """Return the config of growing three times as many units and keeping the best."""
    return {"kind": "overgrow", "keep": units, "factor": 3, "after": after}


def split(scenario):
    """Return the study on five tasks of two digits.

    Without task labels at test time, the networks are those of the study with task labels.
    """
    goals = {
        "task": "0.991, forgetting 0.001",
        "class": "0.962, and not below the Gaussians alone",
        "domain": "0.968",
    }
    known = scenario == "task"
    title = "split, task known"
    context = None if known else {**FILTERS, "combine": "tasks"}
    strengths = {"task": (0.01, 0.1, 1.0), "class": (0.1, 1.0, 10.0), "domain": (1.0, 10.0, 100.0)}
    mas = penalised(*strengths[scenario])
    separate = {"kind": "separate", "context": context}
    both = grown(16, 0.1, {**FILTERS, "combine": "classes"})
    networks = (
        Case("growmas", grown(16, 0.1, context), mlp(128, 128), penalised(0.01, 0.1, 1.0)),
        Case("joint", {"kind": "joint"}, mlp(192, 192), plain()),
        Case("separate networks", separate, mlp(45, 45), plain()),
    )
    growing, *others = networks if known else settled(title, networks)
    cases = (
        growing,
        Case("growmas × Gaussians", both, mlp(128, 128), opinions(), like=(title, "growmas")),
        *others,
        *alone("inputs", "filters"),
        Case("MAS, final width", {"kind": "mas"}, mlp(192, 192), mas),
        Case("MAS, start width", {"kind": "mas"}, mlp(128, 128), mas),
        Case("finetune", {"kind": "finetune"}, mlp(192, 192), plain()),
    )
    return Study(
        title if known else f"split, {scenario}-incremental",
        {"kind": "split", "source": "mnist5k", "tasks": 5, "scenario": scenario},
        {"epochs": 10, "batch_size": 64, "schedule": "cosine"},
        cases,
        goals[scenario],
    )


TEN = "permuted × 10, 10 epochs"


def shared_out(after):
    """Return settings that divide the budget between units and dimensions of the Gaussians.

    All stay under 1.25 times the parameters of 784-256-256-10.
    """
    return tuple(
        {
            "training.learning_rate": rate,
            "training.input_dropout": DROPPED,
            "method.strength": 0.02,
            "method.grow": selected(units, after),
            "method.context": {**CLASSES, **MULTIPLIED, "dimensions": dimensions},
        }
        for rate, units, dimensions in (
            (0.006, 16, 40),
            (0.006, 10, 55),
            (0.006, 8, 60),
            (0.003, 8, 60),
            (0.012, 8, 60),
            (0.006, 5, 65),
        )
    )


def permuted(tasks, epochs, goal):
    """Return the study on permuted pixels, with the task unknown at test time.

    With twenty tasks, Gaussians and growmas × Gaussians keep as many numbers for each task as with
    ten; the total of the other methods is only a little larger.
    """
    after = 3 if epochs == 10 else 1
    units, final, own = (24, 280, 38) if tasks == 10 else (12, 292, 23)
    growing = grown(24, 0.02, TASKS, grow=selected(units, after))
    both = grown(8, 0.02, {**CLASSES, **MULTIPLIED})
    separate = {"kind": "separate", "context": TASKS}
    mas = penalised(0.001, 0.005, 0.02)
    small = gaussians("inputs", 80)
    cases = (
        Case("growmas", growing, mlp(64, 64), penalised(0.005, 0.02, 0.08)),
        Case("growmas × Gaussians", both, mlp(64, 64), shared_out(after)),
        Case("joint", {"kind": "joint"}, mlp(final, final), plain()),
        Case("Gaussians of as many numbers", {}, mlp(1), small),
        *alone("inputs"),
        Case("separate networks", separate, mlp(own, own), plain()),
        Case("MAS, final width", {"kind": "mas"}, mlp(final, final), mas),
        Case("MAS, start width", {"kind": "mas"}, mlp(64, 64), mas),
        Case("finetune", {"kind": "finetune"}, mlp(final, final), plain()),
    )
    return Study(
        f"permuted × {tasks}, {epochs} epochs",
        {"kind": "permuted", "source": "mnist5k", "tasks": tasks, "scenario": "domain"},
        {"epochs": epochs, "batch_size": 128, "schedule": "cosine"},
        cases if tasks == 10 else settled(TEN, cases),
        goal,
    )


def images(title, stream, *, like=None):
    """Return a study with a small convolutional network, whose norms the views remember."""
    context = {**FILTERS, "combine": "tasks"} if like else None
    separate = {"kind": "separate", "context": context}
    growing = grown(4, 1.0, context, norms="affine")
    both = grown(4, 1.0, {**FILTERS, "combine": "classes"}, norms="affine")
    small, large = conv((8, 16), 32), conv((24, 32), 48)
    rates = tuple({"training.learning_rate": rate} for rate in (0.001, 0.003, 0.006))
    strengths = tuple({"method.strength": strength} for strength in (0.1, 1.0, 10.0))
    networks = (
        Case("growmas", growing, small, strengths),
        Case("joint", {"kind": "joint"}, large, rates),
        Case("separate networks", separate, conv((10, 14), 20), rates),
    )
    first, *others = settled(like, networks) if like else networks
    cases = (
        first,
        Case("growmas × Gaussians", both, small, opinions((2,)), like=(like or title, "growmas")),
        *others,
        *alone("inputs", "filters"),
        Case("MAS, final width", {"kind": "mas"}, large, strengths),
        Case("finetune", {"kind": "finetune"}, large, rates),
    )
    return Study(title, stream, {"epochs": 10, "batch_size": 32, "schedule": "cosine"}, cases)


def sources():
    """Return the study on three sources of ten classes each: digits in two sizes, and shapes."""
    title = "digits → mnist5k → shapes, domain"
    context = {**FILTERS, "combine": "tasks"}
    separate = {"kind": "separate", "context": context}
    both = grown(32, 0.1, {**FILTERS, "combine": "classes"})
    mas = penalised(0.1, 1.0, 10.0)
    return Study(
        title,
        {"kind": "sources", "sources": ["digits", "mnist5k", "shapes"], "scenario": "domain"},
        {"epochs": 10, "batch_size": 64, "schedule": "cosine"},
        (
            Case("growmas", grown(32, 0.1, context), mlp(128, 128), mas),
            Case("growmas × Gaussians", both, mlp(128, 128), opinions(), like=(title, "growmas")),
            Case("joint", {"kind": "joint"}, mlp(192, 192), plain()),
            *alone("inputs", "filters"),
            Case("separate networks", separate, mlp(75, 75), plain()),
            Case("MAS, final width", {"kind": "mas"}, mlp(192, 192), mas),
            Case("finetune", {"kind": "finetune"}, mlp(192, 192), plain()),
        ),
    )


def cluttered(scenario):
    """Return a stream of digits among fragments of other digits, on which Gaussians fail."""
    return {"kind": "split", "source": "mnist5k_cluttered", "tasks": 5, "scenario": scenario}


CLUTTERED = "conv net on cluttered split, task known"
SPLIT_CONV = "conv net on split, task known"

STUDIES = (
    split("task"),
    split("class"),
    split("domain"),
    permuted(10, 10, "0.935, within 0.005 of joint, with at most 336,652 numbers"),
    permuted(10, 3, "0.92"),
    permuted(20, 10, "within 0.015 of ten"),
    sources(),
    images(SPLIT_CONV, dict(split("task").stream)),
    images("conv net on split, class-incremental", dict(split("class").stream), like=SPLIT_CONV),
    images(CLUTTERED, cluttered("task")),
    images("conv net on cluttered split, class-incremental", cluttered("class"), like=CLUTTERED),
)
