"""Unit graph: units as nodes, for networks small enough to be drawn unit by unit."""

from collections.abc import Mapping

import networkx as nx
import torch
from torch import Tensor

from growmas.errors import HistoryError
from growmas.structure.inspection.saliency import check_shape
from growmas.structure.layers.axes import Role
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.placement import Placement, placements
from growmas.structure.units.structure_like import StructureLike

UnitNode = tuple[str, int]
Side = list[tuple[UnitGroup, Placement]]


def unit_graph(
    structure: StructureLike,
    omega: Mapping[str, Tensor] | None = None,
    *,
    threshold: float = 0.1,
    most: int = 2000,
) -> "nx.DiGraph[UnitNode]":
    """Return a graph of units as nodes and weights between them as edges.

    Nodes are (group, id), and (layer, channel) for outputs of layers that are not units; they
    have `group`, `unit`, `birth` (index of the task) and, with Ω, `importance`. An edge leads from
    a unit to every unit, or output, of a layer that reads it; its `weight` is Σ |θ| over the
    weights between the two, or Σ Ω if Ω is given. Grouped convolutions are left out.

    Args:
        structure: The structure with the units.
        omega: Parameter name -> Ω.
        threshold: Edges below this share of the layer's strongest are left out, 0 to 1.
        most: Largest number of units for which a graph is made.

    Raises:
        HistoryError: There are more units, or the threshold is out of range.
        PenaltyError: Ω is not given by parameter name, or has another shape than its parameter.
    """
    units = sum(group.width for group in structure.groups.values())
    if units > most:
        raise HistoryError(
            f"{units:,} units are too many for a readable graph: pass most={units} to get it "
            "anyway, or use structure.architecture()"
        )
    if not 0 <= threshold <= 1:
        raise HistoryError(f"threshold={threshold!r}: expected a share from 0 to 1")
    graph: nx.DiGraph[UnitNode] = nx.DiGraph()
    for group in structure.groups.values():
        _add_nodes(graph, group)
    if omega is not None:
        for name, saliency in structure.saliency(omega).items():
            ids = structure.groups[name].unit_ids
            for unit, value in zip(ids, saliency.tolist(), strict=True):
                graph.nodes[name, unit]["importance"] = value
    _add_edges(graph, structure, omega, threshold)
    return graph


def _add_nodes(graph: "nx.DiGraph[UnitNode]", group: UnitGroup) -> None:
    for unit, birth in zip(group.unit_ids, group.births, strict=True):
        graph.add_node((group.name, unit), group=group.name, unit=unit, birth=birth)


def _add_edges(
    graph: "nx.DiGraph[UnitNode]",
    structure: StructureLike,
    omega: Mapping[str, Tensor] | None,
    threshold: float,
) -> None:
    names = {id(p): name for name, p in structure.model.named_parameters()}
    producers = _by_tensor(structure, "out")
    for tensor, consumers in _by_tensor(structure, "in").items():
        for group, place in consumers:
            name = names.get(tensor)
            if name is None or getattr(place.module, "groups", 1) > 1:
                continue
            values = _strength(name, place.tensor, omega)
            for nodes, between in _between(values, place, producers.get(tensor, [])):
                limit = max(threshold * float(between.max()), torch.finfo(torch.float32).tiny)
                for i, j in (between >= limit).nonzero().tolist():
                    if nodes[j] not in graph:
                        graph.add_node(nodes[j], group=nodes[j][0], unit=nodes[j][1])
                    source = (group.name, group.unit_ids[i])
                    graph.add_edge(source, nodes[j], weight=float(between[i, j]))


def _by_tensor(structure: StructureLike, role: Role) -> dict[int, Side]:
    """Return the groups on one side of each weight, by the tensor's id."""
    found: dict[int, Side] = {}
    for group in structure.groups.values():
        for place in placements(structure.model, group, (role,)):
            if place.tensor.dim() > 1 and not place.rows:
                found.setdefault(id(place.tensor), []).append((group, place))
    return found


def _strength(name: str, weight: Tensor, omega: Mapping[str, Tensor] | None) -> Tensor:
    if omega is None:
        return weight.detach().abs().cpu()
    if name not in omega:
        return torch.zeros_like(weight, device="cpu")
    check_shape(name, omega[name], weight)
    return omega[name].detach().cpu()


def _between(
    values: Tensor, consumer: Placement, producers: Side
) -> list[tuple[list[UnitNode], Tensor]]:
    """Return the nodes that a layer gives, and [U in, U out], the strength of the edges to them."""
    read = consumer.axis.dim
    if producers:
        return [
            (
                [(group.name, unit) for unit in group.unit_ids],
                _summed(values, consumer, place.axis.dim, place.positions),
            )
            for group, place in producers
        ]
    out = next((a.dim for a in consumer.axes.out if a.tensor == consumer.axis.tensor), 1 - read)
    every = torch.arange(values.shape[out]).unsqueeze(1)
    nodes = [(consumer.layer, channel) for channel in range(len(every))]
    return [(nodes, _summed(values, consumer, out, every))]


def _summed(values: Tensor, consumer: Placement, out: int, positions: Tensor) -> Tensor:
    """Return [U in, U out], sums over the entries of units on both sides, and over kernels."""
    sums = _gathered(values, consumer.axis.dim, consumer.positions)
    sums = _gathered(sums, out, positions)
    sums = sums.movedim((consumer.axis.dim, out), (0, 1))
    return sums.reshape(*sums.shape[:2], -1).sum(2)


def _gathered(values: Tensor, dim: int, positions: Tensor) -> Tensor:
    chosen = values.index_select(dim, positions.flatten().cpu())
    before, behind = chosen.shape[:dim], chosen.shape[dim + 1 :]
    return chosen.reshape(*before, *positions.shape, *behind).sum(dim + 1)
