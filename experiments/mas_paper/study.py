"""The claims of Memory Aware Synapses at small scale: tuned on seed 0, reported on seeds 1 to 5.

python experiments/mas_paper/study.py [--part objective|data|user|facts|strength] [--workers 2]
"""

import argparse
import json
import statistics
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F
from facts import FEATURES, SPORTS, average_precisions, make_facts

from growmas import MAS, hebbian_importance, mas_importance
from growmas.data import Split, batches, load_source, permuted_stream
from growmas.metrics import average_accuracy, backward_transfer
from growmas.models import MLP

SEEDS = (1, 2, 3, 4, 5)
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
IMPORTANCE = {
    "squared norm": mas_importance,
    "vector": partial(mas_importance, function="vector"),
    "l-MAS": hebbian_importance,
}
EPOCHS, BATCH, RATE = 3, 64, 1e-3


def train(model, split, loss_of, seed, mas=None, epochs=EPOCHS):
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for inputs, labels in batches(split, BATCH, generator=generator):
            optimizer.zero_grad()
            loss = loss_of(model, inputs, labels)
            (loss if mas is None else loss + mas.penalty()).backward()
            optimizer.step()


def classification(model, inputs, labels, head=0):
    return F.cross_entropy(model(inputs, head), labels)


@torch.no_grad()
def accuracy(model, split, head=0):
    return float((model(split.inputs, head).argmax(1) == split.labels).float().mean())


