"""The networks whose importance is timed, with their batches, targets and peers."""

import torch
from torch import nn


def mlp():
    return nn.Sequential(
        nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )


def convnet():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 49, 10),
    )  # fmt: skip


class Block(nn.Module):
    def __init__(self, width_in, width, stride):
        super().__init__()
        self.first = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.skip = nn.Sequential()
        if stride > 1 or width_in != width:
            self.skip = nn.Sequential(
                nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x):
        hidden = torch.relu(self.norm1(self.first(x)))
        return torch.relu(self.norm2(self.second(hidden)) + self.skip(x))


def resnet18():
    widths = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
    blocks = [b for i, o, s in widths for b in (Block(i, o, s), Block(o, o, 1))]
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), *blocks,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip


class ViT(nn.Module):
    def __init__(self, width=192, depth=6, heads=3):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 65, width) * 0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).mT
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1) + self.positions
        for layer in self.layers:
            tokens = layer(tokens)
        return self.head(self.norm(tokens)[:, 0])


class LSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.LSTM(32, 128, batch_first=True), nn.Linear(128, 10)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


class OneLayerGPT(nn.Module):
    """GPT-2 of one layer, with its whole vocabulary, tied."""

    def __init__(self, words=50257, width=768, heads=12):
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(1024, width)
        self.layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        length = x.shape[1]
        hidden = self.words(x) + self.places(torch.arange(length, device=x.device))
        mask = torch.full((length, length), -torch.inf, device=x.device).triu(1)
        hidden = self.layer(hidden, src_mask=mask)
        return nn.functional.linear(self.norm(hidden), self.words.weight)


class Adapted(nn.Module):
    def __init__(self, layer, rank):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))


def adapted():
    """Low-rank adapters on a frozen network: 1% of the parameters are trainable."""
    return nn.Sequential(
        Adapted(nn.Linear(1024, 1024), 4), nn.ReLU(), Adapted(nn.Linear(1024, 1024), 4), nn.ReLU(),
        Adapted(nn.Linear(1024, 10), 4),
    )  # fmt: skip


class Bottleneck(nn.Module):
    def __init__(self, width_in, width, stride):
        super().__init__()
        out = 4 * width
        self.inner = nn.Sequential(
            nn.Conv2d(width_in, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.skip = nn.Sequential()
        if stride > 1 or width_in != out:
            self.skip = nn.Sequential(
                nn.Conv2d(width_in, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x):
        return torch.relu(self.inner(x) + self.skip(x))


def resnet50():
    blocks, width_in = [], 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for n in range(count):
            blocks.append(Bottleneck(width_in, width, stride if n == 0 else 1))
            width_in = 4 * width
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        nn.MaxPool2d(3, 2, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(2048, 1000),
    )  # fmt: skip


class ViTB16(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 768, 16, 16)
        self.token = nn.Parameter(torch.zeros(1, 1, 768))
        self.positions = nn.Parameter(torch.randn(1, 197, 768) * 0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                768, 12, 3072, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(12)
        )
        self.norm, self.head = nn.LayerNorm(768), nn.Linear(768, 1000)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).mT
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1) + self.positions
        for layer in self.layers:
            tokens = layer(tokens)
        return self.head(self.norm(tokens)[:, 0])


BATCH = {"GPT-2 of one layer": 4, "LSTM": 64, "ViT-B/16, batch 4": 4, "ViT-B/16, batch 32": 32,
         "ResNet-50, 224×224": 8}  # fmt: skip
"""Samples in a batch, where it is not 256."""

NETWORKS = {  # builder, shape of a sample, batches of 256, target, peers that cope
    "MLP 784-256-256-10": (mlp, (784,), 8, 1.2, ("loop", "vmap", "BackPACK", "Opacus")),
    "three convolutions, 28×28": (
        convnet, (1, 28, 28), 2, 1.25, ("loop", "vmap", "BackPACK", "Opacus"),
    ),
    "ResNet-18, 32×32": (resnet18, (3, 32, 32), 1, 1.5, ()),
    "ViT 192×6, 32×32": (ViT, (3, 32, 32), 1, 1.5, ()),
    "LSTM": (LSTM, (50, 32), 2, 3.0, ("loop",)),
    "GPT-2 of one layer": (OneLayerGPT, (32,), 4, 2.5, ()),
    "low-rank adapters": (adapted, (1024,), 2, 2.0, ()),
    "ResNet-50, 224×224": (resnet50, (3, 224, 224), 4, 1.1, ()),
    "ViT-B/16, batch 4": (ViTB16, (3, 224, 224), 1, 1.8, ()),
    "ViT-B/16, batch 32": (ViTB16, (3, 224, 224), 1, 1.3, ()),
}  # fmt: skip
