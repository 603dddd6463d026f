"""What exact importance costs, over one plain forward and backward pass of the same data.

    python experiments/importance_cost/measure.py [--threads 1] [--device cpu] [--ours]
    python experiments/importance_cost/measure.py --memory

Ways of measuring take turns within every repetition; medians of the ratios are printed. On one
thread CPU time is taken, so that other work on the machine counts less. BackPACK and Opacus are
measured where they are installed (pip install backpack-for-pytorch opacus).
"""

import argparse
import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
from networks import BATCH, NETWORKS
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.profiler import ProfilerActivity, profile

import growmas as gm


def plain(model, batches):
    for batch in batches:
        model.zero_grad()
        model(batch).square().sum().backward()


def loop(model, batches):
    parameters = list(model.parameters())
    totals = [torch.zeros_like(p) for p in parameters]
    for batch in batches:
        for sample in batch.split(1):
            found = torch.autograd.grad(model(sample).square().sum(), parameters)
            for total, gradient in zip(totals, found, strict=True):
                total += gradient.abs()


def mapped(model, batches, chunk=32):
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    totals = {name: torch.zeros_like(p) for name, p in parameters.items()}

    def objective(parameters, sample):
        return functional_call(model, parameters, (sample.unsqueeze(0),)).square().sum()

    gradients = vmap(grad(objective), in_dims=(None, 0))
    for batch in batches:
        for piece in batch.split(chunk):
            for name, found in gradients(parameters, piece).items():
                totals[name] += found.abs().sum(0)


def backpack(model, batches, chunk=64):
    from backpack import backpack as extended, extend
    from backpack.extensions import BatchGrad

    extend(model)
    total = extend(nn.MSELoss(reduction="sum"))
    sums = [torch.zeros_like(p) for p in model.parameters()]
    for batch in batches:
        for piece in batch.split(chunk):
            model.zero_grad()
            output = model(piece)
            with extended(BatchGrad()):
                total(output, torch.zeros_like(output)).backward()
            for s, p in zip(sums, model.parameters(), strict=True):
                s += p.grad_batch.abs().sum(0)


def opacus(model, batches, chunk=64):
    from opacus.grad_sample import GradSampleModule

    wrapped = GradSampleModule(model, loss_reduction="sum")
    sums = [torch.zeros_like(p) for p in model.parameters()]
    for batch in batches:
        for piece in batch.split(chunk):
            wrapped.zero_grad()
            wrapped(piece).square().sum().backward()
            for s, p in zip(sums, model.parameters(), strict=True):
                s += p.grad_sample.abs().sum(0)
                p.grad_sample = None
    wrapped.remove_hooks()


def mapped_fisher(model, pairs, chunk=32):
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    totals = {name: torch.zeros_like(p) for name, p in parameters.items()}

    def objective(parameters, sample, label):
        logits = functional_call(model, parameters, (sample.unsqueeze(0),))
        return nn.functional.cross_entropy(logits, label.unsqueeze(0))

    gradients = vmap(grad(objective), in_dims=(None, 0, 0))
    for batch, labels in pairs:
        for piece, some in zip(batch.split(chunk), labels.split(chunk), strict=True):
            for name, found in gradients(parameters, piece, some).items():
                totals[name] += found.square().sum(0)


def backpack_fisher(model, pairs):
    from backpack import backpack as extended, extend
    from backpack.extensions import SumGradSquared

    extend(model)
    loss = extend(nn.CrossEntropyLoss(reduction="sum"))
    sums = [torch.zeros_like(p) for p in model.parameters()]
    for batch, labels in pairs:
        model.zero_grad()
        output = model(batch)
        with extended(SumGradSquared()):
            loss(output, labels).backward()
        for s, p in zip(sums, model.parameters(), strict=True):
            s += p.sum_grad_squared


def labels_for(model, batch):
    shape = model(batch[:1]).shape
    return torch.randint(shape[-1], (len(batch), *shape[1:-1]), device=batch.device)


def ways(build, peers, batches):
    """Return what is measured, by name, as functions without arguments."""
    model = build().eval()
    pairs = [(batch, labels_for(model, batch)) for batch in batches]
    trainable = {"parameters": "trainable"}
    found = {
        "growmas, exact": lambda: gm.mas_importance(model, batches, **trainable),
        "batch approximation": lambda: gm.mas_importance(model, batches, estimator="batch"),
        "l-MAS": lambda: gm.hebbian_importance(model, batches),
        "growmas, Fisher": lambda: gm.fisher_information(model, pairs, **trainable),
    }
    functions = {"loop": loop, "vmap": mapped, "BackPACK": backpack, "Opacus": opacus}
    fisher = {"vmap": mapped_fisher, "BackPACK": backpack_fisher}
    for name in peers:
        own = build().train()  # no norms among these; Opacus records in train mode only
        found[name] = lambda run=functions[name], own=own: run(own, batches)
        if name in fisher:
            own = build().train()
            found[f"{name}, Fisher"] = lambda run=fisher[name], own=own: run(own, pairs)
    return model, found


