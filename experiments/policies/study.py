"""Comparison of the policies of the structural manager on five permuted tasks.

    python experiments/policies/study.py [--workers 2]

Settings were chosen on seeds 0 to 3; seeds 4 to 8 are reported.
"""

import argparse
import itertools
import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
import torch.nn.functional as F

import growmas as gm
from growmas.config import MLPConfig
from growmas.data import batches, load_source, permuted_stream
from growmas.experiment import build_model

SEEDS = (4, 5, 6, 7, 8)
EPOCHS, RATE, STRENGTH, BATCH = 8, 0.003, 0.005, 128

GROW = gm.GrowPolicy(18)
WAYS = {  # name -> policies to grow, policies to prune, epochs before a step
    "none": (None, None, None),
    **{f"GrowPolicy({k})": (gm.GrowPolicy(k), None, None) for k in (8, 12, 18, 32)},
    "GrowBySaturation(0.3)": (gm.GrowBySaturation(0.3), None, None),
    "GrowBySaturation(0.25)": (gm.GrowBySaturation(0.25), None, None),
    "GrowByGain(0.25)": (gm.GrowByGain(0.25), None, None),
    "GrowByNeed(), 20 steps": (gm.GrowByNeed(), None, None),
    "OvergrowSelect(8), chosen at the end": (gm.OvergrowSelect(8), None, None),
    "OvergrowSelect(8), chosen after 4 epochs": (gm.OvergrowSelect(8), None, 4),
    "OvergrowSelect(8), chosen after 2 epochs": (gm.OvergrowSelect(8), None, 2),
    "GrowPolicy(18), ReplaceDead()": ([gm.ReplaceDead(), GROW], None, None),
    "GrowPolicy(18), PrunePolicy(0.05)": (GROW, gm.PrunePolicy(0.05), None),
    "GrowPolicy(18), PruneBelow(0.1)": (GROW, gm.PruneBelow(0.1), None),
    "GrowPolicy(18), PruneWithin(0.02)": (GROW, gm.PruneWithin(0.02), None),
    "GrowPolicy(18), PruneWithin(0.1)": (GROW, gm.PruneWithin(0.1), None),
}


def steps(model, mas, optimizer, task, data):
    for inputs, labels in data:
        loss = F.cross_entropy(model(inputs, task.head), labels)
        optimizer.zero_grad()
        loss.backward()
        mas.penalty_grad_()
        optimizer.step()
        yield float(loss.detach())


def trial_on(task):
    def trial(model, mas):
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        data = batches(task.train, BATCH, generator=torch.Generator().manual_seed(0))
        losses = list(steps(model, mas, optimizer, task, itertools.islice(data, 20)))
        return statistics.mean(losses[-5:])

    return trial


def accuracy(structure, task):
    model = structure.model
    with torch.no_grad(), structure.view(task.name):
        right = model(task.test.inputs, task.head).argmax(1) == task.test.labels
    return float(right.double().mean())


def measure(job):
    name, seed = job
    grow, prune, early = WAYS[name]
    torch.set_num_threads(1)
    stream = permuted_stream(
        load_source("mnist5k"), tasks=5, scenario="task",
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    config = MLPConfig(kind="mlp", hidden=(64, 64))
    model = build_model(config, stream.input_shape, stream.head_sizes, seed=seed)
    examples = stream.tasks[0].train.inputs[:8]
    structure = gm.Structure(model, examples, generator=torch.Generator().manual_seed(seed))
    mas = gm.MAS(model, strength=STRENGTH)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    manager = gm.StructuralManager(structure, mas=mas, optimizer=optimizer, grow=grow, prune=prune)
    shuffle = torch.Generator().manual_seed(seed)
    learnt = []
    for task in stream.tasks:
        few = list(itertools.islice(batches(task.train, 256), 4))
        manager.begin_task(
            task.name, few, trial=trial_on(task) if isinstance(grow, gm.GrowByNeed) else None,
            loss=lambda m, b, task=task: F.cross_entropy(m(b[0], task.head), b[1]),
        )  # fmt: skip
        inputs = [x for x, _ in batches(task.train, 256)]
        ask = {"forward": lambda m, x, task=task: m(x, task.head)}
        for epoch in range(EPOCHS):
            if epoch == early:
                manager.step(inputs, only=grow, **ask)
            for _ in steps(
                model, mas, optimizer, task, batches(task.train, BATCH, generator=shuffle)
            ):
                pass
        learnt.append(accuracy(structure, task))
        manager.end_task(inputs, **ask)
    final = [accuracy(structure, task) for task in stream.tasks]
    lost = statistics.mean(a - b for a, b in zip(learnt[:-1], final[:-1], strict=True))
    return statistics.mean(final), lost, structure.parameters


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print("| policies | average accuracy | lost since learnt | parameters |\n|---|---|---|---|")
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        for name in WAYS:
            rows = list(pool.map(measure, [(name, seed) for seed in SEEDS]))
            acc, lost, size = map(statistics.mean, zip(*rows, strict=True))
            spread = statistics.stdev(row[0] for row in rows)
            print(f"| `{name}` | {acc:.3f} ± {spread:.3f} | {lost:.3f} | {size:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
