"""Every rule against the slow loop, and that it is the rule which answers."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from growmas import mas_importance
from growmas.importance import PerSample, exact, register_rule
from growmas.importance.fallback import Fallback
from growmas.importance.operations import RULES
from tests import reference


class Tokens(nn.Module):
    """Embedding, class token, positions, an encoder layer, layer scale: a small ViT in one."""

    def __init__(self, norm_first: bool = True) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8, padding_idx=0)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.positions = nn.Parameter(torch.randn(1, 6, 8))
        self.layer = nn.TransformerEncoderLayer(
            8, 2, 12, dropout=0.1, batch_first=True, norm_first=norm_first
        )
        self.scale = nn.Parameter(torch.rand(8))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.cat([self.token.expand(len(x), -1, -1), self.embed(x)], dim=1)
        return self.head(self.scale * self.layer(tokens + self.positions)[:, 0])


class Attention(nn.Module):
    def __init__(self, **options: object) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, **options)
        self.first = options.get("batch_first", False)

    def forward(self, x: Tensor) -> Tensor:
        query = x if self.first else x.transpose(0, 1)
        key = query.flip(-1)[..., : self.attention.kdim]
        value = key if self.attention.kdim != 6 else query
        mask = torch.ones(4, 4, dtype=torch.bool).triu(1)
        output = self.attention(query, key, value, attn_mask=mask)[0]
        return output if self.first else output.transpose(0, 1)


class Flattened(nn.Module):
    """Positions and samples in one dimension, samples outside or inside."""

    def __init__(self, inside: bool) -> None:
        super().__init__()
        self.body, self.head, self.inside = nn.Linear(5, 7), nn.Linear(7, 2), inside

    def forward(self, x: Tensor) -> Tensor:
        n, positions, width = x.shape
        rows = x.transpose(0, 1) if self.inside else x
        hidden = self.body(rows.reshape(-1, width)).tanh()
        if self.inside:
            return self.head(hidden.view(positions, n, -1).mean(0))
        return self.head(hidden.view(n, positions, -1).mean(1))


class TiedHead(nn.Module):
    """A table that is read by rows, and multiplied with."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.body = nn.Embedding(11, 4), nn.Linear(4, 4)
        self.head = nn.Linear(4, 11)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.embed(x)).tanh())


