"""Small networks, their inputs and their units: one table for all tests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

torch.set_num_threads(1)  # small networks are slower on more threads


@dataclass(frozen=True, eq=False)
class Case:
    """A network.

    Attributes:
        name: Name in test ids.
        build: Function that builds the network, in float32.
        shape: Shape of one sample.
        groups: Widths of the groups that can shrink and grow; None: surgery is not tested.
        readers: By group, the layers that read its units: (layer, columns per unit, first column).
        fixed: Groups that can neither shrink nor grow.
        tokens: If positive, inputs are integers below it instead of floats.
        together: Weights are tied: fresh entries of one layer are read by another.
    """

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    groups: Mapping[str, int] | None = None
    fixed: frozenset[str] = field(default_factory=frozenset)
    readers: Mapping[str, tuple[tuple[str, int, int], ...]] = field(default_factory=dict)
    tokens: int = 0
    together: bool = False

    def model(self, dtype: torch.dtype = torch.float32, seed: int = 0) -> nn.Module:
        """Return a new network with random norm parameters and statistics, in train mode."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = self.build()
            for module in model.modules():
                if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                    nn.init.uniform_(module.weight, 0.5, 1.5)
                    nn.init.normal_(module.bias)
                    if module.track_running_stats:
                        nn.init.normal_(module.running_mean)
                        nn.init.uniform_(module.running_var, 0.5, 2.0)
        return model.to(dtype)

    def optimizer_ready(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """Return a model whose parameters all have gradients."""
        model = self.model(dtype)
        outputs = model(self.inputs(4, dtype))
        sum(out.square().sum() for out in tensors(outputs)).backward()
        return model

    def inputs(self, samples: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        if self.tokens:
            return torch.randint(self.tokens, (samples, *self.shape), generator=generator)
        values = torch.randn(samples, *self.shape, generator=generator, dtype=torch.float64)
        return values.to(dtype)


def tensors(output: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return output if isinstance(output, tuple) else (output,)


def mlp(bias: bool = True) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(6, 8, bias=bias),
        nn.ReLU(),
        nn.Linear(8, 5, bias=bias),
        nn.Tanh(),
        nn.Linear(5, 3, bias=bias),
    )


def mlp_batchnorm() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(6, 7),
        nn.BatchNorm1d(7),
        nn.ReLU(),
        nn.Linear(7, 5),
        nn.BatchNorm1d(5),
        nn.ReLU(),
        nn.Linear(5, 4),
        nn.ReLU(),
        nn.Linear(4, 2),
    )


def convnet() -> nn.Sequential:
    """Build a network for 6 × 6 images; 2 × 2 pixels a channel are left before the flatten."""
    return nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 4, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 6),
        nn.ReLU(),
        nn.Linear(6, 3),
    )


def convs_with_options(groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=(1, 2), padding_mode="circular"),
        nn.Tanh(),
        nn.Conv2d(4, 6, 3, dilation=2, padding=2, groups=groups, padding_mode="reflect"),
        nn.Tanh(),
        nn.Conv2d(6, 4, (2, 3), padding="same", padding_mode="replicate"),
        nn.Tanh(),
        nn.Conv2d(4, 3, (3, 1), stride=(1, 2), dilation=(1, 1), bias=False),
        nn.Flatten(),
        nn.LazyLinear(2),
    )


def materialised(net: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    net(torch.zeros(1, *shape))
    return net


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 7)
        self.heads = nn.ModuleList([nn.Linear(7, 2), nn.Linear(7, 3)])

    def forward(self, x: Tensor, head: int | None = None) -> Tensor | tuple[Tensor, ...]:
        hidden = self.body(x).relu()
        outputs = tuple(layer(hidden) for layer in self.heads)
        return outputs if head is None else outputs[head]


class ResidualMLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 5)
        self.inner = nn.Linear(5, 4)
        self.back = nn.Linear(4, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.stem(x).relu()
        residual = residual + self.back(self.inner(residual).relu())
        return self.head(residual.relu())


class ResidualConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.inner = nn.Conv2d(4, 3, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.back = nn.Conv2d(3, 4, 1)
        self.after = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.stem(x).relu()
        inner = self.norm(self.inner(residual)).relu()
        residual = (self.after(self.back(inner)) + residual).relu()
        return self.head(residual.mean((2, 3)))


class Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(2, 3, 3)
        self.right = nn.Conv2d(2, 4, 3)
        self.join = nn.Conv2d(7, 5, 1)
        self.head = nn.Linear(5 * 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.left(x).relu(), self.right(x).tanh()], dim=1)
        return self.head(self.join(both).relu().flatten(1))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.second = nn.Linear(5, 5)
        self.third = nn.Linear(5, 5)
        self.third.weight = self.second.weight
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.third(self.second(self.first(x).relu()).tanh()).relu())


class UsedTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.again = nn.Linear(5, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.again(self.again(self.first(x).relu()).tanh()))


class ConvUsedTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.head = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(self.conv(x).relu()[:, :, ::2]).mean((2, 3)))


class RawParameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.gain = nn.Parameter(torch.rand(5) + 0.5)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).relu() * self.gain)


class FunctionalUse(nn.Module):
    """One weight is used only by F.linear, another by its layer as well."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.square = nn.Linear(5, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.linear(x, self.first.weight, self.first.bias).relu()
        return self.head(F.linear(self.square(hidden).relu(), self.square.weight))


class FunctionOfParameter(nn.Module):
    """Weights are computed from parameters, so that no layer's input explains their gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.raw = nn.Parameter(torch.randn(3, 5))
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        weight = F.normalize(self.raw, dim=1) * self.scale.exp()
        return F.linear(self.first(x).relu(), weight)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6, padding_idx=0)
        self.norm = nn.LayerNorm(6)
        self.mix = nn.Linear(6, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self.norm(self.embed(x))).relu().mean(1))


class Branching(nn.Module):
    """The value of a sample decides which layer it goes through, which vmap refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(6, 5)
        self.down = nn.Linear(6, 5)
        self.norm = nn.LayerNorm(5)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        rows = [self.up(row) if float(row.sum()) > 0 else self.down(row) for row in x]
        return self.head(self.norm(torch.stack(rows)).relu())


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(3, 4, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


class DictOutput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.body(x).relu()
        return {"embedding": hidden.sum(1), "logits": self.head(hidden)}


class IdleLayer(nn.Module):
    """One layer never runs; the output of another is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 4)
        self.idle = nn.Linear(6, 4)
        self.wasted = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).relu()
        self.wasted(hidden)
        return self.head(hidden)


class FrozenBackbone(nn.Module):
    """Features are computed under no_grad, as is usual for a pretrained backbone: their Ω is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.LayerNorm(5))
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.features(x)
        return self.head(features)


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = checkpoint(lambda x: self.first(x).relu(), x, use_reentrant=False)
        return self.head(hidden)


class Attention(nn.Module):
    """The bias of the keys cancels in the softmax: its gradient is 0 up to rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(6, 6) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        weights = (self.query(x) @ self.key(x).mT / 2).softmax(-1)
        return self.out(weights @ self.value(x)).mean(1)


