"""Class-incremental learning from statistics of fixed filters: accuracy, loss, cost.

    sudo apt-get install dataset-fashion-mnist          # or --data FOLDER with its four idx files
    OMP_NUM_THREADS=1 python experiments/streaming_classifiers/measure.py

Classes of Fashion-MNIST come two at a time (or one at a time), each image is seen once and none is
stored; the test is on all classes at once, without a task. Nothing is tuned: strengths come from
generalised cross-validation on the statistics, temperatures are the defaults. Prints the rows of
the README. `--rows PART` runs those whose name contains PART alone. `--merge` compares instead one
pass with contexts of shuffled shards that are merged.
"""

import argparse
import gzip
import time
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F

import growmas as gm
from growmas.data import load_source

DATA = "/usr/share/datasets/fashion-mnist"
BATCH = 500
THRESHOLD = gm.RandomFilters(1).threshold
HEADER = (
    "| stream | context | features | order | accuracy | NLL | λ | numbers kept "
    "| learning, CPU s | answering 10,000, CPU s |\n|---|---|---|---|---|---|---|---|---|---|"
)


def read_idx(path, offset):
    """The bytes of a gzipped idx file after its header."""
    with gzip.open(path) as file:
        return torch.from_numpy(numpy.frombuffer(file.read(), numpy.uint8, offset=offset).copy())


def fashion(folder):
    """Training and test images [N, 1, 28, 28] in 0 … 1 and labels."""
    parts = []
    for part in ("train", "t10k"):
        images = read_idx(Path(folder) / f"{part}-images-idx3-ubyte.gz", 16)
        labels = read_idx(Path(folder) / f"{part}-labels-idx1-ubyte.gz", 8).long()
        parts.append((images.reshape(-1, 1, 28, 28).float() / 255, labels))
    return parts


def mnist5k():
    """The same of the built-in source."""
    source = load_source("mnist5k")
    return [(source.train_inputs, source.train_labels), (source.test_inputs, source.test_labels)]


def few(train, each=200):
    """The first images of every class."""
    images, labels = train
    rows = torch.cat([(labels == label).nonzero().squeeze(1)[:each] for label in range(10)])
    return images[rows], labels[rows]


def class_order(seed):
    """An order of the ten classes; 0 is as they are numbered."""
    if seed == 0:
        return torch.arange(10)
    return torch.randperm(10, generator=torch.Generator().manual_seed(seed))


def learn(context, train, order, classes):
    """Show the context task after task, the label of a class its place in the task."""
    images, labels = train
    for task, members in enumerate(order.split(classes)):
        rows = torch.isin(labels, members).nonzero().squeeze(1)
        rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(task))]
        place = torch.zeros(10, dtype=torch.long)
        place[members] = torch.arange(len(members))
        for batch in rows.split(BATCH):
            context.update(task, images[batch], place[labels[batch]])


def answer(context, images, order, classes):
    """Log-probabilities of the ten classes, [N, 10]."""
    columns = [int(order[task * classes + label]) for task, label in context.components]
    scores = torch.cat([context.class_scores(batch) for batch in images.split(BATCH)])
    found = torch.empty_like(scores)
    found[:, columns] = scores
    return found


def row(name, data, kind, extract, *, seed=0, classes=2):
    """Measure one row of the table."""
    train, (images, labels) = data
    order, context = class_order(seed), kind(extract=extract)
    start = time.process_time()
    learn(context, train, order, classes)
    strength = context.strength
    learnt = time.process_time()
    found = answer(context, images, order, classes)
    seconds = learnt - start, (time.process_time() - learnt) * 10_000 / len(images)
    accuracy = float((found.argmax(1) == labels).double().mean())
    loss = float(F.nll_loss(found, labels))
    what = kind.__name__.removesuffix("Context")
    features = "pixels"
    if extract is not None:
        features = f"{extract.filters} filters, {extract.whiten or 'not whitened'}"
        features += "" if extract.threshold == THRESHOLD else f", threshold {extract.threshold:g}"
    print(
        f"| {name} | {what} | {features} | {seed} | {accuracy:.4f} | {loss:.3f} | {strength:.1e} "
        f"| {context.size:,} | {seconds[0]:.0f} | {seconds[1]:.1f} |",
        flush=True,
    )


