"""Widening of a residual stream through its norms (LEMON, arXiv 2310.07999, §4).

The function stays the same. A residual stream x of width d is a sum of outputs of linear layers,
and is read only through norms,

    y = γ · (x − x̄) / √(v + ε) + β.

Give it k fresh channels that are, at every position, the mean of the d others (LayerNorm) or zero
(RMSNorm, where x̄ = 0 and v is the mean square): the mean stays, the variance becomes v · d/(d + k),
and a fresh channel of y is zero, whatever reads it. So, with c = √(d/(d + k)),

- fresh rows of every layer that adds to the stream are the mean of the other rows, or zero;
- γ ← c γ for the old channels and ε ← c² ε leave y as it was; fresh ones have γ = 1 and β = 0;
- columns that read fresh channels are random: they pass gradients to the rows from the first step,
  and get gradients themselves once the rows have moved. If a matrix's columns are another layer's
  rows (tied embeddings), the rule for rows applies, and fresh channels start to learn a step later.

Ω and anchors move with γ: θ* ← c θ* and Ω ← Ω/c², so that the same change of the function costs
the same penalty. Measured again, Ω of γ would be Ω/c, since MAS sums absolute gradients, not
squares. All other gradients, and with them Ω, stay the same, except those of rows before a
LayerNorm: part of such a gradient came through the mean, and fresh rows now take a share of it.

A response norm, y = x + γ · x · |x| / (m + ε) + β with |x| the norm of a channel over all positions
and m the mean of |x| over the channels (ConvNeXt V2), has fresh channels of zero as well: m becomes
m · d/(d + k), so that c = d/(d + k) and ε ← c ε. Where the ε of such a norm is written into its
code, the old channels move by ε/m of what they were, and the verification judges.

Where a norm multiplies by 1 + γ, γ ← c γ + c − 1. Where what a layer gives is multiplied by a
parameter before it is added (layer scale, λ), its fresh rows are the mean of λ_i times row i, and
fresh λ are 1; an average of the model takes the λ of the model.

With dropout on the stream itself, the function is kept in eval mode only.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from growmas.errors import SurgeryError
from growmas.structure.initialisation.initialisation import uniform
from growmas.structure.layers.normalisation import Normalisation
from growmas.structure.surgery.tensor_swap import TensorSwap
from growmas.structure.units.edit import AxisMean, AxisTransfer, transferred, with_means
from growmas.structure.units.groups import Member, UnitGroup
from growmas.structure.units.placement import Placement, placements


@dataclass(frozen=True, eq=False)
class Widening:
    """Derivation of the fresh channels of residual streams from the old ones.

    Attributes:
        transfers: Qualified parameter name -> scaling of the gains.
        means: Qualified parameter name -> fresh rows, the means of others.
    """

    transfers: Mapping[str, tuple[AxisTransfer, ...]]
    means: Mapping[str, tuple[AxisMean, ...]]

    @torch.no_grad()
    def write_rows(self, model: nn.Module) -> None:
        """Set fresh rows to the means of the others as they are now."""
        if not self.means:
            return
        tensors = _tensors(model)
        for name, along in self.means.items():
            tensors[name].copy_(with_means(tensors[name], along))


def widen(
    model: nn.Module,
    groups: Mapping[str, UnitGroup],
    born: Mapping[str, tuple[int, ...]],
    swap: TensorSwap,
    generator: torch.Generator | None,
) -> Widening:
    """Set the rows and columns of fresh residual channels, and the gains and ε of norms.

    Args:
        model: The network with its tensors swapped.
        groups: The groups after the edit.
        born: Group name -> ids of the fresh units.
        swap: The swap; its `undo` takes back the changes of ε.
        generator: Randomness of the columns, on the CPU; None takes torch's own.

    Raises:
        SurgeryError: Rows and columns would both be zero, for ever.
    """
    if not any(groups[name].residual for name in born):
        return Widening({}, {})
    names = {id(tensor): name for name, tensor in _tensors(model).items()}
    transfers: dict[str, tuple[AxisTransfer, ...]] = {}
    means: dict[str, dict[int, AxisMean]] = {}
    for name, group in [(each, path) for each in born for path in _paths(groups[each])]:
        fresh = group.indices(born[name])
        old = sorted({*range(group.width)} - {*fresh})
        share = len(old) / group.width
        for member, module, axes in _norms(model, [group]):
            _scale_eps(member.layer, module, axes, share, swap)
            gain = names[id(getattr(module, axes.gain))]
            transfers[gain] = (_scaled(member, axes, old, share),)
        for place in placements(model, group, ["out"]):
            others = place.positions[old if group.residual == "mean" else []]
            held = place.positions.shape[1] // group.span
            rows = place.positions[fresh].reshape(-1, held), others.reshape(-1, held)
            along = means.setdefault(names[id(place.tensor)], {})
            weights = _scales(model, group, place, rows[1])
            along.setdefault(place.axis.dim, AxisMean(place.axis.dim, *rows, weights))
        consumers = [
            place
            for place in placements(model, group, ["in"])
            if place.axis.dim not in means.get(names[id(place.tensor)], {})
        ]
        if group.residual == "zero" and not consumers:
            raise SurgeryError(
                f"fresh units of {name!r} would never learn: they start at zero, and every layer "
                "that reads them is tied to a layer that produces them; untie these weights first"
            )
        for place in consumers:
            _write_columns(place, fresh, generator)
    widening = Widening(transfers, {n: tuple(along.values()) for n, along in means.items()})
    tensors = _tensors(model)
    with torch.no_grad():
        for name, scaled in transfers.items():
            tensors[name].copy_(transferred(tensors[name], scaled, "value"))
    widening.write_rows(model)
    return widening


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by qualified name."""
    return {**dict(model.named_buffers()), **dict(model.named_parameters())}


