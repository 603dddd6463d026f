"""What a measurement holds at its peak, and how it does without copies of the parameters."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import reference
import snapshots
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.testing._internal.two_tensor import TwoTensor

from growmas import GrowmasWarning, fisher_information, mas_importance
from growmas.importance.gradients import Products
from growmas.importance.kept import kept, unwritten
from growmas.importance.operations import RULES
from growmas.importance.sketch import BLOCK, WHOLE_BELOW, sketch

STRANGE = torch.Generator().manual_seed(5)


def held_at_peak(work: Callable[[], Any]) -> int:
    """Bytes of tensors at the peak, beyond those held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    held = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


class Words(nn.Module):
    """A table that is also the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.inner = nn.Embedding(3000, 64), nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.table(x)) @ self.table.weight.mT


def attention() -> nn.Module:
    return nn.TransformerEncoderLayer(128, 4, 512, 0.0, batch_first=True)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "layers": (
        lambda: nn.Sequential(nn.Linear(600, 500), nn.Tanh(), nn.Linear(500, 400)),
        lambda: torch.randn(16, 600),
    ),
    "kernels": (
        lambda: nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU()),
        lambda: torch.rand(8, 3, 40, 40),
    ),
    "tied table": (Words, lambda: torch.randint(3000, (2, 9))),
    "attention": (attention, lambda: torch.randn(4, 50, 128)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_holds_at_most_half_more_than_a_plain_pass(name: str) -> None:
    build, batch = NETWORKS[name]
    model, data = build().eval(), batch()
    mas_importance(build(), [data])  # what is computed once
    measured = held_at_peak(lambda: mas_importance(model, [data]))
    plain = held_at_peak(lambda: model(data).square().sum().backward())
    assert measured <= 1.5 * plain


def writes() -> dict[str, Callable[[Tensor], Any]]:
    def under_no_grad(p: Tensor) -> None:
        with torch.no_grad():
            p.mul_(3)

    def by_numpy(p: Tensor) -> None:
        p.detach().numpy()[1] = 7

    return {
        "in place": under_no_grad,
        "data": lambda p: p.data.fill_(2),
        "view": lambda p: p.detach().view(-1)[2:].zero_(),
        "numpy": by_numpy,
        "index": lambda p: p.data.__setitem__((0, 0), 9.0),
        "normalised": lambda p: nn.functional.embedding(torch.tensor([0]), p, max_norm=0.1),
    }


@pytest.mark.parametrize("name", writes())
def test_kept_values_are_what_they_were_however_a_parameter_is_written(name: str) -> None:
    parameter = nn.Parameter(torch.randn(4, 3))
    before, copy = kept(parameter), parameter.detach().clone()
    assert unwritten(parameter, before)
    writes()[name](parameter)
    assert torch.equal(before, copy)
    assert not torch.equal(parameter, copy)
    assert not unwritten(parameter, before)


def test_kept_values_take_no_memory_until_something_is_written() -> None:
    parameter = nn.Parameter(torch.randn(1000, 100))
    assert held_at_peak(lambda: kept(parameter)) < 1000


@pytest.mark.parametrize("kind", ["wraps others", "sparse", "empty"])
def test_a_tensor_without_memory_of_its_own_does_not_count_as_unwritten(kind: str) -> None:
    dense = torch.eye(3)
    values = {
        "wraps others": lambda: TwoTensor(dense, dense.clone()),
        "sparse": dense.to_sparse,
        "empty": lambda: dense[:0],
    }[kind]()
    before = kept(values)
    if kind == "wraps others":
        values.mul_(2)
        assert torch.equal(before.a, torch.eye(3))
    assert not unwritten(values, before)


@pytest.mark.parametrize("alias", ["view", "numpy"])
def test_memory_that_others_see_stays_where_it_is(alias: str) -> None:
    """An array of the user's must still show the parameter after a model wrote to it."""
    model = nn.Sequential(nn.Embedding(9, 4, max_norm=0.1), nn.Flatten(), nn.Linear(12, 2))
    weight = model[0].weight
    seen = weight.detach() if alias == "view" else weight.detach().numpy()
    address, before = weight.data_ptr(), snapshots.of_model(model)
    mas_importance(model, [torch.randint(9, (5, 3))])
    assert snapshots.of_model(model) == before
    assert weight.data_ptr() == address
    weight.data.fill_(4.0)
    assert bool((torch.as_tensor(seen) == 4).all())


@pytest.mark.parametrize("place", [0, 63, 64, WHOLE_BELOW + 5])
@pytest.mark.parametrize("error", [1e-3, 5.0, float("nan")])
def test_a_sketch_shows_every_single_entry_that_is_off(place: int, error: float) -> None:
    values = torch.rand(WHOLE_BELOW + 7, generator=STRANGE, dtype=torch.float64)
    other = values.clone()
    other[place] += error
    off = sketch(other, 1).difference(sketch(values, 1))
    assert not off <= error / 2 * (1 - 1e-9)


