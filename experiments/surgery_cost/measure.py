"""The cost of surgery: discovery against torch-pruning's own graph, edits against a plain copy.

    python experiments/surgery_cost/measure.py [--device cpu] [--edits 1000]

Every ratio compares two times of one run, measured in turn. On a CPU they are processor times,
which do not count waiting for other processes; medians are printed, and lower quartiles for quiet
moments.
"""

import argparse
import gc
import resource
import statistics
import time

import torch
import torch_pruning as tp
from torch import nn
from transformers import (
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification as ViT,
)

import growmas as gm

NETWORKS = {
    "ResNet-50": lambda: ResNetForImageClassification(ResNetConfig()),
    "ViT-B/16": lambda: ViT(ViTConfig()),
}


def logits(model, images):
    return model(images).logits


def seconds(device, work):
    if device == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def discovery(model, images, device, repeats):
    def build():
        tp.DependencyGraph().build_dependency(model, images, forward_fn=logits, verbose=False)

    def discover():
        gm.Structure(model, images, forward=logits)

    pairs = [(seconds(device, build), seconds(device, discover)) for _ in range(repeats)]
    built, found = (statistics.median(column) for column in zip(*pairs, strict=True))
    return built, found, statistics.median(found / built for built, found in pairs)


def edits(structure, names, device, repeats):
    """Grow groups by a sixteenth and prune them again; time both, and a copy of the tensors.

    Returns:
        Numbers changed, then growing, pruning and the copy: the median and the lower quartile.
    """
    rows = []
    for _ in range(repeats):
        plan = gm.Plan(grow={n: max(1, structure.groups[n].width // 16) for n in names})
        found = {}

        def apply(plan=plan, found=found):
            found["edit"] = structure.apply(plan, verify=False)

        taken = seconds(device, apply)
        touched = [new for _, new in found["edit"].swapped.values()]
        copied = seconds(device, lambda touched=touched: [t.detach().clone() for t in touched])
        size = sum(t.numel() for t in touched)
        back = gm.Plan(prune=found["edit"].born)
        pruned = seconds(device, lambda back=back: structure.apply(back, verify=False))
        rows.append((taken, pruned, copied))
    return size, [(statistics.median(c), sorted(c)[len(c) // 4]) for c in zip(*rows, strict=True)]


def verified(structure, names, device):
    """Time one edit that is verified; two forward passes."""
    plan = gm.Plan(grow=dict.fromkeys(names, 1))
    found = []
    taken = seconds(device, lambda: found.append(structure.apply(plan)))
    structure.apply(gm.Plan(prune=found[0].born), verify=False)
    return taken


def thousand(device, count):
    """Time many edits of one MLP in a row: the first and last hundred, and the growth of memory."""
    model = nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    ).to(device)
    structure = gm.Structure(model, torch.rand(4, 784, device=device))
    optimizer = torch.optim.Adam(model.parameters())
    taken, memory = [], []
    for index in range(count):
        group = structure.groups["0" if index % 2 else "2"]
        plan = gm.Plan(grow={group.name: 4}, prune={group.name: group.unit_ids[:4]})
        taken.append(
            seconds(device, lambda plan=plan: structure.apply(plan, followers=[optimizer]))
        )
        if index in (99, count - 1):
            gc.collect()
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    first, last = statistics.median(taken[:100]), statistics.median(taken[-100:])
    print(
        f"\n{count} edits in a row: median {first * 1e3:.2f} ms in the first hundred, "
        f"{last * 1e3:.2f} ms in the last; peak memory {memory[0]:.0f} -> {memory[1]:.0f} MiB"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--edit-repeats", type=int, default=41)
    parser.add_argument("--edits", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | parameters | graph build, s | discovery, s | ratio |")
    print("|---|---|---|---|---|")
    structures = {}
    for name, build in NETWORKS.items():
        model = build().to(options.device).eval()
        images = torch.rand(1, 3, 224, 224, device=options.device)
        built, found, ratio = discovery(model, images, options.device, options.repeats)
        structures[name] = gm.Structure(model, images, forward=logits)
        size = structures[name].parameters / 1e6
        print(f"| {name} | {size:.1f} M | {built:.3f} | {found:.3f} | {ratio:.2f} |")
    print(
        "\n| edit of | numbers changed | grow, ms (quiet) | prune, ms (quiet) | copy, ms (quiet) "
        "| ratio (quiet) | with verification, ms |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, structure in structures.items():
        groups = [g.name for g in structure.groups.values() if g.can_grow and g.can_shrink]
        chosen = {n: [n] for n in (groups[0], groups[len(groups) // 2], groups[-1])}
        for label, names in {**chosen, f"all {len(groups)} groups": groups}.items():
            size, times = edits(structure, names, options.device, options.edit_repeats)
            cells = [f"{1e3 * middle:.2f} ({1e3 * quiet:.2f})" for middle, quiet in times]
            (grown, quiet), _, (copied, quiet_copy) = times
            print(
                f"| {name}, {label} | {size / 1e6:.2f} M | {' | '.join(cells)} "
                f"| {grown / copied:.1f} ({quiet / quiet_copy:.1f}) "
                f"| {verified(structure, names, options.device) * 1e3:.0f} |",
                flush=True,
            )
    thousand(options.device, options.edits)


if __name__ == "__main__":
    main()