def inputs(name, shape):
    size = BATCH.get(name, 256)
    return torch.randint(50257, (size, *shape)) if "GPT" in name else torch.rand(size, *shape)


def seconds(work, options):
    clock = time.perf_counter
    if options.device != "cpu":
        torch.cuda.synchronize()
    elif options.threads == 1:
        clock = time.process_time
    start = clock()
    work()
    if options.device != "cpu":
        torch.cuda.synchronize()
    return clock() - start


def measure(name, options):
    build, shape, count, target, peers = NETWORKS[name]
    batches = [inputs(name, shape).to(options.device) for _ in range(count)]
    peers = () if options.ours else peers
    model, found = ways(lambda: build().to(options.device), peers, batches)
    if options.exact:
        found = {way: found[way] for way in ("growmas, exact", "growmas, Fisher")}
    ratios = {way: [] for way in found}
    plain(model, batches)
    for way, work in list(found.items()):
        try:
            work()
        except Exception as error:
            print(f"<!-- {name}: {way} left out: {error} -->")
            del found[way]
    for repeat in range(options.repeats):
        for way, work in found.items():
            if way == "loop" and repeat > 0:
                continue
            base = seconds(lambda: plain(model, batches), options)
            ratios[way].append(seconds(work, options) / base)
    for way, values in ratios.items():
        if values:
            aim = f"≤ {target}" if way == "growmas, exact" else ""
            print(f"| {name} | {way} | {statistics.median(values):.2f}× | {aim} |", flush=True)


def growth_of_peak(job):
    """Return the bytes of tensors at the peak, and those by which the process grew."""
    name, way, device = job
    torch.set_num_threads(1)
    build, shape, _, _, _ = NETWORKS[name]
    model = build().to(device).eval()
    batches = [inputs(name, shape).to(device) for _ in range(1 if way.startswith("one") else 2)]
    gm.mas_importance(nn.Linear(2, 2).to(device), [torch.ones(2, 2, device=device)])  # imports
    before = peak(device)

    def work():
        if "importance" in way:
            gm.mas_importance(model, batches, parameters="trainable")
        else:
            for batch in batches:
                model(batch).square().sum().backward()

    if "process" not in way and device == "cpu":
        return held_at_peak(work)
    work()
    return peak(device) - before


def held_at_peak(work):
    """Return the most bytes of tensors that were held at a time, beyond those held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    held = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def peak(device):
    """Bytes of memory of this process at the peak so far."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory(names, device):
    """Print the peaks of tensors over one batch and over two, and those of the whole process.

    A plain pass over two batches adds up their gradients, as Ω must; over one batch, there are no
    gradients yet when it begins.
    """
    print("| network | tensors, one batch | ratio | two batches | ratio | process | ratio |")
    print("|---|---|---|---|---|---|---|")
    context = get_context("spawn")
    for name in names:
        cells = []
        for kind in ("one", "two", "one process"):
            if device != "cpu" and kind == "one process":
                continue
            jobs = [(name, f"{kind}, {way}", device) for way in ("plain", "importance")]
            with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
                base, ours = pool.map(growth_of_peak, jobs)
            small = base < 2**24
            sizes = [f"{size / 2**20:.{1 if small else 0}f}" for size in (base, ours)]
            cells += [f"{sizes[0]} → {sizes[1]} MiB", f"{ours / base:.2f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--memory", action="store_true", help="peak memory instead of time")
    parser.add_argument("--ours", action="store_true", help="leave the peers out")
    parser.add_argument("--exact", action="store_true", help="Ω and Fisher information alone")
    parser.add_argument("--only", choices=tuple(NETWORKS), action="append")
    options = parser.parse_args()
    if options.memory:
        memory(options.only or NETWORKS, options.device)
        return
    torch.set_num_threads(options.threads)
    print("| network | way | cost over a plain pass | target |\n|---|---|---|---|")
    for name in options.only or NETWORKS:
        measure(name, options)


if __name__ == "__main__":
    main()