def _paths(group: UnitGroup) -> Iterator[UnitGroup]:
    """Give the residual paths of a group, which is one path but for widths that the code ties."""
    if group.residual:
        for path in sorted({member.path for member in group.members} - {-1}):
            yield replace(group, members=tuple(m for m in group.members if m.path == path))


def norm_settings(model: nn.Module, groups: Iterable[UnitGroup]) -> dict[str, Any]:
    """Return qualified attribute -> value, for every ε that widening changes."""
    return {
        ".".join(filter(None, [member.layer, axes.eps])): getattr(module, axes.eps)
        for member, module, axes in _norms(model, groups)
        if axes.eps
    }


def _norms(
    model: nn.Module, groups: Iterable[UnitGroup]
) -> Iterator[tuple[Member, nn.Module, Normalisation]]:
    for group in groups:
        for member in group.members if group.residual else ():
            if member.axes.norm is not None and member.path >= 0:
                yield member, model.get_submodule(member.layer), member.axes.norm


def _scale_eps(
    layer: str, module: nn.Module, axes: Normalisation, share: float, swap: TensorSwap
) -> None:
    if not axes.eps:
        return
    eps = getattr(module, axes.eps)
    if eps is None:  # torch's RMSNorm takes the machine epsilon of its input
        eps = torch.finfo(getattr(module, axes.gain).dtype).eps
    swap.set_attribute(layer, module, axes.eps, eps * share)


def _scales(model: nn.Module, group: UnitGroup, place: Placement, rows: Tensor) -> Tensor | None:
    """Return what the rows of old units are multiplied by behind their layer; None: nothing."""
    name = group.scales.get(place.layer)
    if name is None or not rows.numel():
        return None
    layer, _, own = name.rpartition(".")
    (member,) = (m for m in group.members if (m.layer, m.side) == (layer, own))
    scale = _tensors(model)[name].detach().movedim(member.axes.out[0].dim, 0)
    held = place.positions.shape[1] // group.span
    of_row = {
        row: (unit, slot // held)
        for unit, own in enumerate(place.positions.tolist())
        for slot, row in enumerate(own)
    }
    at = torch.tensor([of_row[row] for row in rows.flatten().tolist()])
    values = scale.flatten(1).mean(1) if scale.dim() > 1 else scale
    return values[member.positions[at[:, 0], at[:, 1]]].view(rows.shape)


def _scaled(member: Member, norm: Normalisation, old: list[int], share: float) -> AxisTransfer:
    """Return the transfer γ ← c γ and Ω ← Ω/c², which keeps the penalty."""
    (dim,) = (axis.dim for axis in member.axes.out if axis.tensor == norm.gain)
    where = member.positions[old].flatten()
    one, factor = torch.ones(len(where), dtype=torch.float64), share**norm.power
    shift = norm.offset * (factor - 1.0)
    return AxisTransfer(dim, where, where, one * factor, one / factor**2, shift)


@torch.no_grad()
def _write_columns(place: Placement, fresh: list[int], generator: torch.Generator | None) -> None:
    """Draw random columns, scaled as the layer's default initialisation of its rows."""
    tensor, dim = place.tensor, place.axis.dim
    where = place.positions[fresh].flatten().to(tensor.device)
    rows = [a.dim for a in place.axes.out if a.tensor == place.axis.tensor and a.dim != dim]
    fan_in = tensor.numel() // tensor.shape[rows[0] if rows else dim]
    shape = [len(where) if d == dim else length for d, length in enumerate(tensor.shape)]
    tensor.index_copy_(dim, where, uniform(shape, fan_in, generator).to(tensor))
