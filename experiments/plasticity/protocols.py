"""Streams of tasks that never end: permuted pixels, random labels, and a slowly changing target."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from growmas.data.sources import load_source

BATCH = 16
PERMUTATIONS, SAMPLES = 80, 1_000
LABELLINGS, IMAGES, EPOCHS = 25, 1_200, 15
TARGETS, STEPS = 40, 250


@dataclass(frozen=True)
class Lesson:
    """One task: the batches in order, and what counts as its score.

    Attributes:
        batches: Inputs and labels, in the order in which they are learnt.
        exam: Batches to score after the task; None scores each batch before it is learnt.
    """

    batches: list[tuple[Tensor, Tensor]]
    exam: list[tuple[Tensor, Tensor]] | None = None


def images() -> tuple[Tensor, Tensor]:
    """Return the 4,000 training images of MNIST-5k, flat, and their labels."""
    source = load_source("mnist5k")
    return source.train_inputs.flatten(1), source.train_labels


def permutations(seed: int, tasks: int = PERMUTATIONS) -> Iterator[Lesson]:
    """Yield tasks of 1,000 images whose pixels are permuted in one way for each task."""
    x, y = images()
    generator = torch.Generator().manual_seed(seed)
    for _ in range(tasks):
        order = torch.randperm(784, generator=generator)
        chosen = torch.randperm(len(x), generator=generator)[:SAMPLES]
        yield Lesson([(x[i][:, order], y[i]) for i in chosen.split(BATCH)])


def gradual(seed: int, tasks: int = PERMUTATIONS) -> Iterator[Lesson]:
    """Yield permutations that give way to the next one image by image.

    In the second half of a task the share of images with the pixels of the next permutation rises
    from 0 to 1.
    """
    x, y = images()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(784, generator=generator)
    for _ in range(tasks):
        following = torch.randperm(784, generator=generator)
        chosen = torch.randperm(len(x), generator=generator)[:SAMPLES]
        share = torch.linspace(-1, 1, SAMPLES)
        moved = torch.rand(SAMPLES, generator=generator) < share
        rows = torch.where(moved[:, None], x[chosen][:, following], x[chosen][:, order])
        batches = zip(rows.split(BATCH), y[chosen].split(BATCH), strict=True)
        yield Lesson(list(batches))
        order = following


def single(seed: int, tasks: int = 20) -> Iterator[Lesson]:
    """Yield permutations of 1,000 images that come one by one, as in Elsayed and Mahmood (2024).

    They learn 200 permutations of 5,000 images; these are 20 of 1,000.
    """
    for lesson in permutations(seed, tasks):
        images_of, labels = (torch.cat(parts) for parts in zip(*lesson.batches, strict=True))
        yield Lesson(list(zip(images_of.split(1), labels.split(1), strict=True)))


def classes(seed: int, periods: int = 12) -> Iterator[Lesson]:
    """Yield periods in which two more classes come with each of five tasks, and then all go.

    A task has 600 images of all classes of its period so far, learnt once, and is scored on 200
    others. The next period permutes the pixels anew and brings the classes in another order.
    """
    x, y = images()
    generator = torch.Generator().manual_seed(seed)
    for _ in range(periods):
        order = torch.randperm(784, generator=generator)
        kinds = torch.randperm(10, generator=generator)
        for known in range(2, 11, 2):
            of = torch.isin(y, kinds[:known]).nonzero().flatten()
            chosen = of[torch.randperm(len(of), generator=generator)]
            learnt, held = (
                [(x[i][:, order], y[i]) for i in part.split(BATCH)]
                for part in (chosen[:600], chosen[600:800])
            )
            yield Lesson(learnt, exam=held)


def labellings(
    seed: int, tasks: int = LABELLINGS, samples: int = IMAGES, epochs: int = EPOCHS
) -> Iterator[Lesson]:
    """Yield tasks of the same images, with labels drawn anew for each task."""
    x, _ = images()
    generator = torch.Generator().manual_seed(seed)
    x = x[torch.randperm(len(x), generator=generator)[:samples]]
    for _ in range(tasks):
        y = torch.randint(10, (samples,), generator=generator)
        batches = []
        for _ in range(epochs):
            order = torch.randperm(samples, generator=generator)
            batches += [(x[i], y[i]) for i in order.split(BATCH)]
        yield Lesson(batches, exam=batches[-len(order.split(BATCH)) :])


def long_labellings(seed: int) -> Iterator[Lesson]:
    """Yield 15 labellings of 1,200 images, 30 passes each."""
    return labellings(seed, tasks=15, epochs=30)


def short_labellings(seed: int) -> Iterator[Lesson]:
    """Yield 12 labellings of 320 images, 15 passes each."""
    return labellings(seed, tasks=12, samples=320, epochs=15)


def regression(seed: int, tasks: int = TARGETS) -> Iterator[Lesson]:
    """Yield stretches of 250 batches of the slowly changing regression of Dohare et al. (2024).

    Fifteen of 20 input bits are constant but for one that flips after each stretch, five are drawn
    for every sample. The target is a fixed network of 100 linear threshold units with weights ±1.
    """
    generator = torch.Generator().manual_seed(seed)
    inner = torch.randint(2, (20, 100), generator=generator) * 2.0 - 1
    limit = 20 * 0.7 - (inner < 0).sum(0)
    outer = (torch.randint(2, (100, 1), generator=generator) * 2.0 - 1) / 10
    slow = torch.randint(2, (15,), generator=generator).float()
    for _ in range(tasks):
        place = int(torch.randint(15, (), generator=generator))
        slow[place] = 1 - slow[place]
        fast = torch.randint(2, (STEPS, BATCH, 5), generator=generator).float()
        x = torch.cat([slow.expand(STEPS, BATCH, 15), fast], 2)
        y = (x @ inner > limit).float() @ outer
        yield Lesson(list(zip(x, y, strict=True)))


PROTOCOLS: dict[str, Callable[..., Iterator[Lesson]]] = {
    "permutations": permutations,
    "one by one": single,
    "classes": classes,
    "gradual": gradual,
    "labellings": labellings,
    "long labellings": long_labellings,
    "short labellings": short_labellings,
    "regression": regression,
}
