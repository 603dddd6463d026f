"""Networks that other people wrote, and reported or that a scan of them found, rebuilt small.

Each is the smallest network with the wiring; its source is named beside it.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Linear, Conv = nn.Linear, nn.Conv2d

IMAGE, VECTOR, TOKENS = (2, 3, 8, 8), (3, 6), (2, 5, 8)


class Net(nn.Module):
    """Layers, parameters and attributes, and a function of them and of the input."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape))


class BatchNormAct(nn.BatchNorm2d):
    """timm.layers.BatchNormAct2d: a norm with the activation inside."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


class LayerNorm2d(nn.LayerNorm):
    """timm.layers.LayerNorm2d: over the channels of images."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class RootMeanSquare(nn.Module):
    """transformers' LlamaRMSNorm, which every model defines under another name."""

    def __init__(self, width: int, plus: float = 0.0) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(torch.ones(width)), 1e-6
        self.plus = plus

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return (self.weight + self.plus) * x


class RootMeanSquareAct(nn.Module):
    """timm.layers.RmsNormAct2d: a norm of images with the activation below."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.eps, self.act = nn.Parameter(torch.ones(width)), 1e-6, nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + self.eps)
        return self.act(x * self.weight.view(1, -1, 1, 1))


class Unpacked(nn.Module):
    """torch_geometric.nn.dense.Linear: a linear layer of another class."""

    def __init__(self, read: int, give: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = read, give
        self.weight, self.bias = parameter(give, read), parameter(give)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


def unbound(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    n, c, height, width = y.shape
    p, q = y.reshape(n, 2, c // 2, height, width).unbind(1)
    return m.b(p + q)


def c2f(m: Any, x: Tensor) -> Tensor:
    y = list(m.cv1(x).chunk(2, 1))
    y.append(m.m(y[-1]))
    return m.cv2(torch.cat(y, 1))


def res2(m: Any, x: Tensor) -> Tensor:
    pieces = torch.split(m.a(x).relu(), m.width, 1)
    out, before = [pieces[0]], pieces[1]
    for number, layer in enumerate(m.layers):
        before = layer(before if number == 0 else before + pieces[number + 1])
        out.append(before)
    return m.b(torch.cat(out, 1))


def mixed(m: Any, x: Tensor) -> Tensor:
    pieces = torch.split(m.a(x).relu(), m.splits, 1)
    return m.b(torch.cat([layer(p) for layer, p in zip(m.layers, pieces, strict=True)], 1))


def apart(*widths: int) -> nn.ModuleList:
    return nn.ModuleList(Conv(n, n, 3, padding=1, groups=n) for n in widths)


def eca(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    gate = m.conv(y.mean((2, 3)).view(len(y), 1, -1)).sigmoid()
    return m.b(y * gate.view(len(y), -1, 1, 1))


def shuffled(m: Any, x: Tensor) -> Tensor:
    h = m.a(x)
    n, c, height, width = h.shape
    h = h.view(n, 2, c // 2, height, width).transpose(1, 2).reshape(n, c, height, width)
    return m.b(F.relu(h))


def fused(m: Any, x: Tensor) -> Tensor:
    n, tokens, _ = x.shape
    qkv = m.qkv(x).reshape(n, tokens, 3, m.heads, m.size).permute(2, 0, 3, 1, 4)
    q, k, v = qkv[0], qkv[1], qkv[2]
    weights = (q @ k.transpose(-2, -1) * m.size**-0.5).softmax(-1)
    return m.out((weights @ v).transpose(1, 2).reshape(n, tokens, m.heads * m.size))


def grouped(m: Any, x: Tensor) -> Tensor:
    n, tokens, _ = x.shape
    q, k, v = (layer(x).view(n, tokens, -1, m.size).transpose(1, 2) for layer in (m.q, m.k, m.v))
    k, v = (each.repeat_interleave(2, 1) for each in (k, v))
    return m.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def multi_query(m: Any, x: Tensor) -> Tensor:
    n, tokens, _ = x.shape
    q, k, v = (layer(x).view(n, tokens, -1, m.size).transpose(1, 2) for layer in (m.q, m.k, m.v))
    attended = F.scaled_dot_product_attention(q, k.expand_as(q), v.expand_as(q))
    return m.out(attended.transpose(1, 2).flatten(2))


def rotary(m: Any, x: Tensor) -> Tensor:
    n, tokens, _ = x.shape
    q, k, v = (layer(x).view(n, tokens, -1, m.size).transpose(1, 2) for layer in (m.q, m.k, m.v))
    angle = torch.arange(tokens)[:, None] * torch.ones(m.size)
    q, k = (
        t * angle.cos()
        + torch.cat([-t[..., m.size // 2 :], t[..., : m.size // 2]], -1) * angle.sin()
        for t in (m.q_norm(q), m.k_norm(k))
    )
    weights = (q @ k.transpose(-2, -1)).softmax(-1)
    return m.out((weights @ v).transpose(1, 2).reshape(n, tokens, -1))


def mixer(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    x = x + m.mix(m.norm1(x).transpose(1, 2)).transpose(1, 2)
    return m.head(m.norm2(x).mean(1))


def scaled(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x) + m.positions
    x = x + m.gamma * m.down(F.gelu(m.up(m.norm1(x))))
    return m.head(m.norm2(x)[:, 0])


def frozen(m: Any, x: Tensor) -> Tensor:
    return m.b(F.relu(m.a(x) * m.scale.view(1, -1, 1, 1) + m.shift.view(1, -1, 1, 1)))


def linears(*widths: int) -> dict[str, nn.Module]:
    return {name: Linear(*pair) for name, pair in zip("abcdef", pairwise(widths), strict=False)}


# what it is -> (network, shape of its input, its groups as "width kind, abilities")
BOTH, SHRINKS = "shrinks and grows", "shrinks approximately"
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, str]]] = {
    "subclass of a norm (timm BatchNormAct2d)": (
        lambda: nn.Sequential(Conv(3, 8, 3), BatchNormAct(8), Conv(8, 4, 3)),
        IMAGE, {"0": f"8 channels, {BOTH}"},
    ),
    "subclass that norms along another axis (timm LayerNorm2d)": (
        lambda: nn.Sequential(Conv(3, 8, 3), LayerNorm2d(8), Conv(8, 4, 3)),
        IMAGE, {"0": f"8 channels, grows and {SHRINKS}"},
    ),
    "one slope for all channels (nn.PReLU)": (
        lambda: nn.Sequential(Conv(3, 8, 3), nn.PReLU(), Conv(8, 4, 3)),
        IMAGE, {"0": f"8 channels, {BOTH}"},
    ),
    "an axis of length 1": (
        lambda: Net(lambda m, x: m.b(m.a(x).unsqueeze(1).relu().squeeze(1)), **linears(6, 8, 2)),
        VECTOR, {"a": f"8 neurons, {BOTH}"},
    ),
    "a gain outside layers": (
        lambda: Net(lambda m, x: m.b(m.a(x) * m.gain), gain=parameter(8), **linears(6, 8, 2)),
        VECTOR, {"a": f"8 neurons, {BOTH}"},
    ),
    "implicit channels (YOLOR ImplicitA, ImplicitM)": (
        lambda: Net(
            lambda m, x: m.b((m.a(x) + m.plus) * m.times),
            a=Conv(3, 8, 1), b=Conv(8, 2, 1), plus=parameter(1, 8, 1, 1),
            times=parameter(1, 8, 1, 1),
        ),
        IMAGE, {"a": f"8 channels, {BOTH}"},
    ),
    "positions added before a ReLU": (
        lambda: Net(
            lambda m, x: m.b((m.a(x) + m.p).relu()), p=parameter(1, 5, 8), **linears(8, 8, 2)
        ),
        TOKENS, {"a": f"8 neurons, {BOTH}"},
    ),
    "halves unbound and added": (
        lambda: Net(unbound, a=Conv(3, 8, 3), b=Conv(4, 2, 3)),
        IMAGE, {"a": f"4 sets of 2 channels, {BOTH}"},
    ),
    "halves used unequally (ultralytics C2f)": (
        lambda: Net(c2f, cv1=Conv(3, 8, 1), m=Conv(4, 4, 1), cv2=Conv(12, 2, 1)),
        IMAGE, {"cv1": f"4 sets of 2 channels, {BOTH}", "m": f"4 channels, {BOTH}"},
    ),
    "pieces of a width that is an attribute (Res2Net)": (
        lambda: Net(
            res2, a=Conv(3, 16, 1), b=Conv(16, 2, 1), width=4,
            layers=nn.ModuleList(Conv(4, 4, 3, padding=1) for _ in range(3)),
        ),
        IMAGE, {"a": f"4 sets of 4 channels, {BOTH}", "layers.2": f"4 channels, {BOTH}"},
    ),
    "pieces of lengths in a list (MixNet)": (
        lambda: Net(mixed, a=Conv(3, 8, 1), b=Conv(8, 2, 1), splits=[5, 3], layers=apart(5, 3)),
        IMAGE, {"a": f"5 channels, {BOTH}", "a:2": f"3 channels, {BOTH}"},
    ),
    "pieces of equal lengths in a list (MixNet)": (
        lambda: Net(mixed, a=Conv(3, 8, 1), b=Conv(8, 2, 1), splits=[4, 4], layers=apart(4, 4)),
        IMAGE, {"a": f"4 sets of 2 channels, {BOTH}"},
    ),
    "gate of neighbouring channels (ECA)": (
        lambda: Net(
            eca, a=Conv(3, 8, 3), conv=nn.Conv1d(1, 1, 3, padding=1), b=Conv(8, 2, 3)
        ),
        IMAGE, {"a": f"8 channels, {SHRINKS}"},
    ),
    "channel shuffle (ShuffleNet)": (
        lambda: Net(shuffled, a=Conv(3, 8, 3), b=Conv(8, 2, 3)),
        IMAGE, {"a": f"4 sets of 2 channels, {BOTH}"},
    ),
    "pixel shuffle (ESPCN)": (
        lambda: Net(lambda m, x: m.b(F.pixel_shuffle(m.a(x), 2)), a=Conv(3, 8, 3), b=Conv(2, 2, 1)),
        IMAGE, {"a": f"2 sets of 4 channels, {BOTH}"},
    ),
    "depthwise with a multiplier": (
        lambda: nn.Sequential(Conv(3, 8, 3), Conv(8, 16, 3, groups=8), nn.ReLU(), Conv(16, 4, 3)),
        IMAGE, {"0": f"8 channels, {BOTH}"},
    ),
    "fused heads, indexed (DeiT, DINO)": (
        lambda: Net(fused, qkv=Linear(8, 24), out=Linear(8, 8), heads=4, size=2),
        TOKENS, {"qkv.heads": f"4 attention heads, {BOTH}"},
    ),
    "grouped queries": (
        lambda: Net(
            grouped, q=Linear(8, 8), k=Linear(8, 4), v=Linear(8, 4), out=Linear(8, 3), size=2
        ),
        TOKENS, {"q.heads": f"2 attention heads, {BOTH}"},
    ),
    "one key and value for all queries (Falcon)": (
        lambda: Net(
            multi_query, q=Linear(8, 8), k=Linear(8, 2), v=Linear(8, 2), out=Linear(8, 3), size=2
        ),
        TOKENS, {"q.heads": f"4 attention heads, {BOTH}"},
    ),
    "rotary positions and normed heads (Qwen3)": (
        lambda: Net(
            rotary, q=Linear(8, 8), k=Linear(8, 8), v=Linear(8, 8), out=Linear(8, 3), size=2,
            q_norm=RootMeanSquare(2), k_norm=RootMeanSquare(2),
        ),
        TOKENS, {"q.heads": f"4 attention heads, {BOTH}"},
    ),
    "a norm that is not registered": (
        lambda: nn.Sequential(Linear(6, 8), RootMeanSquare(8), Linear(8, 2)),
        VECTOR, {"0": f"8 neurons, grows and {SHRINKS}"},
    ),
    "a norm with the activation below (timm RmsNormAct2d)": (
        lambda: nn.Sequential(Conv(3, 8, 1), RootMeanSquareAct(8), Conv(8, 2, 1)),
        IMAGE, {"0": f"8 channels, grows and {SHRINKS}"},
    ),
    "one plus gain (Gemma)": (
        lambda: nn.Sequential(Linear(6, 8), RootMeanSquare(8, plus=1.0), Linear(8, 2)),
        VECTOR, {"0": f"8 neurons, grows and {SHRINKS}"},
    ),
    "a linear layer of another class (torch_geometric)": (
        lambda: nn.Sequential(Unpacked(6, 8), nn.ReLU(), Unpacked(8, 5), nn.ReLU(), Linear(5, 2)),
        VECTOR, {"0": f"8 neurons, {BOTH}", "2": f"5 neurons, {BOTH}"},
    ),
    "a weight used without a layer": (
        lambda: Net(
            lambda m, x: m.b(F.relu(F.linear(F.relu(m.a(x)), m.w, m.c))),
            a=Linear(6, 8), b=Linear(5, 2), w=parameter(5, 8), c=parameter(5),
        ),
        VECTOR, {"a": f"8 neurons, {BOTH}", "w": f"5 neurons, {BOTH}"},
    ),
    "a kernel used without a layer": (
        lambda: Net(
            lambda m, x: m.b(F.relu(F.conv2d(F.relu(m.a(x)), m.w))),
            a=Conv(3, 8, 1), b=Conv(5, 2, 1), w=parameter(5, 8, 3, 3),
        ),
        IMAGE, {"a": f"8 channels, {BOTH}", "w": f"5 channels, {BOTH}"},
    ),
    "tokens mixed (MLP-Mixer)": (
        lambda: Net(
            mixer, stem=Linear(8, 6), norm1=nn.LayerNorm(6), mix=Linear(5, 5),
            norm2=nn.LayerNorm(6), head=Linear(6, 2),
        ),
        TOKENS, {"stem": f"6 neurons, {SHRINKS}"},
    ),
    "layer scale and positions (CaiT, DINOv2)": (
        lambda: Net(
            scaled, stem=Linear(8, 6), positions=parameter(1, 5, 6), gamma=parameter(6),
            norm1=nn.LayerNorm(6), up=Linear(6, 9), down=Linear(9, 6), norm2=nn.LayerNorm(6),
            head=Linear(6, 2),
        ),
        TOKENS, {"stem": f"6 neurons, grows and {SHRINKS}", "up": f"9 neurons, {BOTH}"},
    ),
    "both directions of a recurrent layer": (
        lambda: Net(
            lambda m, x: m.b(m.a(x)[0]),
            a=nn.LSTM(8, 6, bidirectional=True, batch_first=True, num_layers=2), b=Linear(12, 2),
        ),
        TOKENS, {"a": f"6 sets of 2 hidden units, {BOTH}"},
    ),
    "a norm of one single group": (
        lambda: nn.Sequential(Conv(3, 8, 3), nn.GroupNorm(1, 8), Conv(8, 4, 3)),
        IMAGE, {"0": f"8 channels, {SHRINKS}"},
    ),
    "a norm over channels and positions of images (nn.LayerNorm)": (
        lambda: nn.Sequential(Conv(3, 8, 3), nn.LayerNorm((8, 6, 6)), nn.ReLU(), Conv(8, 2, 1)),
        IMAGE, {"0": f"8 channels, {SHRINKS}"},
    ),
    "a norm over positions of images": (
        lambda: nn.Sequential(Conv(3, 8, 3), nn.LayerNorm((6, 6)), nn.ReLU(), Conv(8, 2, 1)),
        IMAGE, {"0": f"8 channels, {BOTH}"},
    ),
    "a norm over tokens and channels (nn.RMSNorm)": (
        lambda: nn.Sequential(Linear(8, 6), nn.RMSNorm((5, 6)), nn.ReLU(), Linear(6, 2)),
        TOKENS, {"0": f"6 neurons, {SHRINKS}"},
    ),
    "softmax over channels": (
        lambda: Net(lambda m, x: m.b(m.a(x).softmax(-1)), **linears(6, 8, 2)),
        VECTOR, {"a": f"8 neurons, {SHRINKS}"},
    ),
}  # fmt: skip
