"""Accuracy against numbers kept, the task known: growing networks and their rivals, three sizes.

Each network has one hidden layer on 14 × 14 pixels; a size is about as many numbers for all methods
after five tasks, so that the penalty, which keeps Ω and anchors too, has a third of the units.
"""

from dataclasses import dataclass

RATES = (0.003, 0.01, 0.03)


@dataclass(frozen=True)
class Size:
    """Widths of networks that keep about as many numbers over five tasks.

    Attributes:
        name: "small", "middle" or "large".
        each: Of a network for one task.
        frozen: Of a growing network whose old units are frozen: to begin with, and more a task.
        early: The same with a larger shared part and less growth.
        fixed: Of a network that does not grow, and is frozen after the first task but for the
            gains, biases and head of each task.
        penalty: Of a growing network with Ω and anchors.
        one: Of a network of fixed size with Ω and anchors.
        base: Of a network with low-rank adapters.
    """

    name: str
    each: int
    frozen: tuple[int, int]
    early: tuple[int, int]
    fixed: int
    penalty: tuple[int, int]
    one: int
    base: int


SIZES = (
    Size("small", 3, (4, 2), (8, 1), 12, (1, 1), 4, 9),
    Size("middle", 7, (12, 4), (20, 2), 28, (5, 1), 9, 25),
    Size("large", 20, (37, 12), (61, 6), 85, (12, 4), 27, 78),
)

GAINS = "per_task: [gains, biases]"
COPIES = "{kind: python, target: 'own_methods:WarmCopies'}"
ADAPTERS = "{kind: python, target: 'own_methods:LowRank', args: {rate: RATE, rank: 1}}"


def _settings(method, width):
    return [
        [
            f"method={method.replace('RATE', str(rate))}",
            f"model.hidden=[{width}]",
            f"training.learning_rate={rate}",
        ]
        for rate in RATES
    ]


def _growing(widths, words):
    start, more = widths
    return _settings(f"{{kind: growmas, grow: {{units: {more}}}, {words}}}", start)


def front_settings():
    """Return the settings of every method at every size: "method | size" -> one for each rate."""
    found = {}
    for size in SIZES:
        kinds = {
            "separate": _settings("{kind: separate}", size.each),
            "warm copies": _settings(COPIES, size.each),
            "frozen": _growing(size.frozen, "protect: old"),
            "frozen, own gains": _growing(size.frozen, f"protect: old, {GAINS}"),
            "penalty, own gains": _growing(size.penalty, f"strength: 1.0, {GAINS}"),
            "auto, own gains": _growing(size.frozen, f"protect: auto, strength: 1.0, {GAINS}"),
            "one network, mas": _settings("{kind: mas, strength: 1.0}", size.one),
            "low-rank adapters": _settings(ADAPTERS, size.base),
            "frozen, paired": _growing(size.frozen, f"protect: old, {GAINS}, init: paired"),
            "frozen, not grown": _settings(f"{{kind: growmas, protect: old, {GAINS}}}", size.fixed),
            "frozen, shared first": _growing(size.early, f"protect: old, {GAINS}"),
        }
        found |= {f"{kind} | {size.name}": settings for kind, settings in kinds.items()}
    return found
