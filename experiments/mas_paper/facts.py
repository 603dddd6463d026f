"""Facts <subject, predicate, object> from a small grammar, and synthetic pictures of them.

    fact   ->  scene
    scene  ->  SUBJECT[scene]  PREDICATE[scene]  OBJECT[scene]

Each of the eight scenes has words that no other scene has, except that people appear in four of
them; a task is two scenes. A picture of a fact is a vector of features: the appearances of its
words and noise are summed and passed through a fixed random network of two tanh layers, so that
the look of a word depends on the other words. The target is the concatenation of the vectors of
the three words: an embedding, not a class.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

PEOPLE = "man woman boy girl child nurse"
SCENES = (
    (PEOPLE, "throws hits kicks", "ball frisbee racket puck"),
    ("dog cat cow goat fox bird", "eats smells hides", "bread fish grass apple"),
    (PEOPLE, "rides parks repairs", "bicycle car horse boat"),
    ("wind rain frost sun flood storm", "moves wets breaks", "leaf roof road river"),
    (PEOPLE, "holds sells drops", "hammer phone broom pen"),
    ("bee ant moth fly wasp beetle", "visits carries bites", "flower seed wood web"),
    (PEOPLE, "plays tunes hears", "piano drum flute violin"),
    ("robot crane truck drone train ship", "lifts loads brings", "crate pipe brick coal"),
)
SPORTS = 0
"""The scene of the first task that a user asks about."""
TASKS = len(SCENES) // 2
FEATURES, WORD = 64, 16
PICTURES = {"train": 20, "test": 8}
GAIN, NOISE = 1.5, 0.45


@dataclass(frozen=True)
class Facts:
    """The facts of one task.

    Attributes:
        scenes: [F], the index in SCENES of each fact.
        targets: [F, 3 * WORD], the embedding of each fact.
        inputs: [F * pictures, FEATURES], the pictures for "train" and "test".
        labels: [F * pictures], the index of the fact of each picture.
    """

    scenes: Tensor
    targets: Tensor
    inputs: dict[str, Tensor]
    labels: dict[str, Tensor]


def make_facts(seed: int) -> list[Facts]:
    """Return all facts of the grammar, two scenes a task."""
    generator = torch.Generator().manual_seed(seed)
    made = [
        (number, words)
        for number, scene in enumerate(SCENES)
        for words in itertools.product(*(role.split() for role in scene))
    ]
    words = sorted({word for _, fact in made for word in fact})
    vectors = torch.randn(len(words), WORD, generator=generator) / WORD**0.5
    looks = torch.randn(3, len(words), FEATURES, generator=generator) / 3**0.5
    mixing = torch.randn(2, FEATURES, FEATURES, generator=generator) * GAIN / FEATURES**0.5
    index = torch.tensor([[words.index(word) for word in fact] for _, fact in made])
    scenes = torch.tensor([scene for scene, _ in made])
    appearance = sum(looks[role, index[:, role]] for role in range(3))

    def pictures(rows: Tensor, count: int) -> Tensor:
        seen = appearance[rows].repeat_interleave(count, 0)
        seen = seen + NOISE * torch.randn(seen.shape, generator=generator)
        return torch.tanh(torch.tanh(seen @ mixing[0]) @ mixing[1])

    return [
        Facts(
            scenes=scenes[rows],
            targets=vectors[index[rows]].flatten(1),
            inputs={part: pictures(rows, count) for part, count in PICTURES.items()},
            labels={
                part: torch.arange(len(rows)).repeat_interleave(count)
                for part, count in PICTURES.items()
            },
        )
        for rows in ((scenes // 2 == task).nonzero().squeeze(1) for task in range(TASKS))
    ]


def average_precisions(embedded: Tensor, facts: Facts) -> Tensor:
    """Return the average precision of each fact, [F], over the test pictures ranked by distance."""
    order = torch.cdist(facts.targets, embedded).argsort(1)
    relevant = facts.labels["test"][order] == torch.arange(len(facts.targets)).unsqueeze(1)
    precision = relevant.cumsum(1) / torch.arange(1, relevant.shape[1] + 1)
    return (precision * relevant).sum(1) / relevant.sum(1)
