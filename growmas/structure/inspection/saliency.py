"""Saliency: the importance of units, from the importance of their weights."""

from collections.abc import Iterator, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from growmas.errors import PenaltyError
from growmas.structure.layers.axes import Role
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.placement import placements

Criterion = Literal["penalty", "sum", "taylor"]
"""Term that is summed over the weights of a unit, see `unit_saliency`."""

Which = Literal["out", "in", "both"]
"""Weights of a unit that count: those that read it, those that make it, or both."""

Scale = Literal["mean", "max", "rank"]
"""Common scale of the saliencies of a group, see `unit_saliency`."""

CRITERIA: tuple[Criterion, ...] = get_args(Criterion)
WHICH: dict[Which, tuple[Role, ...]] = {
    "out": ("in",),  # weights that read a unit's output are inputs ("in") of its consumers
    "in": ("out", "norm"),
    "both": get_args(Role),
}
NORMALIZE: tuple[Scale | None, ...] = (None, *get_args(Scale))


def unit_saliency(
    model: nn.Module,
    groups: Mapping[str, UnitGroup],
    omega: Mapping[str, Tensor],
    *,
    criterion: Criterion = "penalty",
    which: Which = "out",
    normalize: Scale | None = None,
    across: bool = False,
) -> dict[str, Tensor]:
    """Return the saliency of every unit: group name -> [U], in the order of `unit_ids`.

    Args:
        model: The network.
        groups: Its groups.
        omega: Parameter name -> Ω; a parameter that is missing counts as zero.
        criterion: A sum over the unit's weights. "penalty", Σ Ω θ²: the MAS penalty (at λ = 1) for
            setting them to zero, so that the regulariser and the pruner share one objective.
            "sum", Σ Ω. "taylor", Σ Ω |θ − θ̄|, centred: θ̄ is the mean of the same weight over the
            units of the group. As Ω = E|∂g/∂θ|, it bounds E|Δg| to first order when the unit is
            made like the average one. (The signed first-order term of Molchanov et al., CVPR
            2019, cannot be computed from Ω, which has no signs.)
        which: "out": the weights that read the unit; "in": those that make it, with its bias and
            the constants of its norms; "both".
        normalize: The scale of a group's saliencies, so that groups can be compared: they are
            divided by their "mean" or their "max"; "rank" replaces them by the share of units
            that are not above, in (0, 1], the same for ties; None leaves them. Divided zeros
            stay zeros.
        across: True takes the mean, maximum or rank over all units of all groups together.

    Raises:
        PenaltyError: Ω is not given by parameter name, has another shape than its parameter, or
            is missing for all weights of a group; or a word is unknown.
    """
    check_word("criterion", criterion, CRITERIA)
    check_word("which", which, tuple(WHICH))
    check_word("normalize", normalize, NORMALIZE)
    found = {}
    for name, parts in _by_group(model, groups, omega, criterion, WHICH[which]):
        found[name] = torch.stack([part for _, part in parts]).sum(0)
    if across and found:
        together = normalized(torch.cat(list(found.values())), normalize)
        parted = torch.split(together, [len(saliency) for saliency in found.values()])
        return dict(zip(found, parted, strict=True))
    return {name: normalized(saliency, normalize) for name, saliency in found.items()}


