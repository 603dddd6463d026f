"""Warning for optimizers that still hold parameters which an edit has replaced.

An optimizer that is not among `followers=` keeps the old `Parameter` objects: its steps move
tensors that the model no longer has, and the new ones do not learn. A hook on the steps of all
torch optimizers, set by the first edit, finds such an optimizer at its first step after an edit.
"""

import warnings
import weakref
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.weak import WeakIdKeyDictionary

from growmas.errors import GrowmasWarning


class _Replaced:
    """Parameters that edits have replaced, as long as anything keeps them alive."""

    def __init__(self) -> None:
        self.names: Any = WeakIdKeyDictionary()  # old parameter -> its qualified name
        self.edits = 0
        self.checked: weakref.WeakKeyDictionary[Optimizer, int] = weakref.WeakKeyDictionary()

    def add(self, swapped: Mapping[str, tuple[nn.Parameter, nn.Parameter]]) -> None:
        if not self.edits:
            register_optimizer_step_pre_hook(self.before_step)
        self.edits += 1
        for name, (old, _) in swapped.items():
            self.names[old] = name

    def before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self.checked.get(optimizer) == self.edits:
            return
        self.checked[optimizer] = self.edits
        held = [
            self.names[parameter]
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter in self.names
        ]
        if held:
            warnings.warn(
                f"{type(optimizer).__name__} still holds {len(held)} parameters that an edit has "
                f"replaced ({', '.join(map(repr, held[:3]))}{', …' * (len(held) > 3)}): its steps "
                "do not reach the model. Pass it to the edit, "
                "structure.apply(plan, followers=[optimizer]), or make a new optimizer",
                GrowmasWarning,
                stacklevel=4,
            )


_REPLACED = _Replaced()


def note_replaced(swapped: Mapping[str, tuple[nn.Parameter, nn.Parameter]]) -> None:
    """Remember the parameters that an edit has replaced.

    Args:
        swapped: Qualified name -> the old parameter and the one in its place.
    """
    if swapped:
        _REPLACED.add(swapped)
