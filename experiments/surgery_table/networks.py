"""Networks of many architectures, each with inputs; and networks that surgery must refuse."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformer_models import lively

from growmas.structure import Size, register_attention, register_norm

Example = tuple[nn.Module, Any]


class Residual(nn.Module):
    """A residual stream with a bottleneck between."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.inner, self.inner_norm = nn.Conv2d(8, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.outer, self.outer_norm = nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(x)))
        x = F.relu(x + self.outer_norm(self.outer(F.relu(self.inner_norm(self.inner(x))))))
        return self.head(x.mean((2, 3)))


class Dense(nn.Module):
    """Concatenations of concatenations, flattened in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1)
        self.norm, self.third = nn.BatchNorm2d(9), nn.Conv2d(9, 6, 3, padding=1)
        self.head = nn.Linear(60, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.first(x))
        both = torch.cat([first, F.relu(self.second(first))], 1)
        everything = torch.cat([both, F.relu(self.third(self.norm(both)))], 1)
        return self.head(F.max_pool2d(everything, 4).flatten(1))


class MobileNet(nn.Module):
    """A depthwise convolution with squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.norm = nn.Conv2d(3, 12, 1), nn.BatchNorm2d(12)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.squeeze, self.excite = nn.Conv2d(12, 4, 1), nn.Conv2d(4, 12, 1)
        self.project, self.head = nn.Conv2d(12, 7, 1), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu6(self.depthwise(F.relu6(self.norm(self.expand(x)))))
        h = h * torch.sigmoid(self.excite(F.relu(self.squeeze(h.mean((2, 3), keepdim=True)))))
        return self.head(F.relu(self.project(h)).mean((2, 3)))


class ResNeXt(nn.Module):
    """A grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce, self.grouped = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 3, padding=1, groups=4)
        self.norm, self.expand, self.head = nn.BatchNorm2d(12), nn.Conv2d(12, 8, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm(self.grouped(F.relu(self.reduce(x)))))
        return self.head(F.relu(self.expand(h)).mean((2, 3)))


class UNet(nn.Module):
    """A transposed convolution joined with what was there before."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, 2, 1)
        self.up, self.out = nn.ConvTranspose2d(8, 5, 2, stride=2), nn.Conv2d(11, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        fine = F.relu(self.fine(x))
        return self.out(torch.cat([F.relu(self.up(F.relu(self.coarse(fine)))), fine], 1))


class Norms(nn.Module):
    """GroupNorm, InstanceNorm and PReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.group_norm = nn.Conv2d(3, 12, 3, padding=1), nn.GroupNorm(4, 12)
        self.second, self.instance_norm = nn.Conv2d(12, 6, 3), nn.InstanceNorm2d(6, affine=True)
        self.slope, self.head = nn.PReLU(6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.second(F.relu(self.group_norm(self.first(x))))
        return self.head(self.slope(self.instance_norm(h)).mean((2, 3)))


class Sequence(nn.Module):
    """A recurrent classifier over tokens."""

    def __init__(self, kind: type[nn.RNNBase], layers: int = 2, **options: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 6)
        self.recurrent = kind(6, 7, num_layers=layers, batch_first=True, **options)
        self.head = nn.Linear(14 if options.get("bidirectional") else 7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(self.embed(x))[0][:, -1])


class Transposed(nn.Module):
    """One-dimensional convolutions, forth and, in groups, back, flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.forth, self.back = nn.Conv1d(2, 6, 3), nn.ConvTranspose1d(6, 4, 3, groups=2)
        self.hidden, self.head = nn.Linear(32, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.back(F.relu(self.forth(x)))).flatten(1)
        return self.head(F.relu(self.hidden(h)))


class Generator(nn.Module):
    """A layer whose output is cut into channels; images with the channels last, flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.paint = nn.Linear(5, 6 * 4), nn.Conv2d(6, 4, 3, padding=1)
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.start(x)).view(len(x), -1, 2, 2)
        return self.head(F.relu(self.paint(h)).permute(0, 2, 3, 1).flatten(1))


class Gated(nn.Module):
    """SwiGLU with gate and value from one layer, and from two."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.down = nn.Linear(5, 12), nn.Linear(6, 8)
        self.gate, self.value, self.head = nn.Linear(8, 7), nn.Linear(8, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.both(x).chunk(2, dim=-1)
        x = self.down(F.silu(gate) * value)
        return self.head(F.silu(self.gate(x)) * self.value(x))


class Twice(nn.Module):
    """A layer applied twice, and another to two parts of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.tower, self.again, self.head = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.tower(x[:, :3]) + self.tower(x[:, 3:]))
        return self.head(torch.tanh(self.again(torch.tanh(self.again(h)))))


class SeparateHeads(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.inner = heads, width
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        h = F.scaled_dot_product_attention(q, k, v)
        return self.out(h.transpose(1, 2).reshape(*x.shape[:2], self.inner))


class FusedHeads(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, self.heads, self.size).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1) * self.size**-0.5).softmax(-1)
        return self.out((scores @ v).transpose(1, 2).flatten(2))


register_attention(
    SeparateHeads,
    project=["q", "k", "v"],
    output="out",
    heads="heads",
    sizes=[Size("inner", lambda m, n: n * m.inner // m.heads)],
)
register_attention(FusedHeads, project={"qkv": 3}, output="out", heads="heads")


class ViT(nn.Module):
    """Patches, one block of attention and feed-forward, classified by their mean."""

    def __init__(self, attention: Callable[[int, int], nn.Module], width: int = 8) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.norm1, self.attention = nn.LayerNorm(width), attention(width, 4)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(8, 12), nn.Linear(12, 8)
        self.norm3, self.head = nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.attention(self.norm1(x))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(self.norm3(x).mean(1))


class PreNormViT(nn.Module):
    """Two blocks over patches, a class token and positions that are parameters of the network."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(5, width))
        self.blocks = nn.ModuleList(
            nn.ModuleDict({
                "norm1": nn.LayerNorm(width), "attention": FusedHeads(width, 4),
                "norm2": nn.LayerNorm(width, eps=1e-2, bias=False),
                "up": nn.Linear(width, 12), "down": nn.Linear(12, width),
            })
            for _ in range(2)
        )  # fmt: skip
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = x + block["attention"](block["norm1"](x))
            x = x + block["down"](F.gelu(block["up"](block["norm2"](x))))
        return self.head(self.norm(x)[:, 0])


class RootMeanSquare(nn.Module):
    """A norm of one's own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain, self.small = nn.Parameter(torch.ones(width)), 1e-2

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x * (x.square().mean(-1, keepdim=True) + self.small).rsqrt()


register_norm(RootMeanSquare, centred=False, gain="gain", eps="small")


class Language(nn.Module):
    """A decoder with RMSNorm, torch's and one of its own, gated units and a tied head."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embed, self.positions = nn.Embedding(20, width), nn.Embedding(9, width)
        self.norm1, self.attention = nn.RMSNorm(width), FusedHeads(width, 4)
        self.norm2, self.gate = RootMeanSquare(width), nn.Linear(width, 12, bias=False)
        self.value, self.down = nn.Linear(width, 12, bias=False), nn.Linear(12, width)
        self.norm3, self.head = nn.RMSNorm(width, eps=1e-3), nn.Linear(width, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.positions(torch.arange(x.shape[1]))
        x = x + self.attention(self.norm1(x))
        h = self.norm2(x)
        x = x + self.down(F.silu(self.gate(h)) * self.value(h))
        return self.head(self.norm3(x))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3))


def conv_bn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(5, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3),
    )  # fmt: skip