class Transposed(nn.Module):
    """GPT-2's linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        flat = torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight)
        return flat.view(*x.shape[:-1], -1).tanh()


class Shift(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.randn(shape)), nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        return (self.shift + x * self.gain).tanh()


def norm(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    for buffer in layer.buffers():
        if buffer.is_floating_point():
            nn.init.uniform_(buffer, 0.5, 2.0)
    return layer


def after(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 5), layer, nn.Tanh())


FLOATS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear at positions": (lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh()), (3, 2, 5)),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(2, 3, 3, 2, 1), nn.Tanh()), (2, 9)),
    "conv3d": (lambda: nn.Sequential(nn.Conv3d(2, 3, 2, dilation=2), nn.Tanh()), (2, 4, 5, 4)),
    "conv1d same": (lambda: nn.Conv1d(2, 4, 4, padding="same", groups=2), (2, 7)),
    "conv2d same": (lambda: nn.Conv2d(2, 2, (2, 4), padding="same", dilation=(1, 2)), (2, 7, 8)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4, padding=1), (4, 5, 5)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, groups=2), (4, 5)),
    "transposed 2d": (lambda: nn.ConvTranspose2d(2, 3, 3, 2, 1, 1, dilation=2), (2, 4, 3)),
    "transposed 3d": (lambda: nn.ConvTranspose3d(2, 3, 2, 2), (2, 2, 3, 2)),
    "layer norm": (lambda: after(norm(nn.LayerNorm(5))), (3, 5)),
    "layer norm 2d": (lambda: norm(nn.LayerNorm((3, 5))), (2, 3, 5)),
    "rms norm": (lambda: after(norm(nn.RMSNorm(5))), (5,)),
    "group norm": (lambda: nn.Sequential(norm(nn.GroupNorm(2, 4)), nn.Tanh()), (4, 3, 2)),
    "batch norm 1d": (lambda: after(norm(nn.BatchNorm1d(5))), (5,)),
    "batch norm 3d": (lambda: nn.Sequential(norm(nn.BatchNorm3d(2)), nn.Tanh()), (2, 2, 3, 2)),
    "instance norm": (
        lambda: nn.Sequential(norm(nn.InstanceNorm2d(3, affine=True)), nn.Tanh()),
        (3, 4, 4),
    ),
    "instance norm, running": (
        lambda: norm(nn.InstanceNorm1d(3, affine=True, track_running_stats=True)),
        (3, 4),
    ),
    "prelu": (lambda: nn.Sequential(nn.Conv1d(2, 3, 1), nn.PReLU(3)), (2, 4)),
    "prelu of one": (lambda: nn.Sequential(nn.Linear(5, 4), nn.PReLU()), (5,)),
    "attention": (lambda: Attention(batch_first=True), (4, 6)),
    "attention, positions first": (lambda: Attention(), (4, 6)),
    "attention of two widths": (lambda: Attention(kdim=3, vdim=3, batch_first=True), (4, 6)),
    "flattened": (lambda: Flattened(inside=False), (3, 5)),
    "flattened, samples inside": (lambda: Flattened(inside=True), (3, 5)),
    "addmm": (Transposed, (3, 5)),
    "shift and gain": (lambda: nn.Sequential(nn.Linear(5, 4), Shift(4)), (3, 5)),
    "shift of a plane": (lambda: nn.Sequential(nn.Linear(5, 4), Shift(3, 1)), (3, 5)),
}


class Places(nn.Module):
    """A position table looked up once for all samples, and added once or twice."""

    def __init__(self, ranks: int, times: int = 1) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(11, 4), nn.Embedding(9, 4)
        self.head, self.ranks, self.times = nn.Linear(4, 3), ranks, times

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1])
        added = self.places(places[None] if self.ranks == 3 else places)
        hidden = self.words(x)
        for _ in range(self.times):
            hidden = (hidden + added).tanh()
        return self.head(hidden)


def test_a_table_that_is_added_twice_is_measured_by_the_fallback() -> None:
    check(Places(2, times=2).double(), torch.randint(11, (6, 5)), 6, 1e-10)


class Steps(nn.Module):
    def __init__(self, kind: type, **options: object) -> None:
        super().__init__()
        self.cell, self.first = kind(5, 4, **options), options.get("batch_first", False)
        self.head = nn.Linear(4 * (2 if options.get("bidirectional") else 1), 2)

    def forward(self, x: Tensor) -> Tensor:
        out = self.cell(x if self.first else x.transpose(0, 1))[0]
        return self.head(out if self.first else out.transpose(0, 1)).tanh()


FLOATS |= {
    "lstm": (lambda: Steps(nn.LSTM, batch_first=True), (6, 5)),
    "lstm, two layers, both directions": (
        lambda: Steps(nn.LSTM, num_layers=2, bidirectional=True), (4, 5),
    ),
    "gru": (lambda: Steps(nn.GRU), (6, 5)),
    "gru, both directions, no bias": (
        lambda: Steps(nn.GRU, bidirectional=True, bias=False, batch_first=True), (3, 5),
    ),
    "rnn of relu": (lambda: Steps(nn.RNN, num_layers=2, nonlinearity="relu"), (4, 5)),
}  # fmt: skip
TABLE = {
    **{n: (build, lambda count, s=shape: torch.randn(count, *s)) for n, (build, shape) in
       FLOATS.items()},
    "rows of a sparse table": (
        lambda: nn.Sequential(nn.Embedding(11, 4, sparse=True), nn.Flatten(), nn.Linear(20, 3)),
        lambda n: torch.randint(11, (n, 5)),
    ),
    "places": (lambda: Places(2), lambda n: torch.randint(11, (n, 5))),
    "places of one row": (lambda: Places(3), lambda n: torch.randint(11, (n, 5))),
    "tied head": (TiedHead, lambda n: torch.randint(11, (n, 5))),
    "encoder": (Tokens, lambda n: torch.randint(11, (n, 5))),
    "encoder, norm last": (lambda: Tokens(False), lambda n: torch.randint(11, (n, 5))),
}  # fmt: skip


def check(model: nn.Module, data: Tensor, cuts: int, bound: float) -> None:
    wanted = reference.importance(model, data.split(1))
    found = mas_importance(model, data.split(cuts))
    assert set(found) == set(wanted)
    for name, expected in wanted.items():
        largest = float(expected.abs().max())
        assert float((found[name] - expected).abs().max()) <= bound * max(largest, 1e-3), name


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_rules_equal_the_loop(
    name: str, dtype: torch.dtype, bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    build, inputs = TABLE[name]
    model, data = build().to(dtype), inputs(11)
    data = data.to(dtype) if data.is_floating_point() else data
    slow: list[str] = []

    original = Fallback.sums

    def spy(self, parameters, *rest):  # type: ignore[no-untyped-def]
        slow.extend(parameters)
        return original(self, parameters, *rest)

    monkeypatch.setattr(Fallback, "sums", spy)
    for cuts in (4, 11):
        check(model, data, cuts, bound)
    assert not slow, "a rule was not used"


@settings(max_examples=25, deadline=None)
@given(
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]),
    transposed=st.booleans(),
    dims=st.integers(1, 3),
    cuts=st.integers(1, 5),
)
def test_convolutions_of_every_kind(
    kernel: int, stride: int, padding: int, dilation: int, groups: int, transposed: bool,
    dims: int, cuts: int,
) -> None:  # fmt: skip
    torch.manual_seed(0)
    kinds = {
        False: (nn.Conv1d, nn.Conv2d, nn.Conv3d),
        True: (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    }
    padding = min(padding, dilation * (kernel - 1)) if transposed else padding
    layer = kinds[transposed][dims - 1](
        4, 4, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups
    ).double()
    data = torch.randn(5, 4, *(6, 5, 5)[:dims], dtype=torch.float64)
    check(layer, data, cuts, 1e-10)


def test_a_rule_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.randn(4))

        def forward(self, x: Tensor) -> Tensor:
            return F.softplus(self.gain) * x

    calls = []

    @register_rule(Scale)
    def scale(layer: Scale, seen: Tensor, delta: Tensor) -> dict[str, PerSample]:
        calls.append(len(seen))
        return {"gain": PerSample(delta * seen * torch.sigmoid(layer.gain.detach()))}

    try:
        check(
            nn.Sequential(nn.Linear(5, 4), Scale()).double(), torch.randn(7, 5).double(), 7, 1e-10
        )
        assert 7 in calls
    finally:
        del RULES[Scale]


def test_rows_read_twice_by_a_sample_are_summed_before_the_absolute_value() -> None:
    model = nn.Sequential(nn.Embedding(4, 3), nn.Flatten(), nn.Linear(6, 2)).double()
    data = torch.tensor([[1, 1], [0, 2], [3, 3], [1, 2]])
    check(model, data, 4, 1e-10)


@pytest.mark.parametrize("shape", [(6, 5), (6,)])
def test_tied_heads_in_small_chunks(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = TiedHead().double(), torch.randint(11, shape)
    expected = mas_importance(model, [x])
    monkeypatch.setattr(exact, "CHUNK_ELEMENTS", 1)
    monkeypatch.setattr("growmas.importance.gradients.PIECE", {"cpu": 4})
    found = mas_importance(model, [x])
    for name, omega in expected.items():
        torch.testing.assert_close(found[name], omega, rtol=1e-12, atol=1e-14)
