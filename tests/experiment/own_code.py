"""Data, networks and methods of a user, imported by the configs of tests as "own_code:…"."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import growmas


def vectors(count: int = 60, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.arange(count) % classes
    return (random.normal(size=(count, 8)) + labels[:, None]).astype("float32"), labels


def images(count: int = 40) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.integers(0, 256, size=(count, 8, 8, 3), dtype=np.uint8)
    y = np.array(["cat", "dog"])[np.arange(count) % 2]
    return {"x_train": x, "y_train": y, "x_test": x[:10], "y_test": y[:10]}


def tokens() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.integers(0, 30, size=(40, 6)), np.arange(40) % 4


def torch_datasets() -> tuple[TensorDataset, TensorDataset]:
    x, y = map(torch.from_numpy, vectors())
    return TensorDataset(x[:40], y[:40]), TensorDataset(x[40:], y[40:])


def dataset() -> growmas.data.Dataset:
    x, y = map(torch.from_numpy, vectors())
    return growmas.data.hold_out("mine", x, y, "abcde")


def nothing() -> None:
    return None


def text() -> tuple[str, str]:
    return "inputs", "labels"


def with_nan() -> tuple[np.ndarray, np.ndarray]:
    x, y = vectors()
    x[3, 2] = np.nan
    return x, y


def class_in_test_only() -> tuple[np.ndarray, ...]:
    x, y = vectors()
    return x, y, x, y + 1


def too_few_labels() -> tuple[np.ndarray, ...]:
    x, y = vectors()
    return x, y[:-1]


def one_hot() -> tuple[np.ndarray, ...]:
    x, y = vectors()
    return x, np.eye(5)[y]


def broken() -> None:
    raise RuntimeError("the server is down")


class Net(nn.Module):
    def __init__(self, width: int = 16, inputs: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU())
        self.middle = nn.Linear(width, width)
        self.fc = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.middle(self.stem(x))))


class Flat(Net):
    def __init__(self) -> None:
        super().__init__(inputs=64)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1))


class Softmaxed(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(1)


class NoLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x[:, None]).mean(2)


class Dictionary(Net):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"scores": super().forward(x)}


class Embedded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 12)
        self.fc = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.embedding(x).mean(1))


class ER(growmas.Method):
    def __init__(self, structure: growmas.Structure, memory: int = 500) -> None:
        super().__init__(structure)
        self.memory = growmas.Reservoir(memory)

    def loss(self, inputs: Tensor, labels: Tensor, task: growmas.data.Task) -> Tensor:
        old = self.memory.sample(len(labels))
        self.memory.add(inputs, labels, task)
        losses = [F.cross_entropy(self.structure.model(x, h), y) for x, y, h in old]
        return super().loss(inputs, labels, task) + sum(losses)


class NotAMethod:
    def __init__(self, structure: growmas.Structure) -> None:
        self.structure = structure


class Forgetful(growmas.Method):
    def __init__(self, structure: growmas.Structure) -> None:
        pass