class Embedder(nn.Module):
    """Outputs have length 1, so that ‖F(x)‖² is constant up to rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 5)
        self.last = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.last(self.first(x).relu()), dim=1)


def chain(*layers: str) -> dict[str, tuple[tuple[str, int, int], ...]]:
    """Return the readers of layers that each read the previous one, column by column."""
    return {one: ((other, 1, 0),) for one, other in pairwise(layers)}


MLP = Case("mlp", mlp, (6,), {"0": 8, "2": 5}, frozenset({"4"}), chain("0", "2", "4"))
MLP_WITHOUT_BIAS = replace(MLP, name="mlp-without-bias", build=lambda: mlp(bias=False))
MLP_BATCHNORM = Case(
    "mlp-batchnorm",
    mlp_batchnorm,
    (6,),
    {"0": 7, "3": 5, "6": 4},
    frozenset({"8"}),
    chain("0", "3", "6", "8"),
)
CONVNET = Case(
    "conv-bn-pool",
    convnet,
    (2, 6, 6),
    {"0": 5, "4": 4, "7": 6},
    frozenset({"9"}),
    {"0": (("4", 1, 0),), "4": (("7", 4, 0),), "7": (("9", 1, 0),)},
)
CONV_OPTIONS = Case(
    "conv-options",
    lambda: materialised(convs_with_options(groups=1), (2, 9, 8)),
    (2, 9, 8),
    {"0": 4, "2": 6, "4": 4, "6": 3},
    frozenset({"8"}),
    {**chain("0", "2", "4", "6"), "6": (("8", 9, 0),)},
)
TWO_HEADS = Case(
    "two-heads",
    TwoHeads,
    (6,),
    {"body": 7},
    frozenset({"heads.0", "heads.1"}),
    {"body": (("heads.0", 1, 0), ("heads.1", 1, 0))},
)
RESIDUAL_MLP = Case(
    "residual-mlp",
    ResidualMLP,
    (6,),
    {"stem": 5, "inner": 4},
    frozenset({"head"}),
    {"stem": (("inner", 1, 0), ("head", 1, 0)), "inner": (("back", 1, 0),)},
)
RESIDUAL_CONV = replace(
    RESIDUAL_MLP,
    name="residual-conv",
    build=ResidualConv,
    shape=(2, 4, 4),
    groups={"stem": 4, "inner": 3},
)
CONCAT = Case(
    "concat",
    Concat,
    (2, 4, 4),
    {"left": 3, "right": 4, "join": 5},
    frozenset({"head"}),
    {"left": (("join", 1, 0),), "right": (("join", 1, 3),), "join": (("head", 4, 0),)},
)
TIED = Case(
    "tied",
    Tied,
    (6,),
    {"first": 5},
    frozenset({"head"}),
    {"first": (("second", 1, 0), ("third", 1, 0), ("head", 1, 0))},
    together=True,
)
USED_TWICE = Case(
    "used-twice",
    UsedTwice,
    (6,),
    {"first": 5},
    frozenset({"head"}),
    {"first": (("again", 1, 0), ("head", 1, 0))},
)
INPLACE_RELU = Case(
    "inplace-relu",
    lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 2)),
    (6,),
    {"0": 5},
    frozenset({"2"}),
    chain("0", "2"),
)
DROPOUT = Case(
    "dropout",
    lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 2)),
    (6,),
    {"0": 5},
    frozenset({"3"}),
    chain("0", "3"),
)

SURGERY = (
    MLP,
    MLP_WITHOUT_BIAS,
    MLP_BATCHNORM,
    CONVNET,
    CONV_OPTIONS,
    TWO_HEADS,
    RESIDUAL_MLP,
    RESIDUAL_CONV,
    CONCAT,
    TIED,
    USED_TWICE,
    INPLACE_RELU,
    DROPOUT,
)
"""Networks with groups that shrink and grow."""

IMPORTANCE = (
    *SURGERY,
    Case(
        "conv-options-grouped",
        lambda: materialised(convs_with_options(groups=2), (2, 9, 8)),
        (2, 9, 8),
    ),
    Case(
        "conv-grouped-one-position",
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(6, 2)),
        (4, 3, 3),
    ),
    Case(
        "depthwise",
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3, groups=3, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(96, 2)
        ),
        (3, 4, 4),
    ),
    Case("conv-used-twice", ConvUsedTwice, (2, 4, 4)),
    Case("raw-parameter", RawParameter, (6,)),
    Case("functional-use", FunctionalUse, (6,)),
    Case("function-of-parameter", FunctionOfParameter, (6,)),
    Case(
        "layernorm",
        lambda: nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 2)),
        (6,),
    ),
    Case(
        "positions",
        lambda: nn.Sequential(nn.Linear(6, 5), nn.PReLU(4), nn.Linear(5, 2), nn.Flatten()),
        (4, 6),
    ),
    Case("tokens", Tokens, (4,), tokens=11),
    Case("branching", Branching, (6,)),
    Case("recurrent", Recurrent, (4, 3)),
    Case("dict-output", DictOutput, (6,)),
    Case("idle-layer", IdleLayer, (6,)),
    Case("frozen-backbone", FrozenBackbone, (6,)),
    Case("checkpointed", Checkpointed, (6,)),
    Case("one-number", lambda: nn.Sequential(nn.Linear(6, 1), nn.Flatten(0)), (6,)),
    Case(
        "other-convs",
        lambda: nn.Sequential(
            nn.ConvTranspose2d(2, 3, 2),
            nn.ReLU(),
            nn.Flatten(2),
            nn.Conv1d(3, 2, 3),
            nn.MaxPool1d(6),
            nn.Flatten(),
        ),
        (2, 3, 3),
    ),
    Case(
        "groupnorm",
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
        ),
        (2, 4, 4),
    ),
)
"""Networks whose importance is measured."""

CANCELLING = (
    Case("attention", Attention, (4, 6)),
    Case("embedder", Embedder, (6,)),
    Case(
        "instancenorm",
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4), nn.ReLU(), nn.Flatten()),
        (2, 6, 6),
    ),
)
"""Networks in which some gradient is 0 up to rounding."""
