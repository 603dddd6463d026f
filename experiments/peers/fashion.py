"""Fashion-MNIST as the other programs read it: images 0 … 1 as float32, and labels."""

import gzip
from pathlib import Path

import numpy as np
import torch

FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of Debian's dataset-fashion-mnist
TASKS, EPOCHS, BATCH, RATE = 5, 2, 128, 0.001


def read(part):
    """Return images [N, 784] and labels [N] of "train" or "t10k"."""
    images = gzip.decompress((FOLDER / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((FOLDER / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 784)
    classes = np.frombuffer(labels, np.uint8, offset=8)
    return torch.from_numpy(pixels / np.float32(255)), torch.from_numpy(classes.astype(np.int64))


def tasks(part):
    """Return images and labels 0 or 1 of each pair of classes."""
    images, labels = read(part)
    chosen = [(labels // 2 == task).nonzero()[:, 0] for task in range(TASKS)]
    return [(images[rows], labels[rows] % 2) for rows in chosen]
