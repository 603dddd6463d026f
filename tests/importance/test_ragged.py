"""Batches whose rows belong to samples unevenly, with `owner=`: nodes of graphs, packed tokens."""

import types
from collections.abc import Callable
from typing import Any

import pytest
import reference
import torch
from torch import Tensor, nn

import growmas as gm

Graph = tuple[Tensor, Tensor, Tensor]


class Messages(nn.Module):
    """Nodes pass messages along weighted edges; graphs are pooled by the owner of each node."""

    def __init__(self, norm: Callable[[int], nn.Module] = nn.LayerNorm) -> None:
        super().__init__()
        self.embed, self.message = nn.Linear(3, 4), nn.Linear(4, 4)
        self.norm, self.head = norm(4), nn.Linear(4, 2)
        self.slope = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor, batch: Tensor) -> Tensor:
        hidden = self.norm(self.embed(x)).relu() * torch.sin(self.slope)
        sent = self.message(hidden[edge_index[0]]).tanh() * edge_weight[:, None]
        hidden = hidden.index_add(0, edge_index[1], sent)
        pooled = hidden.new_zeros(int(batch.max()) + 1, 4).index_add(0, batch, hidden)
        return self.head(pooled)


def graphs() -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """Return a batch of graphs of 1 to 4 nodes, and the graphs one by one."""
    singles, start = [], 0
    for nodes in (3, 1, 4, 2):
        x, edges = torch.randn(nodes, 3).double(), torch.randint(nodes, (2, nodes + 2))
        owner, weight = torch.zeros(nodes, dtype=torch.long), torch.rand(nodes + 2).double()
        singles.append({"x": x, "edge_index": edges, "edge_weight": weight, "batch": owner})
    whole: dict[str, list[Tensor]] = {key: [] for key in singles[0]}
    for n, single in enumerate(singles):
        shift = {"edge_index": start, "batch": n}
        for key, value in single.items():
            whole[key].append(value + shift.get(key, 0))
        start += len(single["x"])
    return {k: torch.cat(v, 1 if k == "edge_index" else 0) for k, v in whole.items()}, singles


def spread(model: nn.Module, batch: Any) -> Any:
    return model(*batch)


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return all(torch.allclose(found[n], w, rtol=1e-9, atol=1e-12) for n, w in wanted.items())


@pytest.fixture
def wanted() -> tuple[nn.Module, dict[str, Tensor], dict[str, Tensor]]:
    torch.manual_seed(0)
    model, (batch, singles) = Messages().double(), graphs()
    found = reference.importance(model, singles, forward=lambda m, b: m(**b))
    return model, batch, found


def test_an_owner_that_a_dict_has_is_recognised(wanted: Any) -> None:
    model, batch, omega = wanted
    assert same(gm.mas_importance(model, [batch]), omega)


@pytest.mark.parametrize("given", ["tensor", "function"])
def test_an_owner_that_is_given(wanted: Any, given: str) -> None:
    model, batch, omega = wanted
    owner = batch["batch"] if given == "tensor" else (lambda batch: batch[3])
    found = gm.mas_importance(model, [tuple(batch.values())], forward=spread, owner=owner)
    assert same(found, omega)


def test_an_object_with_the_attribute_is_recognised(wanted: Any) -> None:
    model, batch, omega = wanted
    found = gm.mas_importance(
        model, [types.SimpleNamespace(**batch)], forward=lambda m, b: m(**vars(b))
    )
    assert same(found, omega)


def test_fisher_information_takes_owners_too(wanted: Any) -> None:
    model, batch, _ = wanted
    labels = torch.tensor([0, 1, 1, 0])
    plain = tuple(batch.values())
    found = gm.fisher_information(
        model, [(plain, labels)], forward=lambda m, b: m(*b[0]), owner=lambda b: b[0][3]
    )
    drawn = gm.fisher_information(
        model, [plain], target="sample", forward=spread, owner=lambda b: b[3]
    )
    assert found.keys() == drawn.keys()
    assert found["head.bias"].sum() > 0