def fresh_mlp(shape, hidden, heads, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MLP(shape, hidden, heads)


def pixels(seed, method, data, strength, normalize=None, tasks=5):
    """Return ACC and BWT on permuted mnist5k with one head."""
    stream = permuted_stream(
        load_source("mnist5k"),
        tasks=tasks,
        scenario="domain",
        generator=torch.Generator().manual_seed(seed),
    )
    model = fresh_mlp(stream.input_shape, [256, 256], stream.head_sizes, seed)
    mas = MAS(model, strength=strength, normalize=normalize) if method != "finetune" else None
    matrix = []
    for task in stream.tasks:
        train(model, task.train, classification, seed, mas)
        if mas is not None:
            seen = {"training": [task.train], "test": [task.test], "both": [task.train, task.test]}
            inputs = torch.cat([split.inputs for split in seen[data]])
            mas.consolidate(IMPORTANCE[method](model, inputs.split(250)))
        matrix.append([accuracy(model, other.test) for other in stream.tasks])
    return {"ACC": average_accuracy(matrix), "BWT": backward_transfer(matrix)}


def user(seed, adapted, strength, kinds):
    """Learn classes, then other tasks; return what classes that a user meets, and others, lose.

    With one kind of classes, they are the digits, and the user meets five of them. With two kinds,
    the user meets the digits; the others are the same digits with their pixels permuted.
    """
    generator = torch.Generator().manual_seed(seed)
    stream = permuted_stream(
        load_source("mnist5k"), tasks=kinds + 3, scenario="domain", generator=generator
    )
    first, later = stream.tasks[:kinds], stream.tasks[kinds:]
    learnt, test = (
        Split(
            torch.cat([part(task).inputs for task in first]),
            torch.cat([part(task).labels + 10 * kind for kind, task in enumerate(first)]),
        )
        for part in (lambda task: task.train, lambda task: task.test)
    )
    met = torch.randperm(10, generator=generator)[:5] if kinds == 1 else torch.arange(10)
    shown, asked = (torch.isin(split.labels, met) for split in (learnt, test))
    groups = {"met": Split(test.inputs[asked], test.labels[asked]),
              "others": Split(test.inputs[~asked], test.labels[~asked])}  # fmt: skip
    model = fresh_mlp(stream.input_shape, [64, 64], [10 * kinds], seed)
    train(model, learnt, classification, seed, epochs=5)
    before = {name: accuracy(model, part) for name, part in groups.items()}
    mas = protected(model, learnt.inputs, shown, adapted, strength)
    for task in later:
        train(model, task.train, classification, seed, mas)
    after = {name: accuracy(model, part) for name, part in groups.items()}
    later = statistics.mean(accuracy(model, task.test) for task in later)
    drops = {f"drop {name}": before[name] - after[name] for name in groups}
    return {**drops, "later": later, "ACC": (accuracy(model, test) + later) / 2}


def protected(model, inputs, shown, adapted, strength):
    """Return a penalty: importance on everything learnt, then adapted to what is used."""
    if adapted == "finetune":
        return None
    mas = MAS(model, strength=strength)
    mas.consolidate(inputs.split(250))
    if adapted != "all":
        mas.adapt(inputs[shown if adapted == "met" else ~shown].split(250))
    return mas


def start_on_facts(seed):
    groups = make_facts(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [torch.nn.Linear(FEATURES, 128), torch.nn.Linear(128, 128)]
        last = torch.nn.Linear(128, groups[0].targets.shape[1])
    relu = torch.nn.ReLU()
    return groups, torch.nn.Sequential(layers[0], relu, layers[1], relu, last)


def learn_facts(model, group, seed, mas):
    def distance(model, inputs, labels):
        return (model(inputs) - group.targets[labels]).square().sum(1).mean()

    train(model, Split(group.inputs["train"], group.labels["train"]), distance, seed, mas, 20)


@torch.no_grad()
def precisions(model, group):
    return average_precisions(model(group.inputs["test"]), group)


def facts(seed, method, strength):
    """Return the mean average precision over four groups of facts, learnt in sequence."""
    groups, model = start_on_facts(seed)
    mas = None if method == "finetune" else MAS(model, strength=strength)
    matrix = []
    for group in groups:
        learn_facts(model, group, seed, mas)
        if mas is not None:
            mas.consolidate(IMPORTANCE[method](model, group.inputs["train"].split(250)))
        matrix.append([float(precisions(model, other).mean()) for other in groups])
    return {"ACC": average_accuracy(matrix), "BWT": backward_transfer(matrix)}


def facts_user(seed, adapted, strength):
    """Learn two groups of facts; return what is left of the sports, which a user asks about."""
    (first, second, *_), model = start_on_facts(seed)
    learn_facts(model, first, seed, None)
    shown, mine = first.scenes[first.labels["train"]] == SPORTS, first.scenes == SPORTS
    before = precisions(model, first)
    mas = protected(model, first.inputs["train"], shown, adapted, strength)
    learn_facts(model, second, seed, mas)
    after, learnt = precisions(model, first), float(precisions(model, second).mean())
    return {
        "before met": float(before[mine].mean()), "after met": float(after[mine].mean()),
        "before others": float(before[~mine].mean()), "after others": float(after[~mine].mean()),
        "later": learnt, "ACC": (float(after.mean()) + learnt) / 2,
    }  # fmt: skip


def tuned(pool, measure, conditions, strengths):
    """Return the strength with the best ACC on seed 0, for each condition."""
    jobs = [(0, *condition, strength) for condition in conditions for strength in strengths]
    rows = list(pool.map(call, [(measure, job) for job in jobs]))
    best = {}
    for (_, *condition, strength), row in zip(jobs, rows, strict=True):
        best.setdefault(tuple(condition), []).append((row["ACC"], -strength))
    return {condition: -max(found)[1] for condition, found in best.items()}


def reported(pool, measure, settings):
    """Return the rows of seeds 1 to 5 for each setting, which are the arguments after the seed."""
    jobs = [(seed, *setting) for setting in settings for seed in SEEDS]
    rows = iter(pool.map(call, [(measure, job) for job in jobs]))
    return {setting: [next(rows) for _ in SEEDS] for setting in settings}


def call(job):
    measure, arguments = job
    torch.set_num_threads(1)
    return measure(*arguments)


def table(title, names, found):
    """Print means and standard deviations over seeds, in percentage points."""
    keys = list(next(iter(found.values()))[0])
    print(f"\n**{title}**\n\n| {' | '.join([*names, *keys])} |", flush=True)
    print("|" + "---|" * len([*names, *keys]))
    for setting, rows in found.items():
        cells = [
            f"{100 * statistics.mean(row[key] for row in rows):.1f} ± "
            f"{100 * statistics.stdev(row[key] for row in rows):.1f}"
            for key in keys
        ]
        print(f"| {' | '.join(map(str, setting))} | {' | '.join(cells)} |", flush=True)
    return [{"setting": setting, "seeds": rows} for setting, rows in found.items()]


def part_objective(pool):
    conditions = [(method, "training") for method in IMPORTANCE]
    best = tuned(pool, pixels, conditions, STRENGTHS)
    settings = [("finetune", "training", 0.0), *((*c, s) for c, s in best.items())]
    return table("Objective", ("importance", "data", "λ"), reported(pool, pixels, settings))


def part_data(pool):
    conditions = [("squared norm", data) for data in ("training", "test", "both")]
    best = tuned(pool, pixels, conditions[:1], STRENGTHS)[conditions[0]]
    settings = [(*condition, best) for condition in conditions]
    return table("Data", ("importance", "data", "λ"), reported(pool, pixels, settings))


def part_user(pool):
    tables = []
    for kinds in (1, 2):
        best = tuned(pool, partial(user, kinds=kinds), [("all",)], (0.001, 0.003, 0.01, 0.03))
        settings = [(adapted, best["all",]) for adapted in ("finetune", "all", "met", "others")]
        found = reported(pool, partial(user, kinds=kinds), settings)
        tables += table(f"User, {kinds} kinds of classes", ("importance on", "λ"), found)
    return tables


def part_facts(pool):
    conditions = [(method,) for method in ("squared norm", "l-MAS")]
    best = tuned(pool, facts, conditions, STRENGTHS)
    settings = [("finetune", 0.0), *((*c, s) for c, s in best.items())]
    tables = table("Facts", ("importance", "λ"), reported(pool, facts, settings))
    best = tuned(pool, facts_user, [("all",)], STRENGTHS)["all",]
    settings = [(adapted, best) for adapted in ("finetune", "all", "met", "others")]
    found = reported(pool, facts_user, settings)
    return tables + table("Facts, a user's", ("importance on", "λ"), found)


def part_strength(pool):
    settings = [
        ("squared norm", "training", 10.0**exponent, normalize)
        for normalize in (None, "mean")
        for exponent in range(-5, 2)
    ]
    names = ("importance", "data", "λ", "normalize")
    return table("Strength", names, reported(pool, pixels, settings))


PARTS = {
    "objective": part_objective,
    "data": part_data,
    "user": part_user,
    "facts": part_facts,
    "strength": part_strength,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=tuple(PARTS), action="append")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write all numbers to this JSON file")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        found = {part: PARTS[part](pool) for part in options.part or PARTS}
    if options.out:
        options.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
