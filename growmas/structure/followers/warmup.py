"""Warm-up of fresh entries under Adam."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from growmas.errors import SurgeryError
from growmas.structure.followers.young import YOUTH, Pool, pools_of
from growmas.structure.units.edit import AxisChange, Edit, reindexed

Births = dict[str, dict[int, Tensor]]
"""Parameter name -> axis -> [length] float64, the step at which each position was born; 0: old."""


class Warmup:
    """Make Adam update fresh entries as it updates the entries of a new parameter.

    Adam corrects the bias of its moments by one `step` for the whole tensor. Entries that are
    born late have empty moments but no correction left: under a steady gradient they first move
    by 3 × lr, and up to 7 × lr some ten steps later. This follower replaces the update of an entry
    at the t-th step since its birth by

        lr · m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + ε),

    which is the update of a new parameter (Kingma and Ba, 2015, Algorithm 1). An entry is as old
    as the youngest unit that it belongs to. The decoupled decay of AdamW is not scaled; with
    amsgrad, v is its maximum. After 100 steps v is scaled once, such that the correction by the
    shared step gives the same from then on, and the unit is forgotten. Only rows and columns of
    young units are touched; old entries are not changed.

    Pass it in `followers` together with the optimizer; `close` ends it.

    Example:
        >>> import torch, growmas
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
        >>> optimizer = torch.optim.Adam(net.parameters())
        >>> warmup = growmas.Warmup(net, optimizer)
        >>> structure = growmas.Structure(net, torch.rand(5, 4))
        >>> _ = structure.apply(growmas.Plan(grow={"0": 2}), followers=[optimizer, warmup])

    Attributes:
        born: The step at which each position of each axis was born, for axes with young ones.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        """Watch the steps of `optimizer`.

        Args:
            model: The network.
            optimizer: Adam or AdamW.

        Raises:
            SurgeryError: The optimizer is not Adam or AdamW.
        """
        if not isinstance(optimizer, Adam | AdamW):
            raise SurgeryError(
                f"Warmup is for Adam and AdamW, got {type(optimizer).__name__}, whose first steps "
                "do not depend in that way on a step count for the whole tensor"
            )
        self.model = model
        self.optimizer = optimizer
        self.born: Births = {}
        self._pools: list[Pool] | None = None
        self._left = 0
        self._handle = optimizer.register_step_post_hook(lambda *_: self._correct())

    def follow(self, edit: Edit) -> None:
        """Mark fresh entries with the step at which they were born."""
        parameters = dict(self.model.named_parameters())
        born = {name: dict(axes) for name, axes in self.born.items()}
        for name, changes in edit.changes.items():
            if name not in parameters:
                continue
            old, new = edit.swapped.get(name, (parameters[name], parameters[name]))
            step = float(self._step(new) or self._step(old))
            for change in changes:
                before = born.get(name, {}).get(change.dim)
                if before is None:
                    before = torch.zeros(old.shape[change.dim], dtype=torch.float64)
                along = reindexed(before, (_first_axis(change),), step)
                born.setdefault(name, {})[change.dim] = along
        self.born = _with_young(born)
        self._pools = None

    def mark(self, places: Mapping[tuple[str, int], Tensor]) -> None:
        """Mark positions as born at the current step of their parameter.

        Args:
            places: (parameter name, axis) -> positions, int64.
        """
        parameters = dict(self.model.named_parameters())
        for (name, dim), positions in places.items():
            parameter = parameters[name]
            step = self._step(parameter)
            if not step:
                continue
            axes = self.born[name] = dict(self.born.get(name, {}))
            before = axes.get(dim)
            if before is None:
                before = torch.zeros(parameter.shape[dim], dtype=torch.float64)
            axes[dim] = before.index_fill(0, positions, float(step))
        self._pools = None

    def close(self) -> None:
        """Stop watching the optimizer."""
        self._handle.remove()

    def state_dict(self) -> dict[str, dict[int, Tensor]]:
        """Return what `born` holds: the step at which each position of an axis was born."""
        return {name: dict(axes) for name, axes in self.born.items()}

    def load_state_dict(self, state: Mapping[str, Mapping[Any, Tensor]]) -> None:
        """Restore what `state_dict` returned, once the model has its widths.

        Raises:
            SurgeryError: A parameter does not exist or has another length.
        """
        shapes = {name: p.shape for name, p in self.model.named_parameters()}
        born = {name: {int(dim): v for dim, v in axes.items()} for name, axes in state.items()}
        wrong = [
            name
            for name, axes in born.items()
            if name not in shapes or any(len(v) != shapes[name][dim] for dim, v in axes.items())
        ]
        if wrong:
            raise SurgeryError(
                f"the state of Warmup is of another network: {', '.join(map(repr, wrong))} differ; "
                "restore the structure first"
            )
        self.born, self._pools = born, None

    def _step(self, parameter: nn.Parameter) -> int:
        return int(self.optimizer.state.get(parameter, {}).get("step", 0))

    @torch.no_grad()
    def _correct(self) -> None:
        """Correct the step that was just made; called after every step of the optimizer."""
        if not self.born:
            return
        if self._pools is None or any(pool.stepped is None for pool in self._pools):
            self._rebuild()
        for pool in self._pools or ():
            if pool.stepped:
                pool.correct(self.optimizer)
        self._left -= 1
        if self._left <= 0 and self._pools:
            for pool in self._pools:
                pool.retire(self.optimizer)
            self._forget()

    def _rebuild(self) -> None:
        parameters = dict(self.model.named_parameters())
        self._pools = pools_of(self.optimizer, parameters, self.born)
        oldest = max((pool.oldest for pool in self._pools), default=0)
        self._left = YOUTH - oldest

    def _forget(self) -> None:
        """Forget positions that have reached the end of their youth."""
        parameters = dict(self.model.named_parameters())
        for name, axes in self.born.items():
            step = self._step(parameters[name])
            for dim, born in axes.items():
                grown_up = (born > 0) & (step - born >= YOUTH)
                if bool(grown_up.any()):
                    axes[dim] = born.masked_fill(grown_up, 0.0)
        self.born = _with_young(self.born)
        self._pools = None


def _first_axis(change: AxisChange) -> AxisChange:
    """Return the change of an axis as that of a vector along it."""
    return replace(change, dim=0)


def _with_young(born: Births) -> Births:
    """Return the axes that have a young position."""
    kept = {
        name: {dim: along for dim, along in axes.items() if bool((along > 0).any())}
        for name, axes in born.items()
    }
    return {name: axes for name, axes in kept.items() if axes}
