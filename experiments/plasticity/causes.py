"""Why random labels are learnt worse: replacement in fresh networks, and branches of one stream.

python experiments/plasticity/causes.py --fresh           # one labelling from fresh networks
python experiments/plasticity/causes.py --branches        # one stream, changed at a labelling
"""

import argparse
import statistics
from collections.abc import Callable, Iterable, Mapping
from multiprocessing import get_context
from typing import Any

import torch
import torch.nn.functional as F
from learning import optimizer_of
from networks import mlp
from protocols import Lesson, labellings

import growmas as gm

DRAWS, BRANCHED_AT = 6, 6

FRESH: Mapping[str, dict[str, Any] | None] = {
    "nothing": None,
    "rms": {},
    "activation": {"utility": "activation"},
    "activation, first layer left alone": {"utility": "activation", "protected": ("0",)},
    "activation, second layer left alone": {"utility": "activation", "protected": ("2",)},
    "activation, 0.05": {"utility": "activation", "threshold": 0.05},
    "activation, 0.01": {"utility": "activation", "threshold": 0.01},
}
"""Settings of the replacement in a fresh network; None replaces nothing."""


class Scene:
    """A network that learns labellings, with its optimizer and the replacement.

    Attributes:
        plasticity: The replacement; None replaces nothing.
    """

    def __init__(self, seed: int, settings: dict[str, Any] | None) -> None:
        """Start afresh."""
        torch.manual_seed(seed)
        self.net = mlp()
        self.structure = gm.Structure(self.net, torch.rand(4, 784))
        self.optimizer = optimizer_of("adam", self.net)
        self.plasticity = (
            None
            if settings is None
            else gm.Plasticity(self.structure, self.optimizer, gm.ReplaceLowUtility(**settings))
        )

    def learn(self, lesson: Lesson) -> float:
        """Learn a labelling and return the accuracy on it."""
        for x, y in lesson.batches:
            loss = F.cross_entropy(self.net(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if self.plasticity is not None:
                self.plasticity.step()
        right = total = 0
        with torch.no_grad():
            for x, y in lesson.exam or ():
                right, total = right + int((self.net(x).argmax(1) == y).sum()), total + len(y)
        return right / total

    def renew(self, layer: str, key: Callable[[int], float]) -> None:
        """Let the half of a layer's units with the smaller keys be born again."""
        group = self.structure.groups[layer]
        order = sorted(range(group.width), key=key)[: group.width // 2]
        units = {layer: [group.unit_ids[i] for i in order]}
        followers = [self.optimizer, *(self.plasticity.warmups if self.plasticity else ())]
        self.structure.renew(units, followers=followers)

    def older_half(self, layer: str) -> None:
        """Let the older half of a layer be born again."""
        ids = self.structure.groups[layer].unit_ids
        self.renew(layer, lambda index: ids[index])

    def larger_half(self, layer: str) -> None:
        """Let the half of a layer with the longer rows be born again."""
        rows = self.net.get_submodule(layer).weight.detach().norm(dim=1)
        self.renew(layer, lambda index: -float(rows[index]))

    def cut_rows(self) -> None:
        """Cut rows that are longer than their layer's mean to it, with their biases."""
        with torch.no_grad():
            for layer in (self.net[0], self.net[2]):
                lengths = layer.weight.norm(dim=1)
                factor = (lengths.mean() / lengths).clamp(max=1)
                layer.weight.mul_(factor[:, None])
                layer.bias.mul_(factor)

    def stop(self) -> None:
        """Replace nothing from now on."""
        self.plasticity = None


BRANCHES: Mapping[str, Callable[[Scene], object]] = {
    "nothing is changed": lambda scene: None,
    "nothing is replaced": Scene.stop,
    "the older half of the first layer": lambda scene: scene.older_half("0"),
    "the older half of the second layer": lambda scene: scene.older_half("2"),
    "the larger half of the second layer": lambda scene: scene.larger_half("2"),
    "rows cut to the mean length": Scene.cut_rows,
}
"""What is done at the start of a labelling."""


def fresh() -> Iterable[str]:
    """Yield accuracy and units replaced of one labelling each, with standard errors."""
    for name, settings in FRESH.items():
        found, replaced = [], []
        for draw, lesson in enumerate(labellings(0, tasks=DRAWS)):
            scene = Scene(4000 + draw, settings)
            found.append(scene.learn(lesson))
            replaced.append(scene.plasticity.replaced if scene.plasticity else 0)
        error = statistics.stdev(found) / DRAWS**0.5
        mean, count = statistics.mean(found), round(statistics.mean(replaced))
        yield f"| {name} | {mean:.3f} ± {error:.3f} | {count} |"


def branches() -> Iterable[str]:
    """Yield the accuracy on a labelling of branches of one stream, which start with it.

    A branch is a copy of the process, so that nothing of the stream is shared; not on Windows.
    """
    scene = Scene(1000, {})
    for task, lesson in enumerate(labellings(0, tasks=BRANCHED_AT + 1)):
        if task == BRANCHED_AT:
            for name, change in BRANCHES.items():
                yield f"| {name} | {_apart(scene, change, lesson):.3f} |"
        else:
            scene.learn(lesson)


def _apart(scene: Scene, change: Callable[[Scene], object], lesson: Lesson) -> float:
    """Return the accuracy on a labelling after a change, in a copy of this process."""
    context = get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    child = context.Process(target=_branch, args=(scene, change, lesson, writer))
    child.start()
    found = float(reader.recv())
    child.join()
    return found


def _branch(scene: Scene, change: Callable[[Scene], object], lesson: Lesson, writer: Any) -> None:
    torch.manual_seed(5)
    change(scene)
    writer.send(scene.learn(lesson))


def main() -> None:
    """Print a table, or both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--branches", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if given.fresh or not given.branches:
        print(
            "| replaced in a fresh network | accuracy | units replaced |", "|---|---|---|", sep="\n"
        )
        for line in fresh():
            print(line, flush=True)
    if given.branches or not given.fresh:
        print("| at the start of a labelling | accuracy |", "|---|---|", sep="\n")
        for line in branches():
            print(line, flush=True)


if __name__ == "__main__":
    main()
