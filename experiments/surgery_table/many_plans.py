"""Many random plans in a row on every Hugging Face model: failures, drift and leaks.

    python experiments/surgery_table/many_plans.py [--plans 200]       about 5 minutes

Every plan prunes and grows up to three units in two groups, an Adam following. "Drift" is the
largest change of the output by any plan that only grew, over the largest output; "tensors" those
alive half-way and at the end. At the end a new analysis must find the units where the structure,
which carried them along through all plans, holds them. The tests do the same with 20 plans, and
with 200 on 20 small networks.
"""

import argparse
import gc
import random
import time

import torch
import transformer_models

from growmas import Plan, Structure
from growmas.batches import float_tensors


def outputs(model, inputs):
    with torch.no_grad():
        return float_tensors(model(**inputs))


def change(before, after):
    return max(
        float((a - b).abs().max() / b.abs().max()) for a, b in zip(after, before, strict=True)
    )


def tensors_alive():
    gc.collect()
    return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())


def units(structure):
    return {
        name: {
            tuple((m.layer, m.side, tuple(sorted(m.positions[i].tolist()))) for m in group.members)
            for i in range(group.width)
        }
        for name, group in structure.groups.items()
    }


def random_plan(structure, widths, drawn):
    """Two groups, each kept within two units of its first width."""
    prune, grow = {}, {}
    for name in drawn.sample(sorted(widths), k=min(2, len(widths))):
        group = structure.groups[name]
        spare = max(0, group.width - 2) if group.can_shrink else 0
        prune[name] = drawn.sample(group.unit_ids, k=drawn.randint(0, min(spare, 3)))
        room = max(0, widths[name] + 2 - group.width + len(prune[name]))
        grow[name] = drawn.randint(0, min(room, 3)) if group.can_grow else 0
    return Plan(prune=prune, grow=grow)


def measure(name, plans):
    model, inputs = transformer_models.example(name)
    model.eval()
    structure = Structure(model, inputs, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    sum(t.square().mean() for t in float_tensors(model(**inputs))).backward()
    optimizer.step()
    widths = {group.name: group.width for group in structure.groups.values()}
    drawn, drift, alive, start = random.Random(0), 0.0, [], time.perf_counter()
    for number in range(plans):
        if number in (plans // 2, plans - 1):
            alive.append(tensors_alive())
        plan = random_plan(structure, widths, drawn)
        before = None if any(plan.prune.values()) else outputs(model, inputs)
        structure.apply(plan, followers=[optimizer])
        if before is not None:
            drift = max(drift, change(before, outputs(model, inputs)))
    taken = time.perf_counter() - start
    same = units(Structure(model, inputs)) == units(structure)
    followed = set(optimizer.state) == {p for p in model.parameters() if p.requires_grad}
    found = "yes" if same and followed else "NO"
    return f"| {name} | {drift:.1e} | {alive[0]} → {alive[1]} | {found} | {taken:.0f} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plans", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | drift | tensors | found anew | seconds |\n|---|---|---|---|---|")
    for name in transformer_models.MODELS:
        print(measure(name, options.plans), flush=True)
    print(f"\n{options.plans} plans in a row on each; none was refused or rolled back")


if __name__ == "__main__":
    main()
