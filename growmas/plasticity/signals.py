"""Signals of plasticity: numbers that fall or rise before a network stops learning."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from growmas.batches import Forward, check_batches, default_forward
from growmas.errors import DataError
from growmas.plasticity.recorder import Recorder, readers_of
from growmas.preserving import preserving
from growmas.structure import Structure, UnitGroup
from growmas.structure.surgery.renewal import entries_of

DORMANT = 0.025
"""Share of a layer's mean activation below which a unit counts as dormant (arXiv 2302.12902)."""


def plasticity_signals(
    structure: Structure, batches: Iterable[Any], *, forward: Forward | None = None
) -> dict[str, float]:
    """Measure signals of plasticity on a few batches; the network is left bit-identical.

    Activations are those that the layers that read a group see, N samples and positions of U
    units; σ are the singular values of that matrix. By group:

    - "dormant/GROUP": share of units with mean |h| at most 0.025 times the group's mean;
    - "effective_rank/GROUP": exp(−Σ p log p) with p = σ / Σσ (Roy and Vetterli, 2007);
    - "stable_rank/GROUP": Σσ² / max σ²;
    - "weight/GROUP": root mean square of the weights that make the units;
    - "newborn/GROUP": root mean square of the gradients of the rows of units born in the current
      task over that of the others; only where there are gradients, and units of both kinds;
    - "utility_q10/GROUP", "utility_q50/GROUP": quantiles of mean |h| over the group's mean.

    Of the whole network: "dormant", the share over all groups; "rank_share", the mean over the
    groups of the effective rank over U; "newborn", the mean over the groups. The values are
    numbers for the history: `tracker.scalars(plasticity_signals(structure, [x]), step=step,
    task=name)` while the network learns (a config: `signals: {every: 200}`), or
    `tracker.snapshot(metrics=...)`.

    Args:
        structure: The units of the network.
        batches: A few batches; a few hundred samples give steady values.
        forward: (model, batch) -> output, for batches of another kind.

    Raises:
        DataError: There is no batch, or no group's units are read on it.
    """
    check_batches(batches)
    readers = {name: readers_of(structure, group) for name, group in structure.groups.items()}
    readers = {name: several for name, several in readers.items() if several}
    recorder = Recorder()
    recorder.arm(readers, grads=False)
    try:
        with preserving(structure.model), torch.no_grad():
            for batch in batches:
                (forward or default_forward)(structure.model, batch)
        seen = recorder.take(readers)
    finally:
        recorder.disarm()
    if not seen:
        raise DataError("no batch reached a layer that reads units: give at least one batch")
    found: dict[str, float] = {}
    dormant = units = 0
    for name, activations in seen.items():
        means = activations.abs().mean((0, 2))
        low = means <= DORMANT * means.mean()
        dormant, units = dormant + int(low.sum()), units + len(low)
        found[f"dormant/{name}"] = float(low.float().mean())
        found |= _quantiles(name, means)
        found |= _ranks(name, activations)
        found |= _rows(structure, structure.groups[name])
    ranks = [found[f"effective_rank/{n}"] / structure.groups[n].width for n in seen]
    newborn = [found[key] for key in found if key.startswith("newborn/")]
    whole = {"dormant": dormant / units, "rank_share": sum(ranks) / len(ranks)}
    whole |= {"newborn": sum(newborn) / len(newborn)} if newborn else {}
    return {**whole, **found}


def _quantiles(name: str, means: Tensor) -> dict[str, float]:
    low, half = torch.quantile(means.double(), means.new_tensor([0.1, 0.5]).double()).tolist()
    mean = max(float(means.mean()), 1e-300)
    return {f"utility_q10/{name}": low / mean, f"utility_q50/{name}": half / mean}


def _ranks(name: str, activations: Tensor) -> dict[str, float]:
    values = torch.linalg.svdvals(activations.mean(2).double())
    total = values.sum()
    if not bool(total > 0):
        return {f"effective_rank/{name}": 0.0, f"stable_rank/{name}": 0.0}
    share = values / total
    entropy = -(share * share.clamp(min=1e-300).log()).sum()
    stable = values.square().sum() / values.max().square()
    return {f"effective_rank/{name}": float(entropy.exp()), f"stable_rank/{name}": float(stable)}


def _rows(structure: Structure, group: UnitGroup) -> dict[str, float]:
    """Return the size of the weights that make the units, and the health of newborns."""
    rows = [e for e in entries_of(structure.model, group) if e.role == "out" and e.tensor.dim() > 1]
    if not rows:
        return {}
    weights = torch.cat([e.tensor.detach().flatten() for e in rows])
    found = {f"weight/{group.name}": float(weights.square().mean().sqrt())}
    young = [i for i, birth in enumerate(group.births) if birth == structure.task]
    old = [i for i in range(group.width) if i not in set(young)]
    gradients = [(e, e.tensor.grad) for e in rows if e.tensor.grad is not None]
    if young and old and gradients:
        sizes = [
            torch.cat(
                [g.movedim(e.dim, 0)[e.of(units)].flatten().double() for e, g in gradients]
            ).square().mean().sqrt()
            for units in (young, old)
        ]  # fmt: skip
        if bool(sizes[1] > 0):
            found[f"newborn/{group.name}"] = float(sizes[0] / sizes[1])
    return found
