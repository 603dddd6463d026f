"""Warm-up of fresh entries under Adam."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from growmas.errors import SurgeryError
from growmas.structure.units.edit import Edit


class Warmup:
    """Make Adam update fresh entries as it updates the entries of a new parameter.

    Adam corrects the bias of its moments by one `step` for the whole tensor. Entries that are
    born late have empty moments but no correction left: under a steady gradient they first move
    by 3 × lr, and up to 7 × lr some ten steps later. This follower multiplies the update of an
    entry at the t-th step since its birth, the s-th of the tensor, by

        √(1 − β₂ᵗ) / (1 − β₁ᵗ) · (1 − β₁ˢ) / √(1 − β₂ˢ),

    which gives the update of a new parameter (Kingma and Ba, 2015, Algorithm 1, up to eps), and
    tends to 1. Old entries are not changed.

    Pass it in `followers` together with the optimizer; `close` ends it.

    Example:
        >>> import torch, growmas
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
        >>> optimizer = torch.optim.Adam(net.parameters())
        >>> warmup = growmas.Warmup(net, optimizer)
        >>> structure = growmas.Structure(net, torch.rand(5, 4))
        >>> _ = structure.apply(growmas.Plan(grow={"0": 2}), followers=[optimizer, warmup])
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
        self.born: dict[str, Tensor] = {}
        self._before: dict[str, Tensor] = {}
        self._handles = [
            optimizer.register_step_pre_hook(lambda *_: self._remember()),
            optimizer.register_step_post_hook(lambda *_: self._scale()),
        ]

    def follow(self, edit: Edit) -> None:
        """Mark fresh entries with the step at which they were born."""
        born = {}
        for name, (old, new) in edit.swapped.items():
            step = self._step(new) or self._step(old)
            marks = self.born.get(name, torch.zeros_like(old, dtype=torch.float32))
            marks = edit.reindex(name, marks, fresh=float(step))
            if bool(marks.any()):
                born[name] = marks
        kept = {name: marks for name, marks in self.born.items() if name not in edit.swapped}
        self.born = {**kept, **born}

    def close(self) -> None:
        """Stop watching the optimizer."""
        for handle in self._handles:
            handle.remove()

    def state_dict(self) -> dict[str, Tensor]:
        """Return parameter name -> the step at which each entry was born, 0 for the first ones."""
        return dict(self.born)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        self.born = dict(state)

    def _step(self, parameter: nn.Parameter) -> int:
        return int(self.optimizer.state.get(parameter, {}).get("step", 0))

    def _remember(self) -> None:
        parameters = dict(self.model.named_parameters())
        self._before = {name: parameters[name].detach().clone() for name in self.born}

    @torch.no_grad()
    def _scale(self) -> None:
        parameters = dict(self.model.named_parameters())
        betas = {id(p): g["betas"] for g in self.optimizer.param_groups for p in g["params"]}
        for name, before in self._before.items():
            parameter, born = parameters[name], self.born[name]
            step = self._step(parameter)
            factor = _own_correction(step, born, *betas[id(parameter)])
            scaled = before + (parameter - before) * factor
            parameter.copy_(torch.where(born > 0, scaled, parameter))
            if step % 100 == 0 and bool((factor > 0.99).all()):
                del self.born[name]
        self._before = {}


def _own_correction(step: int, born: Tensor, beta1: Any, beta2: Any) -> Tensor:
    """Return the factor of the class docstring for every entry."""
    own = (step - born).clamp(min=1).double()
    shared = (1 - beta1**step) / (1 - beta2**step) ** 0.5
    factor: Tensor = (1 - beta2**own).sqrt() / (1 - beta1**own) * shared
    return factor.to(born.dtype)
