"""The study of detectors and learners on streams without task boundaries.

    python experiments/task_free/study.py detection     # which shifts are detected, and how soon
    python experiments/task_free/study.py learning      # how well task-free learners do
    python experiments/task_free/study.py cost          # time that the extra parts add
    python experiments/task_free/study.py tables        # the tables, from results.json

Every number is saved to results.json as soon as it is known, and not measured again. Detectors
and learners were developed on seed 0; seeds 1 to 5 are reported.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from river import drift

import growmas as gm
from growmas.data import (
    drifting_stream,
    load_source,
    permuted_stream,
    split_stream,
    task_free_stream,
)
from growmas.integrations.river import RiverDetector
from growmas.models import MLP
from growmas.shift import ShiftEvent, replay, score
from growmas.training.task_free import TaskFreeMAS

RESULTS = Path(__file__).parent / "results.json"
SEEDS = (1, 2, 3, 4, 5)
STEPS = 100  # steps of one task
HEADS = 16
KINDS = ("permuted", "split", "recurring")

DETECTORS = {
    "PlateauDetector()": gm.PlateauDetector,
    'PlateauDetector(mode="paper")': lambda: gm.PlateauDetector(mode="paper"),
    "Cusum()": gm.Cusum,
    "ADWIN, river": lambda: RiverDetector(drift.ADWIN()),
    "Page–Hinkley, river": lambda: RiverDetector(drift.PageHinkley(mode="up")),
}
INPUTS = "NoveltyDetector(), inputs"


def make_stream(kind, seed, batch_size):
    source, draw = load_source("mnist5k"), torch.Generator().manual_seed(seed)
    if kind == "drift":
        return drifting_stream(source, steps=1000, batch_size=batch_size, seed=seed)
    base = (
        split_stream(source, tasks=5, scenario="class", generator=draw, shuffle_classes=True)
        if kind == "split"
        else permuted_stream(
            source,
            tasks={"permuted": 10, "blurred": 5, "recurring": 3, "none": 1}[kind],
            scenario="domain",
            generator=draw,
        )
    )
    return task_free_stream(
        base,
        batch_size=batch_size,
        steps_per_task=5000 if kind == "none" else STEPS,
        visits=2 if kind == "recurring" else 1,
        blur=40 if kind == "blurred" else 0,
        seed=seed,
    )


def network(stream, hidden, heads, seed):
    torch.manual_seed(seed)
    return MLP(stream.input_shape, hidden, (stream.outputs,) * heads)


# Detection


def detection(kind, seed):
    """Return the scores of all detectors on one stream, from the losses of a learning network."""
    stream = make_stream(kind, seed, 32)
    model = network(stream, [128, 128], 1, seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    novelty, found, losses = gm.NoveltyDetector(), [], []
    for batch in stream:
        loss = F.cross_entropy(model(batch.inputs), batch.labels)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        event = novelty.update(batch.inputs)
        found += [event] if event else []
    events = {name: replay(losses, make()) for name, make in DETECTORS.items()}
    truth = [(shift.first, shift.last) for shift in stream.shifts()]
    scores = {}
    for name, said in {**events, INPUTS: found}.items():
        result = score(said, truth, steps=len(losses))
        scores[name] = {
            "shifts": result.shifts,
            "found": result.found,
            "peaks": result.peaks,
            "delays": result.delays,
            "steps": result.steps,
        }
    return scores


# Learning


class Told:
    """A detector that is given the boundaries."""

    def __init__(self, shifts):
        self.step, self._at = 0, {shift.first for shift in shifts}

    def update(self, loss):
        step, self.step = self.step, self.step + 1
        return ShiftEvent("peak", step, step, "told") if step in self._at else None


def growing(stream, kind, seed, detector):
    settings = (
        {"units": 16, "strength": 0.1} if kind == "split" else {"units": 18, "strength": 0.02}
    )
    model = network(stream, [64, 64], HEADS, seed)
    examples, draw = stream.tasks[0].train.inputs[:8], torch.Generator().manual_seed(seed)
    return gm.TaskFreeLearner(
        gm.Structure(model, examples, generator=draw),
        torch.optim.Adam(model.parameters(), lr=3e-3),
        mas=gm.MAS(model, strength=settings["strength"]),
        grow=gm.GrowPolicy(settings["units"]),
        prune=gm.PrunePolicy(0.02),
        detector=detector,
        forward=lambda model, inputs, context: model(inputs, context),
        contexts=HEADS,
    )


def fixed(stream, kind, seed, **settings):
    width = {"split": 124, "recurring": 98}.get(kind, 208)
    model = network(stream, [width, width], 1, seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return TaskFreeMAS(model, optimizer, **settings)


LEARNERS = {
    "growmas, task-free": lambda s, k, seed: growing(s, k, seed, None),
    "growmas, told the boundaries": lambda s, k, seed: growing(s, k, seed, Told(s.shifts())),
    "finetune": lambda s, k, seed: fixed(s, k, seed, strength=0.0, buffer=0, steps=1),
    "task-free MAS, buffer 30": lambda s, k, seed: fixed(s, k, seed, strength=STRENGTH, buffer=30),
    "task-free MAS, ours": lambda s, k, seed: fixed(s, k, seed, strength=OURS, **our_way()),
    "online replay, 30 hardest": lambda s, k, seed: fixed(s, k, seed, strength=0.0, buffer=30),
    "online replay, 5 hardest": lambda s, k, seed: fixed(s, k, seed, strength=0.0, buffer=5),
}
STRENGTH, OURS = 1.0, 0.03


def our_way():
    return {
        "detector": gm.PlateauDetector(),
        "function": "squared_norm",
        "normalize": "mean",
        "recent": 16,
    }


def accuracy(learner, tasks):
    rights = [
        float((learner.predict(t.test.inputs).argmax(1) == t.test.labels).double().mean())
        for t in tasks
    ]
    return statistics.mean(rights)


def learning(kind, name, seed):
    stream = make_stream(kind, seed, 64)
    learner = LEARNERS[name](stream, kind, seed)
    anytime, recovered, width, seconds, deeds = [], [], {}, 0.0, []
    for batch in stream:
        started = time.process_time()
        done = learner.learn(batch.inputs, batch.labels)
        seconds += time.process_time() - started
        shift = getattr(done, "shift", None)
        deeds += [shift.action] if shift else []
        seen = min(len(stream.tasks), batch.step // STEPS + 1)
        if (batch.step + 1) % 50 == 0:
            anytime.append(accuracy(learner, stream.tasks[:seen]))
        again, within = divmod(batch.step, STEPS)
        if kind == "recurring" and again >= len(stream.tasks) and within == 19:
            recovered.append(accuracy(learner, [stream.tasks[batch.task]]))
        if kind == "recurring" and (batch.step + 1) % (STEPS * len(stream.tasks)) == 0:
            width[batch.step + 1] = sum(p.numel() for p in parameters(learner))
    found = {
        "final": accuracy(learner, stream.tasks),
        "anytime": statistics.mean(anytime),
        "parameters": sum(p.numel() for p in parameters(learner)),
        "ms_per_step": 1000 * seconds / stream.steps,
        "deeds": {deed: deeds.count(deed) for deed in sorted(set(deeds))},
    }
    if kind == "recurring":
        found |= {"recovered": recovered, "parameters_then": list(width.values())}
    return found


def parameters(learner):
    model = getattr(learner, "model", None) or learner.structure.model
    return [p for name, p in model.named_parameters() if not name.startswith("heads")]


# Cost


def cost(batch_size, steps=300):
    """Return the CPU milliseconds of a plain step with penalty, and of the parts around it."""
    stream = make_stream("none", 0, batch_size)
    learner = growing(stream, "none", 0, None)
    batches = [stream.batch(step) for step in range(60)]
    for batch in batches[:40]:
        learner.learn(batch.inputs, batch.labels)

    def clocked(work, count=steps):
        started = time.process_time()
        for i in range(count):
            work(batches[i % 60])
        return 1000 * (time.process_time() - started) / count

    model, optimizer, mas = learner.structure.model, learner.optimizer, learner.mas
    mas.consolidate([batches[0].inputs], forward=lambda m, x: m(x, 0))

    def plain(batch):
        loss = F.cross_entropy(model(batch.inputs, 0), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        mas.penalty_grad_()
        optimizer.step()

    detector, context, position = gm.PlateauDetector(), gm.GaussianContext(), iter(range(10**9))
    rewind, waiting = learner.memory.rewind, []
    return {
        "step": clocked(plain),
        "detector": clocked(lambda batch: detector.update(1.0 / (1 + batch.step))),
        "context": clocked(lambda batch: together(batch, context, waiting)),
        "states": clocked(lambda batch: rewind.keep(next(position))),
    }


def together(batch, context, waiting, every=5, samples=16):
    """Update the context as the learner does: a few samples of each batch, five batches at once."""
    waiting.append(batch.inputs[:samples])
    if len(waiting) == every:
        context.update("a", torch.cat(waiting))
        waiting.clear()


# Command line


def read():
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def once(key, measure):
    """Measure and save, unless the result is there already."""
    if key in read():
        return
    value = measure()
    RESULTS.write_text(json.dumps({**read(), key: value}, indent=1, sort_keys=True))
    print(key, "done", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["detection", "learning", "cost", "tables"])
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.part == "detection":
        for seed in options.seeds:
            for kind in ("split", "permuted", "blurred", "recurring", "drift", "none"):
                once(f"detection/{kind}/{seed}", lambda k=kind, s=seed: detection(k, s))
    if options.part == "learning":
        for seed in options.seeds:
            names = list(LEARNERS)
            jobs = [(kind, name) for kind in KINDS for name in names[:2]]
            jobs += [(kind, name) for kind in KINDS[:2] for name in names[2:]]
            for kind, name in jobs:
                once(
                    f"learning/{kind}/{name}/{seed}",
                    lambda k=kind, n=name, s=seed: learning(k, n, s),
                )
    if options.part == "cost":
        for batch_size in (32, 64, 128):
            once(f"cost/{batch_size}", lambda b=batch_size: cost(b))
    if options.part == "tables":
        from tables import print_tables

        print_tables(read())


if __name__ == "__main__":
    main()
