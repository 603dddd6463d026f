"""Execution of training steps: their precision, and compiled code."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from growmas.structure import Structure
from growmas.training.compiled import CompiledModel
from growmas.training.precision import Precision, PrecisionName


class Execution:
    """Runs forward passes of training, and makes steps; learners of all kinds share it.

    Args:
        precision: "fp32", "bf16" or "fp16", see `Precision`.
        device: Of the network.
        compiled: The structure whose network runs through `torch.compile`; None for none.
    """

    def __init__(
        self,
        precision: PrecisionName = "fp32",
        device: str = "cpu",
        *,
        compiled: Structure | None = None,
    ) -> None:
        self._precision = Precision(precision, device)
        self._compiled = None if compiled is None else CompiledModel(compiled)

    @contextmanager
    def forward(self, *, whole: bool = True) -> Iterator[None]:
        """Run the forward passes of a block in the precision of training.

        Args:
            whole: The network is run as it is now. Give False inside of a view of an earlier one,
                which compiled code would not see.
        """
        compiled = self._compiled.active() if self._compiled and whole else nullcontext()
        with self._precision.forward(), compiled:
            yield

    def step(
        self,
        loss: Tensor,
        optimizer: Optimizer,
        penalty_grad: Callable[[], Tensor],
        *,
        combine: Callable[[], None] | None = None,
    ) -> tuple[Tensor, bool]:
        """Make a step, see `Precision.step`: return the penalty, and True if it was made."""
        return self._precision.step(loss, optimizer, penalty_grad, combine=combine)

    def state_dict(self) -> dict[str, Any]:
        """Return the scale of gradients and its history, if there is one."""
        return self._precision.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._precision.load_state_dict(state)
