"""Accuracy, refusals and cost of contexts.

    python experiments/contexts/measure.py

On mnist5k: five pairs of digits, and ten permutations of the pixels. Nothing is tuned.
"""

import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

import growmas as gm
from growmas.config import MLPConfig
from growmas.data import batches, load_source, permuted_stream, split_stream
from growmas.experiment import build_model

SEEDS = (0, 1, 2, 3, 4)


def streams(source):
    seeded = torch.Generator().manual_seed(0)
    return {
        "split": split_stream(source, tasks=5, scenario="task", generator=seeded),
        "permuted": permuted_stream(source, tasks=10, scenario="task", generator=seeded),
    }


def learnt(stream, per, seed, *, threshold=None, features=100, filters=False):
    """Return a context of all tasks; with a threshold, a fifth of each class is for calibration."""
    extract = gm.RandomFilters(seed=seed) if filters else None
    context = gm.GaussianContext(features, per, seed=seed, threshold=threshold, extract=extract)
    for task in stream.tasks:
        apart = torch.zeros(len(task.train), dtype=torch.bool)
        if threshold is not None:
            for label in task.train.labels.unique():
                apart[(task.train.labels == label).nonzero().squeeze(1)[4::5]] = True
        context.update(task.name, task.train.inputs[~apart], task.train.labels[~apart])
        if threshold is not None:
            context.calibrate(task.train.inputs[apart])
    return context


def test_data(stream):
    tasks = torch.cat([torch.full((len(t.test),), t.index) for t in stream.tasks])
    return (
        torch.cat([t.test.inputs for t in stream.tasks]),
        torch.cat([t.test.labels for t in stream.tasks]),
        tasks,
    )


def share(right):
    return float(right.double().mean())


def identification(name, stream):
    inputs, labels, tasks = test_data(stream)
    ways = {
        "Gaussian per task": ("task", {}),
        "Gaussian per class": ("class", {}),
        "Gaussian per class, 200 projections of random filters": (
            "class",
            {"features": 200, "filters": True},
        ),
    }
    for way, (per, options) in ways.items():
        if options and name == "permuted":
            continue  # permuted pixels have no neighbours
        named, alone = [], []
        for seed in SEEDS:
            context = learnt(stream, per, seed, **options)
            named.append(share(context.select(inputs) == tasks))
            if per == "class":
                found = [context.components[i] for i in context.class_scores(inputs).argmax(1)]
                truth = zip(tasks.tolist(), labels.tolist(), strict=True)
                wanted = [(stream.tasks[task].name, label) for task, label in truth]
                right = [a == b if name == "split" else a[1] == b[1] for a, b in zip(
                    found, wanted, strict=True)]  # fmt: skip
                alone.append(statistics.mean(right))
        tail = f"{statistics.mean(alone):.3f}" if alone else ""
        print(f"| {name} | {way} | {statistics.mean(named):.3f} | {tail} |", flush=True)


def confidence(name, stream, seed=0, epochs=6):
    """Print the accuracy of the views' confidence, with 64 + 26 units per task."""
    config = MLPConfig(kind="mlp", hidden=(64, 64))
    model = build_model(config, stream.input_shape, stream.head_sizes, seed=seed)
    structure = gm.Structure(model, stream.tasks[0].train.inputs[:8])
    mas = gm.MAS(model, strength=0.02)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    manager = gm.StructuralManager(structure, mas=mas, optimizer=optimizer, grow=gm.GrowPolicy(26))
    contexts = {
        "entropy of the views": gm.EntropyContext(),
        "energy of the views": gm.EnergyContext(),
    }
    shuffle = torch.Generator().manual_seed(seed)
    for task in stream.tasks:
        manager.begin_task(task.name)
        for _ in range(epochs):
            for x, y in batches(task.train, 64, generator=shuffle):
                loss = F.cross_entropy(model(x, task.head), y)
                optimizer.zero_grad()
                loss.backward()
                mas.penalty_grad_()
                optimizer.step()
        forward = lambda m, x, head=task.head: m(x, head)  # noqa: E731
        manager.end_task([x for x, _ in batches(task.train, 256)], forward=forward)
        for context in contexts.values():
            context.update(task.name)
    inputs, _, tasks = test_data(stream)
    answers = gm.view_answers(structure, inputs, forward=lambda m, x, task: m(x, task))
    for way, context in contexts.items():
        print(f"| {name} | {way} | {share(context.select(inputs, answers) == tasks):.3f} | |")


def refusal(name, stream, source):
    inputs, _, _ = test_data(stream)
    seeded = torch.Generator().manual_seed(9)
    test = source.test_inputs
    strangers = {
        "another permutation": test.flatten(1)[:, torch.randperm(784, generator=seeded)],
        "uniform noise": torch.rand(1000, 784, generator=seeded),
        "inverted": 1 - test.flatten(1),
        "transposed": test.transpose(2, 3).flatten(1),
    }
    for threshold in (0.95, 0.99):
        context = learnt(stream, "task", 0, threshold=threshold)
        row = [share(context.select(x) == gm.UNKNOWN) for x in (inputs, *strangers.values())]
        print(f"| {name} | {threshold} | " + " | ".join(f"{value:.3f}" for value in row) + " |")
    uncalibrated = learnt(stream, "task", 0)
    print(f"<!-- {name}: beyond the 99% of χ², uncalibrated: "
          f"{share(uncalibrated.novelty(inputs) >= 0.99):.3f} of known inputs -->")  # fmt: skip


def cost():
    network = nn.Sequential(
        nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )
    inputs = torch.rand(256, 784)
    for tasks in (5, 10):
        context = gm.GaussianContext()
        for task in range(tasks):
            context.update(task, torch.rand(1024, 784))
        ratios = []
        for _ in range(31):
            start = time.perf_counter()
            with torch.no_grad():
                network(inputs)
            middle = time.perf_counter()
            context.select(inputs)
            ratios.append((time.perf_counter() - middle) / (middle - start))
        print(f"| {tasks} | {statistics.median(ratios):.2f}× |")


def main():
    torch.set_num_threads(1)
    source = load_source("mnist5k")
    print("| stream | context | right task | class Gaussians alone, right class |")
    print("|---|---|---|---|")
    for name, stream in streams(source).items():
        identification(name, stream)
        confidence(name, stream)
    print("\n| stream | threshold | known inputs refused | another permutation | uniform noise "
          "| inverted | transposed |\n|---|---|---|---|---|---|---|")  # fmt: skip
    for name, stream in streams(source).items():
        refusal(name, stream, source)
    print("\n| tasks | select(), over a forward pass of 784-256-256-10 at batch 256 |\n|---|---|")
    cost()


if __name__ == "__main__":
    main()
