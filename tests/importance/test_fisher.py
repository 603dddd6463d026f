"""Fisher information against the loop over samples, and what follows from its definition."""

from typing import Any

import pytest
import reference
import snapshots
import torch
import torch.nn.functional as F
from cases import CONVNET, IMPORTANCE, MLP, Case
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from growmas import MAS, GrowmasError, Structure, fisher_information
from growmas.config import MASConfig
from growmas.data import Split, Task
from growmas.training.methods.mas import FixedMAS

CLASSIFIERS = [
    case
    for case in IMPORTANCE
    if case.name not in ("two-heads", "dict-output", "one-number", "positions", "frozen-backbone")
]


def labelled(case: Case, samples: int, seed: int = 1) -> tuple[nn.Module, Tensor, Tensor]:
    model, data = case.model(torch.float64), case.inputs(samples, torch.float64, seed)
    model.eval()
    classes = model(data).shape[1]
    labels = torch.randint(classes, (samples,), generator=torch.Generator().manual_seed(seed))
    return model, data, labels


def close(found: dict[str, Tensor], wanted: dict[str, Tensor], rtol: float = 1e-10) -> None:
    assert found.keys() == wanted.keys()
    for name, want in wanted.items():
        error = float((found[name] - want).norm())
        assert error <= rtol * float(want.norm()) + 1e-14, name


@pytest.mark.parametrize("target", ["label", "model"])
@pytest.mark.parametrize("case", CLASSIFIERS, ids=lambda case: case.name)
def test_equals_the_loop(case: Case, target: Any) -> None:
    model, data, labels = labelled(case, 7)
    if model(data).dim() != 2:
        pytest.skip("one label for each sample")
    before = snapshots.of_model(model)
    batches = list(zip(data.split(4), labels.split(4), strict=True))
    found = fisher_information(model, batches, target=target)
    assert snapshots.of_model(model) == before
    samples = zip(data.split(1), labels, strict=True)
    close(found, reference.fisher(model, samples, target))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.sampled_from([MLP, CONVNET]), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_cutting_and_order_do_not_matter(case: Case, samples: int, size: int, seed: int) -> None:
    model, data, labels = labelled(case, samples, seed)
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(seed))
    pieces = zip(data[order].split(size), labels[order].split(size), strict=True)
    close(fisher_information(model, list(pieces)), fisher_information(model, [(data, labels)]))


def test_a_draw_is_the_empirical_fisher_of_its_labels_and_an_estimate_of_the_true_one() -> None:
    model, data, _ = labelled(MLP, 6)
    true = fisher_information(model, [data], target="model")
    draws = [
        fisher_information(
            model, [data], target="sample", generator=torch.Generator().manual_seed(seed)
        )
        for seed in range(60)
    ]
    mean = {name: torch.stack([draw[name] for draw in draws]).mean(0) for name in true}
    total, wanted = (sum(float(f.sum()) for f in fisher.values()) for fisher in (mean, true))
    assert total == pytest.approx(wanted, rel=0.15)
    again = fisher_information(model, [data], target="sample")
    close(again, fisher_information(model, [data], target="sample"))


def test_confident_labels_of_the_model_and_the_hand_made_case() -> None:
    """One weight, two classes: F = p(1 − p) x² for the difference of the logits."""
    layer = nn.Linear(1, 2, bias=False).double()
    x = torch.tensor([[2.0]], dtype=torch.float64)
    p = layer(x).softmax(-1)[0, 0]
    found = fisher_information(layer, [x], target="model")["weight"]
    assert torch.allclose(found, (p * (1 - p) * 4).expand(2, 1).double())


@pytest.mark.parametrize("loss", [F.cross_entropy, nn.CrossEntropyLoss(), "own"])
def test_losses_of_torch_and_of_ones_own(loss: Any) -> None:
    model, data, labels = labelled(MLP, 6)
    if loss == "own":
        loss = lambda out, y: F.cross_entropy(out, y, reduction="none")  # noqa: E731
    found = fisher_information(model, [(data, labels)], loss=loss)
    close(found, fisher_information(model, [{"input": data, "labels": labels}]))


