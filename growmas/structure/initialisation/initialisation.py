"""What a fresh unit starts as.

The default is random rows and zero columns: rows random and consumers' columns zero leave the
function unchanged, columns get gradient at once and rows a step later. The other way round, a
unit behind a ReLU would be dead for ever. Other ways to start are objects with a method
`prepare`: `Split`, `GradMax`, or one of your own.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from growmas.errors import PlanError
from growmas.structure.initialisation.newborns import Fill, Initialisation, Lineage
from growmas.structure.initialisation.split import Split
from growmas.structure.units.edit import AxisChange, write_fresh
from growmas.structure.units.plan import Plan
from growmas.structure.units.structure_like import StructureLike


class ZeroOut:
    """Random rows and zero columns, which is how tensors come out of the cut."""

    def prepare(self, structure: StructureLike, plan: Plan) -> Fill:
        """Nothing to look at, nothing to add."""
        return lambda newborns: Lineage()


INITS: Mapping[str, type[ZeroOut] | type[Split]] = {"zero_out": ZeroOut, "split": Split}


def initialisation(init: str | Initialisation) -> Initialisation:
    """The way to start that a word stands for; an object stands for itself.

    Raises:
        PlanError: An unknown word, or an object without a method `prepare`.
    """
    if isinstance(init, str) and init in INITS:
        return INITS[init]()
    if not isinstance(init, type) and isinstance(init, Initialisation):
        return init
    raise PlanError(
        f"init={init!r} is not known: give {', '.join(map(repr, INITS))}, Split(...), "
        "GradMax(batches, loss), or an object with a method prepare(structure, plan)"
    )


def fill_fresh(
    modules: Mapping[str, nn.Module],
    tensors: Mapping[str, Tensor],
    changes: Mapping[str, tuple[AxisChange, ...]],
    generator: torch.Generator | None,
) -> None:
    """Initialise the fresh entries of tensors that were re-indexed.

    Rows get the layer's own default, U(−1/√fan_in, 1/√fan_in), for weights and biases; norms
    their neutral constants; columns zero, last, so that they win where both meet.

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
        if isinstance(padding, int) and change.dim == 1:  # what stands for nothing stays zero
            rows[padding] = 0.0
        write_fresh(tensor, change, rows)


def uniform(shape: list[int], fan_in: int, generator: torch.Generator | None) -> Tensor:
    """Drawn from U(−1/√fan_in, 1/√fan_in), in float64 on the CPU."""
    drawn = torch.empty(shape, dtype=torch.float64).uniform_(-1, 1, generator=generator)
    return drawn.div_(math.sqrt(fan_in))


def _fan_in(layer: nn.Module, tensor: Tensor, dim: int) -> int:
    """Entries of one row; a bias has those of the layer's first weight."""
    weights = [p for p in (tensor, *layer.parameters(recurse=False)) if p.dim() > 1]
    return weights[0].numel() // tensor.shape[dim] if weights else 1