class Detached(Messages):
    """Takes the mean over all nodes away, which has no gradient."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor, batch: Tensor) -> Tensor:
        return super().forward(x - x.mean(0).detach(), edge_index, edge_weight, batch)


def test_an_influence_without_gradient_is_seen_through_owners() -> None:
    torch.manual_seed(0)
    model, (batch, _) = Detached().double(), graphs()
    with pytest.raises(gm.GrowmasError, match="depends on the rest"):
        gm.mas_importance(model, [batch])


def test_batch_statistics_over_nodes_are_refused() -> None:
    torch.manual_seed(0)
    model = Messages(lambda c: nn.BatchNorm1d(c, track_running_stats=False)).double()
    with pytest.raises(gm.GrowmasError):
        gm.mas_importance(model, [graphs()[0]])


def test_packed_tokens_with_an_owner() -> None:
    torch.manual_seed(1)
    layer = nn.Linear(3, 4).double()
    parts = [torch.randn(n, 3).double() for n in (2, 5, 1)]
    owner = torch.repeat_interleave(torch.arange(3), torch.tensor([2, 5, 1]))

    def forward(model: nn.Module, batch: Any) -> Tensor:
        rows, of = batch
        return rows.new_zeros(int(of.max()) + 1, 4).index_add(0, of, model(rows).tanh())

    found = gm.mas_importance(layer, [(torch.cat(parts), owner)], forward=forward, owner=owner)
    singles = [(part, torch.zeros(len(part), dtype=torch.long)) for part in parts]
    assert same(found, reference.importance(layer, singles, forward=forward))


@pytest.mark.parametrize(
    "owner",
    ["batch", 3, lambda batch: None, lambda batch: torch.rand(5), lambda batch: torch.ones(2, 2)],
)
def test_owners_that_are_none_are_refused(owner: Any) -> None:
    with pytest.raises(gm.ImportanceError, match="owner="):
        gm.mas_importance(nn.Linear(3, 2), [torch.randn(4, 3)], owner=owner)


def test_an_output_without_a_row_for_each_owner_is_refused() -> None:
    with pytest.raises(gm.ImportanceError, match="3 samples but the output has 5"):
        gm.mas_importance(nn.Linear(3, 2), [torch.randn(5, 3)], owner=torch.tensor([0, 0, 1, 2, 2]))


def test_nodes_pooled_without_owner_are_refused_with_the_remedy() -> None:
    def forward(model: nn.Module, batch: Any) -> Tensor:
        x, of = batch
        return x.new_zeros(2, 4).index_add(0, of, model(x))

    batch = (torch.randn(5, 3), torch.tensor([0, 0, 1, 1, 1]))
    with pytest.raises(gm.ImportanceError, match="owner="):
        gm.mas_importance(nn.Linear(3, 4), [batch], forward=forward)


def test_batches_of_torch_geometric() -> None:
    data = pytest.importorskip("torch_geometric.data")
    layers = pytest.importorskip("torch_geometric.nn")
    torch.manual_seed(0)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = layers.GCNConv(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor, edges: Tensor, batch: Tensor) -> Tensor:
            return self.head(layers.global_mean_pool(self.first(x, edges).relu(), batch))

    def forward(model: nn.Module, batch: Any) -> Tensor:
        return model(batch.x, batch.edge_index, batch.batch)

    made = [
        data.Data(x=torch.randn(n, 3).double(), edge_index=torch.randint(n, (2, 2 * n)))
        for n in (3, 1, 4, 2)
    ]
    model = Network().double()
    found = gm.mas_importance(model, [data.Batch.from_data_list(made)], forward=forward)
    singles = [data.Batch.from_data_list([one]) for one in made]
    assert same(found, reference.importance(model, singles, forward=forward))