def conv3d() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 4, 2), nn.BatchNorm3d(4), nn.ReLU(), nn.AdaptiveAvgPool3d(2), nn.Flatten(),
        nn.Linear(32, 3),
    )  # fmt: skip


IMAGE, VECTOR, TOKENS = (3, 3, 8, 8), (3, 6), (3, 9)

OWN: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "MLP": (mlp, VECTOR),
    "conv-BN-flatten": (conv_bn, IMAGE),
    "ResNet": (Residual, IMAGE),
    "DenseNet": (Dense, IMAGE),
    "MobileNet with SE": (MobileNet, IMAGE),
    "ResNeXt": (ResNeXt, IMAGE),
    "U-Net": (UNet, IMAGE),
    "GroupNorm, InstanceNorm": (Norms, IMAGE),
    "conv1d, transposed": (Transposed, (3, 2, 8)),
    "conv3d": (conv3d, (3, 1, 5, 5, 5)),
    "generator, NHWC": (Generator, (3, 5)),
    "gated": (Gated, (3, 5)),
    "layer used twice": (Twice, VECTOR),
    "LSTM": (lambda: Sequence(nn.LSTM), TOKENS),
    "GRU": (lambda: Sequence(nn.GRU), TOKENS),
    "RNN": (lambda: Sequence(nn.RNN, layers=1), TOKENS),
    "ViT, separate q k v": (lambda: ViT(SeparateHeads), IMAGE),
    "ViT, fused qkv": (lambda: ViT(FusedHeads), IMAGE),
    "ViT, class token": (PreNormViT, IMAGE),
    "RMSNorm, tied": (Language, TOKENS),
}


def own(name: str) -> Example:
    """A network of the table and a few inputs for it."""
    build, shape = OWN[name]
    generator = torch.Generator().manual_seed(1)
    if shape == TOKENS:
        return lively(build()), torch.randint(0, 20, shape, generator=generator)
    return lively(build()), torch.randn(shape, generator=generator)
