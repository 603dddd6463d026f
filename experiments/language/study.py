"""A small language model learns one domain after another: perplexity against numbers kept.

    python experiments/language/study.py    # some two CPU hours; resumable
    python experiments/language/study.py --base long --learner "growing, auto"
    python experiments/language/study.py table      # the tables of README.md

For each base and learner two learning rates are compared on held-out windows of seed 0; the best
one learns seeds 1 to 3, and is tested once. results.jsonl has a line a run, and is continued.
"""

import argparse
import json
import math
import statistics
import warnings
from pathlib import Path

import torch
from domains import domains
from growing import Growing
from learners import Adapters, Copies, Learner, Size, Terms

RESULTS = Path(__file__).with_name("results.jsonl")
RATES = (3e-3, 1e-2)
SEEDS = (1, 2, 3)
STEPS = 200
BASES = {"short": STEPS, "long": 5 * STEPS}
FULL, SMALL = Size(), Size(inner=96)
LEARNERS = {
    "full copies, warm": lambda terms: Copies(FULL, terms, warm=True),
    "full copies, anew": lambda terms: Copies(FULL, terms, warm=False),
    "small copies, warm": lambda terms: Copies(Size(40, 80), terms, warm=True),
    "one network, fine-tuned": lambda terms: Learner(FULL, terms),
    "one network, averaged": lambda terms: Learner(FULL, terms, average=True),
    "one network, penalty": lambda terms: Growing(Size(40, 80), terms, protect="penalty", grow=0),
    "adapters, rank 8": lambda terms: Adapters(SMALL, terms, rank=8),
    "growing, frozen": lambda terms: Growing(SMALL, terms, protect="old", grow=40),
    "growing, frozen, in pairs": lambda terms: Growing(
        SMALL, terms, protect="old", grow=40, init="paired"
    ),
    "growing, averaged": lambda terms: Growing(FULL, terms, protect="average", grow=32, heads=0),
    "growing, averaged, nothing own": lambda terms: Growing(
        FULL, terms, protect="average", grow=32, heads=0, own=False
    ),
    "growing, light penalty": lambda terms: Growing(
        FULL, terms, protect="penalty", grow=32, heads=0, scales=(0.1,)
    ),
    "growing, auto": lambda terms: Growing(SMALL, terms, protect="auto", grow=40),
    "growing, auto, small": lambda terms: Growing(Size(40, 60), terms, protect="auto", grow=16),
}


def run(base, name, rate, seed):
    """Return the line of a run; it is made if the file does not have it."""
    key = {"base": base, "learner": name, "rate": rate, "seed": seed}
    for line in lines():
        if all(line[each] == value for each, value in key.items()):
            return line
    terms = Terms(domains(), rate, STEPS, BASES[base], seed)
    learner = LEARNERS[name](terms)
    after = []
    for place, domain in enumerate(terms.domains):
        learner.learn(place)
        after.append(learner.nats(place, domain.test))
    validation = [learner.nats(i, each.validation) for i, each in enumerate(terms.domains)]
    test = [learner.nats(i, each.test) for i, each in enumerate(terms.domains)]
    line = {
        **key,
        "validation": perplexity(validation),
        "test": perplexity(test),
        "of": [round(math.exp(each), 3) for each in test],
        "forgetting": round(perplexity(test) - perplexity(after), 3),
        "to_answer": learner.to_answer,
        "numbers": learner.numbers,
        "choice": learner.choice,
    }
    print(json.dumps(line, ensure_ascii=False), flush=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return line


def perplexity(nats):
    """Return the geometric mean of the perplexities a byte."""
    return round(math.exp(statistics.mean(nats)), 3)


def lines():
    return [json.loads(each) for each in RESULTS.open(encoding="utf-8")] if RESULTS.exists() else []


def table(base):
    """Print the test perplexities of a base, each beside full copies of the same seeds."""
    found = [line for line in lines() if line["base"] == base and line["seed"] in SEEDS]
    full = {line["seed"]: line for line in found if line["learner"] == "full copies, warm"}
    print(
        "| learner | rate | seeds | perplexity | × full copies | of each domain | forgetting "
        "| numbers to answer | and to learn on | chosen |"
    )
    print(f"|{'---|' * 10}")
    for name in LEARNERS:
        mine = [line for line in found if line["learner"] == name]
        if not mine:
            continue
        tests = [line["test"] for line in mine]
        spread = f" ± {statistics.stdev(tests):.2f}" if len(tests) > 1 else ""
        each = ", ".join(
            f"{statistics.mean(of):.2f}" for of in zip(*(m["of"] for m in mine), strict=True)
        )
        beside = [m["test"] / full[m["seed"]]["test"] for m in mine if m["seed"] in full]
        ratio = f"{statistics.mean(beside):.2f}" if beside else ""
        lost = statistics.mean(line["forgetting"] for line in mine)
        chosen = {line["choice"].partition(":")[2].partition("(")[0].strip() for line in mine}
        print(
            f"| {name} | {mine[0]['rate']:g} | {len(mine)} | {statistics.mean(tests):.2f}{spread} "
            f"| {ratio} | {each} | {lost:.2f} | {mine[0]['to_answer']:,} | {mine[0]['numbers']:,} "
            f"| {'; '.join(sorted(chosen - {''}))} |"
        )


def main():
    """Run what is missing, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("run", "table"), default="run")
    parser.add_argument("--base", choices=[*BASES], action="append")
    parser.add_argument("--learner", choices=[*LEARNERS], action="append")
    parser.add_argument("--seed", type=int, choices=SEEDS, action="append")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # a strength that rules, groups that grow approximately
    for base in given.base or BASES:
        if given.what == "table":
            table(base)
            continue
        for name in given.learner or LEARNERS:
            tried = [run(base, name, rate, 0) for rate in RATES]
            rate = min(tried, key=lambda line: line["validation"])["rate"]
            for seed in given.seed or SEEDS:
                run(base, name, rate, seed)


if __name__ == "__main__":
    main()