def rows(folder):
    """Name and arguments of every row."""
    full, digits = fashion(folder), mnist5k()
    small = [few(full[0]), full[1]]
    ridge, shared = gm.RidgeContext, gm.SharedGaussianContext

    def filters(number, whiten):
        return gm.RandomFilters(number, pool=7, whiten=whiten)

    for kind in (ridge, shared):
        yield "60,000, 5 × 2", full, kind, None, {}
    for number in (64, 128, 256):
        yield "60,000, 5 × 2", full, ridge, filters(number, "analytic"), {}
    low = gm.RandomFilters(256, pool=7, whiten="analytic", threshold=0.2)
    yield "60,000, 5 × 2", full, ridge, low, {}
    for number, seed in ((64, 0), (128, 0), (128, 1), (128, 2), (256, 0), (256, 1), (256, 2)):
        yield "60,000, 5 × 2", full, ridge, filters(number, "patches"), {"seed": seed}
    yield "60,000, 5 × 2", full, shared, filters(128, "patches"), {}
    yield "60,000, 10 × 1", full, ridge, filters(128, "patches"), {"classes": 1}
    for kind in (ridge, shared):
        for whiten in ("analytic", "patches"):
            yield "200 a class, 5 × 2", small, kind, filters(128, whiten), {}
    for kind in (ridge, shared):
        yield "mnist5k, 5 × 2", digits, kind, None, {}
        for whiten in ("analytic", "patches"):
            yield "mnist5k, 5 × 2", digits, kind, filters(64, whiten), {}


def merged(name, data, kind, extract, shards=5):
    """Print how far merged shards are from one pass: strength and log-probabilities."""
    (images, labels), (asked, _) = data
    parts = [kind(extract=extract) for _ in range(shards)]
    whole = kind(extract=extract)
    for task in range(5):
        rows = (labels // 2 == task).nonzero().squeeze(1)
        for batch in rows.split(BATCH):
            whole.update(task, images[batch], labels[batch] % 2)
    shuffled = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    for part, rows in zip(parts, shuffled.chunk(shards), strict=True):
        for task in torch.randperm(5, generator=torch.Generator().manual_seed(2)).tolist():
            batch = rows[labels[rows] // 2 == task]
            part.update(task, images[batch], labels[batch] % 2)
    for part in parts[1:]:
        parts[0].merge(part)
    order = [parts[0].components.index(each) for each in whole.components]
    apart = whole.class_scores(asked) - parts[0].class_scores(asked)[:, order]
    strength = abs(parts[0].strength / whole.strength - 1)
    print(f"| {name} | {kind.__name__} | {shards} | {strength:.0e} | {apart.abs().max():.1e} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default=DATA, help="folder with the idx files of Fashion-MNIST")
    parser.add_argument("--rows", default="", help="a part of the names of the rows to run")
    parser.add_argument("--merge", action="store_true", help="compare merged shards with one pass")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.merge:
        print("| images | context | shards | λ, relative | log-probabilities |")
        print("|---|---|---|---|---|")
        small = [few(fashion(given.data)[0]), [each[:2000] for each in fashion(given.data)[1]]]
        for name, data in (("Fashion-MNIST, 200 a class", small), ("mnist5k", mnist5k())):
            for kind in (gm.RidgeContext, gm.SharedGaussianContext):
                merged(name, data, kind, gm.RandomFilters(64, pool=7, whiten="analytic"))
        return
    print(HEADER)
    for name, data, kind, extract, options in rows(given.data):
        if given.rows in name:
            row(name, data, kind, extract, **options)


if __name__ == "__main__":
    main()
