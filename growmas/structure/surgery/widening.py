"""Wider streams through norms, without a change of the function (LEMON, arXiv 2310.07999, §4).

A stream x of width d, summed up from what linear layers give, is read only behind norms,

    y = γ · (x − x̄) / √(v + ε) + β.

Give it k fresh channels that are, at every position, the mean of the d others (LayerNorm) or zero
(RMSNorm, where x̄ = 0 and v is the mean square): the mean stays, the variance becomes v · d/(d + k),
and a fresh channel of y is zero, whatever reads it. So, with c = √(d/(d + k)),

- fresh rows of everything that gives the stream are the mean of the others, or zero;
- γ ← c γ for the old channels and ε ← c² ε leave y as it was; fresh ones have γ = 1 and β = 0;
- columns that read fresh channels are random: they pass gradients on to the rows at once, and get
  gradients themselves when the rows have moved. A matrix whose columns are another layer's rows
  (tied embeddings) keeps the rows; what only such a matrix reads starts a step later.

Ω and anchors move with γ: θ* ← c θ* and Ω ← Ω/c², so that the penalty charges the same for the same
change of the function. Measured anew, Ω of γ would be Ω/c, since MAS adds up absolute gradients and
not squares. All other gradients, and with them Ω, are as they were, but for those of rows before a
LayerNorm: a row's held its part of the mean's, which is the fresh rows' now.

Dropout on the stream itself keeps the function of eval mode only.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from growmas.errors import SurgeryError
from growmas.structure.initialisation.initialisation import uniform
from growmas.structure.layers.axes import Normalisation
from growmas.structure.surgery.tensor_swap import Incision
from growmas.structure.units.edit import AxisMean, AxisTransfer, transferred, with_means
from growmas.structure.units.groups import UnitGroup
from growmas.structure.units.placement import Placement, placements


@dataclass(frozen=True, eq=False)
class Widening:
    """What the fresh channels of streams were made of.

    Attributes:
        transfers: Qualified parameter name -> how gains were scaled.
        means: Qualified parameter name -> fresh rows, the means of others.
    """

    transfers: Mapping[str, tuple[AxisTransfer, ...]]
    means: Mapping[str, tuple[AxisMean, ...]]

    @torch.no_grad()
    def write_rows(self, model: nn.Module) -> None:
        """Make fresh rows the means of the others as they are now."""
        if not self.means:
            return
        tensors = dict(model.named_parameters())
        for name, along in self.means.items():
            tensors[name].copy_(with_means(tensors[name], along))


def widen(
    model: nn.Module,
    groups: Mapping[str, UnitGroup],
    born: Mapping[str, tuple[int, ...]],
    incision: Incision,
    generator: torch.Generator | None,
) -> Widening:
    """Give fresh channels of streams their rows and columns, and norms their gains and ε.

    Args:
        model: The network after the cut.
        groups: The groups after the edit.
        born: Group name -> ids of the fresh units.
        incision: The cut; it takes back what is done here too.
        generator: Randomness of the columns, on the CPU; None takes torch's own.

    Raises:
        SurgeryError: Rows and columns would both be zero, for ever.
    """
    if not any(groups[name].residual for name in born):
        return Widening({}, {})
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    transfers: dict[str, tuple[AxisTransfer, ...]] = {}
    means: dict[str, dict[int, AxisMean]] = {}
    for name in born:
        group = groups[name]
        if not group.residual:
            continue
        fresh = group.indices(born[name])
        old = sorted({*range(group.width)} - {*fresh})
        share = len(old) / group.width
        for layer, module, axes in _norms(model, [group]):
            _scale_eps(layer, module, axes, share, incision)
            gain = names[id(getattr(module, axes.gain))]
            transfers[gain] = (_scaled(group, layer, old, share),)
        for place in placements(model, group, ["out"]):
            rows = place.positions[fresh], place.positions[old if group.residual == "mean" else []]
            along = means.setdefault(names[id(place.tensor)], {})
            along.setdefault(place.axis.dim, AxisMean(place.axis.dim, *rows))
        readers = [
            place
            for place in placements(model, group, ["in"])
            if place.axis.dim not in means.get(names[id(place.tensor)], {})
        ]
        if group.residual == "zero" and not readers:
            raise SurgeryError(
                f"fresh units of {name!r} would be dead: they start at zero, and all that reads "
                "them is tied to what gives them; untie it first"
            )
        for place in readers:
            _write_columns(place, fresh, generator)
    widening = Widening(transfers, {n: tuple(along.values()) for n, along in means.items()})
    tensors = dict(model.named_parameters())
    with torch.no_grad():
        for name, scaled in transfers.items():
            tensors[name].copy_(transferred(tensors[name], scaled, "value"))
    widening.write_rows(model)
    return widening


def norm_settings(model: nn.Module, groups: Iterable[UnitGroup]) -> dict[str, Any]:
    """Qualified attribute -> value, of every ε that widening changes."""
    return {
        ".".join(filter(None, [layer, axes.eps])): getattr(module, axes.eps)
        for layer, module, axes in _norms(model, groups)
    }


def _norms(
    model: nn.Module, groups: Iterable[UnitGroup]
) -> Iterator[tuple[str, nn.Module, Normalisation]]:
    for group in groups:
        for member in group.members if group.residual else ():
            if member.axes.norm is not None:
                yield member.layer, model.get_submodule(member.layer), member.axes.norm


def _scale_eps(
    layer: str, module: nn.Module, axes: Normalisation, share: float, incision: Incision
) -> None:
    eps = getattr(module, axes.eps)
    if eps is None:  # torch's RMSNorm: that of the input's type
        eps = torch.finfo(getattr(module, axes.gain).dtype).eps
    incision.set_attribute(layer, module, axes.eps, eps * share)


def _scaled(group: UnitGroup, layer: str, old: list[int], share: float) -> AxisTransfer:
    """γ ← c γ and, so that the penalty stays, Ω ← Ω/c²."""
    (positions,) = (m.positions for m in group.members if m.layer == layer and m.side == "out")
    where = positions[old].flatten()
    one = torch.ones(len(where), dtype=torch.float64)
    return AxisTransfer(0, where, where, one * share**0.5, one / share)


@torch.no_grad()
def _write_columns(place: Placement, fresh: list[int], generator: torch.Generator | None) -> None:
    """Random columns, of the size of the layer's default for its rows."""
    tensor, dim = place.tensor, place.axis.dim
    where = place.positions[fresh].flatten().to(tensor.device)
    rows = [a.dim for a in place.axes.out if a.tensor == place.axis.tensor and a.dim != dim]
    fan_in = tensor.numel() // tensor.shape[rows[0] if rows else dim]
    shape = [len(where) if d == dim else length for d, length in enumerate(tensor.shape)]
    tensor.index_copy_(dim, where, uniform(shape, fan_in, generator).to(tensor))
