"""Precision of training steps: mixed precision, and scaled gradients where fp16 needs them."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

PrecisionName = Literal["fp32", "bf16", "fp16"]

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_FIRST_SCALE = 2.0**12  # of gradients in fp16; it adapts within a few steps


class Precision:
    """The type of numbers in the forward pass of training; weights stay in float32.

    Args:
        name: "fp32", "bf16" or "fp16"; with fp16 the loss is scaled, so that small gradients are
            not lost, and a step with gradients that are not finite is left out.
        device: Of the network.
    """

    def __init__(self, name: PrecisionName, device: str) -> None:
        self._type = _TYPES.get(name)
        self._device = torch.device(device).type
        scaled = name == "fp16"
        self._scaler = (
            torch.amp.GradScaler(self._device, init_scale=_FIRST_SCALE) if scaled else None
        )

    def forward(self) -> AbstractContextManager[object]:
        """Return the context of a forward pass."""
        if self._type is None:
            return nullcontext()
        return torch.autocast(self._device, dtype=self._type)

    def step(
        self,
        loss: Tensor,
        optimizer: Optimizer,
        penalty_grad: Callable[[], Tensor],
        *,
        combine: Callable[[], None] | None = None,
    ) -> tuple[Tensor, bool]:
        """Take the gradient of a loss, add that of a penalty, and step.

        Args:
            loss: A scalar.
            optimizer: Its gradients are replaced.
            penalty_grad: Adds to the gradients, and returns the penalty.
            combine: Adds up the gradients of several processes; None where there is one.

        Returns:
            The penalty, and True if the optimizer made the step.
        """
        optimizer.zero_grad()
        if self._scaler is None:
            loss.backward()  # type: ignore[no-untyped-call]
            if combine is not None:
                combine()
            penalty = penalty_grad()
            optimizer.step()
            return penalty, True
        before = self._scaler.get_scale()
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if combine is not None:
            combine()
        self._scaler.unscale_(optimizer)  # the penalty is not scaled
        penalty = penalty_grad()
        self._scaler.step(optimizer)
        self._scaler.update()
        return penalty, self._scaler.get_scale() >= before

    def state_dict(self) -> dict[str, Any]:
        """Return the scale of gradients and its history, if there is one."""
        return {} if self._scaler is None else dict(self._scaler.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        if self._scaler is not None and state:
            self._scaler.load_state_dict(dict(state))