def consumer_saliency(
    model: nn.Module, groups: Mapping[str, UnitGroup], omega: Mapping[str, Tensor]
) -> dict[str, dict[str, Tensor]]:
    """Return the "penalty" saliency of every unit, divided among the layers that read it.

    Returns:
        Group name -> layer -> [U], Σ Ω θ² over that layer's weights that read the unit. The layers
        of a group add up to its saliency.

    Raises:
        PenaltyError: Ω does not fit, as in `unit_saliency`.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for name, parts in _by_group(model, groups, omega, "penalty", WHICH["out"]):
        found[name] = {}
        for layer, part in parts:
            found[name][layer] = found[name][layer] + part if layer in found[name] else part
    return found


def weight_saliency(
    weight: Tensor, omega: Tensor, criterion: Criterion, dim: int, positions: Tensor
) -> Tensor:
    """Return [U], the part of one tensor in the saliency of units.

    Args:
        weight: The tensor.
        omega: Its Ω.
        criterion: The term that is summed, as in `unit_saliency`.
        dim: The axis along which the units lie.
        positions: [U, m] int64, the entries of each unit along it.
    """
    positions = positions.to(weight.device)
    units, held = positions.shape
    theta, importance = (
        t.detach().index_select(dim, positions.flatten()).movedim(dim, 0).reshape(units, held, -1)
        for t in (weight, omega)
    )
    if criterion == "penalty":
        importance = importance * theta.square()
    elif criterion == "taylor":
        importance = importance * (theta - theta.mean(0)).abs()
    return importance.sum((1, 2))


def _by_group(
    model: nn.Module,
    groups: Mapping[str, UnitGroup],
    omega: Mapping[str, Tensor],
    criterion: Criterion,
    roles: tuple[Role, ...],
) -> Iterator[tuple[str, list[tuple[str, Tensor]]]]:
    """Yield each group's name, and the saliencies that tensors with Ω add, with their layers."""
    check_omega(omega)
    names = {id(p): name for name, p in model.named_parameters()}
    for name, group in groups.items():
        parts = list(_parts(model, group, omega, names, criterion, roles))
        if not parts:
            layers = ", ".join(p.layer for p in placements(model, group, roles))
            raise PenaltyError(f"omega has no entry for the weights of {name!r} in {layers}")
        yield name, parts


def _parts(
    model: nn.Module,
    group: UnitGroup,
    omega: Mapping[str, Tensor],
    names: Mapping[int, str],
    criterion: Criterion,
    roles: tuple[Role, ...],
) -> Iterator[tuple[str, Tensor]]:
    for place in placements(model, group, roles):
        name = names.get(id(place.tensor), "")
        if name in omega:
            check_shape(name, omega[name], place.tensor)
            yield (
                place.layer,
                weight_saliency(
                    place.tensor, omega[name], criterion, place.axis.dim, place.positions
                ),
            )


def check_omega(omega: object) -> None:
    """Refuse importance that is not given by parameter name.

    Raises:
        PenaltyError: Says what was given.
    """
    if not isinstance(omega, Mapping):
        raise PenaltyError(
            f"omega is a {type(omega).__name__}: expected importance by parameter name, such as "
            "mas.omega or mas_importance(model, batches)"
        )


def check_shape(name: str, omega: Tensor, weight: Tensor) -> None:
    """Refuse importance that did not follow its parameter.

    Raises:
        PenaltyError: Names the parameter.
    """
    if omega.shape != weight.shape:
        raise PenaltyError(
            f"omega of {name!r} has shape {tuple(omega.shape)}, the parameter "
            f"{tuple(weight.shape)}: measure it again after surgery (MASPruningImportance takes a "
            "function that does), or let it follow (MAS does)"
        )


def normalized(saliency: Tensor, normalize: Scale | None) -> Tensor:
    """Return saliencies on a common scale, as `unit_saliency` describes."""
    if normalize is None:
        return saliency
    if normalize == "rank":
        ordered = saliency.sort().values
        below = torch.searchsorted(ordered, saliency)
        not_above = torch.searchsorted(ordered, saliency, right=True)
        return (below + not_above + 1).to(saliency.dtype) / (2 * len(saliency))
    scale = saliency.mean() if normalize == "mean" else saliency.max()
    return saliency / scale if scale > 0 else saliency


def check_word(key: str, word: object, known: tuple[object, ...]) -> None:
    """Refuse a word that is not one of those known.

    Raises:
        PenaltyError: Lists the known words.
    """
    if word not in known:
        names = ", ".join(map(repr, known))
        raise PenaltyError(f"{key}={word!r} is not known: give one of {names}")