def test_squared_error_and_a_loss_at_positions() -> None:
    model, data, _ = labelled(MLP, 5)
    targets = torch.randn(5, 3, dtype=torch.float64)
    found = fisher_information(model, [(data, targets)], loss="squared_error")
    by_torch = fisher_information(model, [(data, targets)], loss=nn.MSELoss(reduction="sum"))
    close({n: 4 * f for n, f in found.items()}, by_torch)  # torch has no ½
    vector = fisher_information(model, [data], loss="squared_error", target="model")
    parameters = dict(model.named_parameters())
    wanted = {n: torch.zeros_like(p) for n, p in parameters.items()}
    for x in data.split(1):
        for coordinate in model(x)[0]:
            for n, gradient in reference.gradients(coordinate, parameters).items():
                wanted[n] += gradient**2 / 5
    close(vector, {n: f.detach() for n, f in wanted.items()})


def test_language_models_sum_over_positions_and_ignore_padding() -> None:
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 7)).double()
    words = torch.randint(7, (5, 3))
    labels = words.roll(1, 1).clone()
    labels[0, 1:] = -100
    found = fisher_information(model, [(words, labels)])
    parameters = dict(model.named_parameters())
    wanted = {n: torch.zeros_like(p) for n, p in parameters.items()}
    for x, y in zip(words.split(1), labels.split(1), strict=True):
        loss = F.cross_entropy(model(x)[0], y[0], reduction="sum", ignore_index=-100)
        for n, gradient in reference.gradients(loss, parameters).items():
            wanted[n] += gradient**2 / 5
    close(found, {n: f.detach() for n, f in wanted.items()})


def test_elastic_weight_consolidation_in_three_lines() -> None:
    model, data, labels = labelled(MLP, 6)
    fisher = fisher_information(model, [(data, labels)])
    mas = MAS(model, strength=0.5)
    mas.consolidate(fisher)
    with torch.no_grad():
        model[0].weight.add_(0.1)
    assert float(mas.penalty().detach()) == pytest.approx(
        0.5 * 0.01 * float(fisher["0.weight"].sum())
    )


def test_errors() -> None:
    model, data, labels = labelled(MLP, 4)
    for arguments, message in (
        ({"target": "true"}, r"target='true' is not known: give 'label'"),
        ({"loss": "mse"}, r"loss='mse' is not known: give 'cross_entropy'"),
        ({"loss": lambda out, y: out.sum()}, r"loss= returned one number"),
        ({"loss": F.mse_loss, "target": "model"}, r"needs a distribution of labels"),
        ({"forward": 5}, r"forward=5"),
    ):
        with pytest.raises(GrowmasError, match=message):
            fisher_information(model, [(data, labels)], **arguments)
    with pytest.raises(GrowmasError, match=r"target='label' needs labels"):
        fisher_information(model, [data])
    with pytest.raises(GrowmasError, match=r"labels of shape .* do not fit"):
        fisher_information(model, [(data, labels[:, None, None])])


class OneHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.heads = nn.Linear(4, 6), nn.ModuleList([nn.Linear(6, 2)])

    def forward(self, x: Tensor, head: int = 0) -> Tensor:
        return self.heads[head](self.body(x).relu())


def test_a_run_can_protect_by_fisher_information() -> None:
    model, x = OneHead(), torch.randn(20, 4)  # streams give float32
    data = Split(x, torch.randint(2, (20,)))
    mas = MAS(model)
    method = FixedMAS(Structure(model, x), mas, "fisher")
    method.end_task(Task("one", 0, data, data, (0, 1), 0))
    close(mas.omega, fisher_information(model, [(data.inputs, data.labels)]), rtol=1e-5)
    assert MASConfig(kind="mas", importance="fisher").importance == "fisher"