@pytest.mark.parametrize("change", ["transposed", "rolled", "two rows swapped", "halved"])
def test_a_sketch_shows_what_moves_entries_without_changing_them(change: str) -> None:
    values = torch.rand(2 * BLOCK, 2 * BLOCK, generator=STRANGE, dtype=torch.float64)
    swapped = [1, 0, *range(2, 2 * BLOCK)]
    other = {
        "transposed": values.mT, "rolled": values.roll(1), "two rows swapped": values[swapped],
        "halved": values / 2,
    }[change]  # fmt: skip
    assert sketch(other, 1).difference(sketch(values, 1)) > 0.05
    assert sketch(values.clone(), 1).difference(sketch(values, 1)) == 0


def test_autocast_does_not_make_sketches_coarser() -> None:
    values = torch.rand(2 * WHOLE_BELOW, generator=STRANGE)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = sketch(values, 2)
    assert coarse.sums.dtype == torch.float32
    assert coarse.difference(sketch(values, 2)) == 0


def test_a_sketch_shows_every_pair_of_neighbours_that_is_swapped_or_equally_off() -> None:
    whole = torch.zeros(WHOLE_BELOW, dtype=torch.float64)
    zero = sketch(whole, 1)
    for one, two in itertools.combinations(range(BLOCK), 2):
        for other in (1.0, -1.0):
            off = whole.clone()
            off[one], off[two] = 1.0, other
            assert sketch(off, 1).difference(zero) >= 0.25


@pytest.mark.parametrize("measure", ["importance", "Fisher"])
def test_a_rule_that_is_wrong_for_one_entry_of_a_large_weight_is_not_used(
    measure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule multiplies one column of 12,000 entries by 1.5; the rest is right."""
    rule = RULES[nn.functional.linear]

    def wrong(bound: Mapping[str, Any], delta: Tensor) -> dict[str, Any]:
        found = rule.gradients(bound, delta)
        weight = found["weight"]
        right = weight.right.clone()
        right[..., 17] *= 1.5
        return {**found, "weight": Products(weight.left, right, weight.transposed)}

    monkeypatch.setitem(RULES, nn.functional.linear, replace(rule, gradients=wrong, direct=None))
    model = nn.Sequential(nn.Linear(120, 100), nn.Tanh(), nn.Linear(100, 3)).double()
    data = torch.randn(5, 120, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 1, 0])
    warned = pytest.warns(GrowmasWarning, match="another gradient than automatic")
    if measure == "importance":
        with warned:
            found = mas_importance(model, [data])
        wanted = reference.importance(model, data.split(1))
    else:
        with warned:
            found = fisher_information(model, [(data, labels)])
        losses = [
            nn.functional.cross_entropy(model(x), y)
            for x, y in zip(data.split(1), labels.split(1), strict=True)
        ]
        named = dict(model.named_parameters())
        squares = [reference.gradients(loss, named) for loss in losses]
        wanted = {n: torch.stack([g[n] ** 2 for g in squares]).mean(0) for n in named}
    for name, want in wanted.items():
        assert torch.allclose(found[name], want, rtol=1e-9, atol=0), name


@pytest.mark.parametrize("fused", [False, True])
def test_a_measured_model_is_trained_saved_and_written_to_as_before(
    fused: bool, tmp_path: Path
) -> None:
    model, data = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), torch.randn(7, 6)
    addresses = [p.data_ptr() for p in model.parameters()]
    optimizer = torch.optim.Adam(model.parameters(), fused=fused)
    for _ in range(2):
        before = [p.detach().clone() for p in model.parameters()]
        mas_importance(model, [data])
        model(data).square().sum().backward()
        optimizer.step()
        for p, was in zip(model.parameters(), before, strict=True):
            assert not torch.equal(p, was)
    mas_importance(model, [data])
    array = model[0].weight.detach().numpy()
    array[0, 0] = 42.0
    assert model[0].weight[0, 0] == 42
    mas_importance(model, [data])
    torch.save(model.state_dict(), tmp_path / "model.pt")
    saved = torch.load(tmp_path / "model.pt")
    for name, value in model.state_dict().items():
        assert torch.equal(saved[name], value)
    assert [p.data_ptr() for p in model.parameters()] == addresses
    mas_importance(model, [data])
    model.share_memory()
    mas_importance(model, [data])
    assert model[0].weight.is_shared()


def test_an_interrupted_pass_that_has_written_leaves_the_model_as_it_was() -> None:
    class Writes(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            self.weight.data.fill_(1.0)
            self.bias.detach().numpy()[:] = 5.0
            raise KeyboardInterrupt

    model = Writes(3, 2)
    before = snapshots.of_model(model)
    with pytest.raises(KeyboardInterrupt):
        mas_importance(model, [torch.randn(2, 3)])
    assert snapshots.of_model(model) == before
