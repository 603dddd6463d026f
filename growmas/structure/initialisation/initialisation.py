"""Initialisation of fresh units, and the default: random rows and zero columns.

Random rows and zero columns of the consumers leave the function unchanged; columns get a gradient
at once, and rows a step later. The other way round, with zero rows, a unit before a ReLU would be
dead for ever. Other initialisations are objects with a method `prepare`: `Paired`, `SplitUnits`,
`GradMax`, or one of your own.
"""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from growmas.errors import PlanError
from growmas.structure.initialisation.by_group import InitByGroup
from growmas.structure.initialisation.newborns import Fill, Initialisation, Lineage
from growmas.structure.initialisation.paired import Paired
from growmas.structure.initialisation.split import SplitUnits
from growmas.structure.units.edit import AxisChange, write_fresh
from growmas.structure.units.plan import Plan
from growmas.structure.units.structure_like import StructureLike


class ZeroOut:
    """Random rows and zero columns, as `fill_fresh` leaves them."""

    def prepare(self, structure: StructureLike, plan: Plan) -> Fill:
        """Return a function that changes nothing."""
        return lambda newborns: Lineage()


InitWord = Literal["zero_out", "paired", "split"]
"""Words for an initialisation."""

Init = InitWord | Mapping[str, InitWord | Initialisation]
"""A word, or group name -> word or initialisation, see `InitByGroup`."""

INITS: Mapping[str, type[ZeroOut] | type[Paired] | type[SplitUnits]] = {
    "zero_out": ZeroOut,
    "paired": Paired,
    "split": SplitUnits,
}


def initialisation(init: Init | Initialisation) -> Initialisation:
    """Return the initialisation that a word or a dict stands for; an object comes back as it is.

    Raises:
        PlanError: The word is unknown, or the object has no method `prepare`.
    """
    given: object = init
    if isinstance(given, str) and given in INITS:
        return INITS[given]()
    if isinstance(given, Mapping):
        return InitByGroup({name: _of_group(name, each) for name, each in given.items()})
    if not isinstance(given, type) and isinstance(given, Initialisation):
        return given
    raise PlanError(
        f"init={init!r} is not known: give {', '.join(map(repr, INITS))}, SplitUnits(...), "
        "GradMax(batches, loss), an object with a method prepare(structure, plan), or a dict of "
        "these by group"
    )


def _of_group(name: object, init: object) -> Initialisation:
    """Return the initialisation of one group in a dict."""
    if not isinstance(name, str) or isinstance(init, Mapping):
        raise PlanError(
            f"init={{{name!r}: {init!r:.80}}}: expected the name of a group and an initialisation, "
            "such as {'fc1': 'paired'}"
        )
    try:
        return initialisation(init)  # type: ignore[arg-type]
    except PlanError as error:
        raise PlanError(f"group {name!r}: {error}") from None


def fill_fresh(
    modules: Mapping[str, nn.Module],
    tensors: Mapping[str, Tensor],
    changes: Mapping[str, tuple[AxisChange, ...]],
    generator: torch.Generator | None,
) -> None:
    """Initialise the fresh entries of tensors that were re-indexed.

    Rows get the layer's own default, U(−1/√fan_in, 1/√fan_in), for weights and biases; norms get
    their neutral constants; columns get zero, last, so that an entry in a fresh row and a fresh
    column is zero.

    Args:
        modules: Qualified name -> module, with the new tensors in place.
        tensors: Qualified name -> new tensor.
        changes: Qualified name -> axis changes.
        generator: Randomness for the rows, on the CPU; None takes torch's own.
    """
    with torch.no_grad():
        for role in ("norm", "out", "in"):
            for name, axis_changes in changes.items():
                for change in axis_changes:
                    if change.role == role and change.fresh_runs:
                        layer = modules[name.rpartition(".")[0]]
                        _fill(layer, tensors[name], change, generator)


def _fill(
    layer: nn.Module, tensor: Tensor, change: AxisChange, generator: torch.Generator | None
) -> None:
    if change.role == "in":
        write_fresh(tensor, change, 0.0)
    elif change.role == "norm":
        write_fresh(tensor, change, change.constant)
    else:
        shape = list(tensor.shape)
        shape[change.dim] = sum(run.length for run in change.fresh_runs)
        rows = uniform(shape, _fan_in(layer, tensor, change.dim), generator)
        padding = getattr(layer, "padding_idx", None)
        if isinstance(padding, int) and change.dim == 1:  # the embedding of padding stays zero
            rows[padding] = 0.0
        write_fresh(tensor, change, rows)


def uniform(shape: list[int], fan_in: int, generator: torch.Generator | None) -> Tensor:
    """Draw from U(−1/√fan_in, 1/√fan_in), in float64 on the CPU."""
    drawn = torch.empty(shape, dtype=torch.float64).uniform_(-1, 1, generator=generator)
    return drawn.div_(math.sqrt(fan_in))


def _fan_in(layer: nn.Module, tensor: Tensor, dim: int) -> int:
    """Return the number of entries of a row; for a bias, of a row of the layer's weight."""
    held = (tensor, *layer.parameters(recurse=False))
    weights = [p for p in held if p.dim() > 1 and p.numel() >= len(tensor)]
    return weights[0].numel() // tensor.shape[dim] if weights else 1
