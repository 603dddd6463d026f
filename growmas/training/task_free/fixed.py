"""Task-free MAS on a network of fixed size, as published."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from growmas.penalty import MAS
from growmas.shift import Detector, PlateauDetector, ShiftEvent
from growmas.training.execution import Execution
from growmas.training.task_free.checks import check_complete, check_numbers
from growmas.training.task_free.recent import buffers_kept
from growmas.training.task_free.records import Shift, StepDone

Function = Literal["squared_norm", "vector"] | Callable[[Any], Tensor]


def norm(output: Tensor) -> Tensor:
    """Return ‖F(x)‖₂ of each sample, [N, C] -> [N], as the released code of task-free MAS does."""
    norms: Tensor = torch.linalg.vector_norm(output.flatten(1), dim=1)
    return norms


class TaskFreeMAS:
    """Aljundi, Kelchtermans, Tuytelaars, Task-Free Continual Learning, CVPR 2019, Algorithm 1.

    Every batch is learnt for several gradient steps, together with a buffer of the hardest recent
    samples, which is then renewed: of batch and buffer those with the highest loss at the last
    step stay. The mean loss of the batch at the first step, before the update and without the
    penalty, feeds the detector. At the n-th plateau the importance is measured on the buffer,

        Ω_n = Ω_new / n + (1 − 1/n) Ω_{n−1},

    and θ* ← θ. Without a buffer it is measured on the batch at hand.

    Three things can differ from the paper: importance of the squared norm
    (function="squared_norm"), on the last batches, unlabelled, instead of on the buffer
    (`recent`), and each plateau's importance scaled alike (`normalize`). With strength 0 it is
    online replay of the hardest samples, without a buffer plain fine-tuning.

    Attributes:
        model: The network.
        optimizer: Over the parameters of the network.
        mas: Importance over plateaus.
        buffer: Inputs and labels of the hardest samples; None before the first batch.
        step: Number of batches learnt.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        strength: float = 1.0,
        buffer: int = 30,
        steps: int = 5,
        detector: Detector | None = None,
        function: Function = norm,
        normalize: Literal["mean", "max"] | None = None,
        recent: int = 0,
        execution: Execution | None = None,
    ) -> None:
        """Prepare for a stream.

        Args:
            model: The network.
            optimizer: Over its parameters.
            strength: λ of the penalty.
            buffer: How many hard samples are kept, 0 or more.
            steps: Gradient steps on each batch.
            detector: None for `PlateauDetector(mode="paper")`.
            function: Of the output, see `mas_importance`.
            normalize: See `MAS`.
            recent: On how many of the last batches importance is measured; 0 for the buffer.
            execution: Precision of steps, and compiled code; None for float32 and no compiling.

        Raises:
            ShiftError: A number is out of range.
            PenaltyError: A setting that `MAS` refuses.
        """
        check_numbers(buffer=(buffer, 0), steps=(steps, 1), recent=(recent, 0))
        self.model = model
        self.mas = MAS(model, strength=strength, accumulate="mean", normalize=normalize)
        self.detector = PlateauDetector(mode="paper") if detector is None else detector
        self.buffer: tuple[Tensor, Tensor] | None = None
        self.step = 0
        self.optimizer = optimizer
        self._size = buffer
        self._steps = steps
        self._function = function
        self._most_recent = recent
        self._recent: list[Tensor] = []
        self._plain: Tensor | None = None  # the inputs of the buffer without random changes
        self._execution = Execution() if execution is None else execution

    def learn(self, inputs: Tensor, labels: Tensor, *, plain: Tensor | None = None) -> StepDone:
        """Learn one batch, and return what happened.

        Args:
            inputs: [N, ...].
            labels: int64 [N].
            plain: The inputs without random changes, for importance; None where they have none.
                The buffer holds what was learnt, and these beside it.

        Raises:
            ShiftError: The loss became NaN or infinite; the network was not updated.
        """
        size = len(labels)
        if self.buffer is not None and self._size:
            if plain is not None:
                held = self.buffer[0] if self._plain is None else self._plain
                plain = torch.cat([plain, held])
            inputs = torch.cat([inputs, self.buffer[0]])
            labels = torch.cat([labels, self.buffer[1]])
        event, first, penalty, losses = None, math.nan, 0.0, torch.zeros(0)
        self.model.train()
        for step in range(self._steps):
            with buffers_kept(self.model):
                with self._execution.forward():
                    losses = F.cross_entropy(self.model(inputs), labels, reduction="none")
                if step == 0:
                    first = float(losses[:size].detach().mean())
                    event = self.detector.update(first)
            added, _ = self._execution.step(losses.mean(), self.optimizer, self.mas.penalty_grad_)
            penalty += float(added) / self._steps
        self._renew(inputs, labels, losses.detach(), plain)
        seen = (inputs if plain is None else plain)[:size]
        if self._most_recent:
            self._recent = [*self._recent, seen][-self._most_recent :]
        if event is not None and event.kind == "plateau" and self.mas.strength:
            self.mas.consolidate(self._measured_on(seen), function=self._function)
            self.mas.measured = self.mas.measured[-1:]  # plateaus may be without end
        self.step += 1
        shift = None if event is None else _shift_of(event)
        return StepDone(self.step - 1, first, "", shift, penalty)

    def predict(self, inputs: Tensor) -> Tensor:
        """Return the output in eval mode, [N, C]."""
        mode = self.model.training
        self.model.eval()
        with torch.no_grad():
            output: Tensor = self.model(inputs)
        self.model.train(mode)
        return output

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the settings, as tensors and JSON values."""
        return {
            "model": dict(self.model.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "mas": self.mas.state_dict(),
            "detector": self.detector.state_dict(),
            "buffer": self.buffer,
            "recent": list(self._recent),
            "step": self.step,
            "plain": self._plain,
            "precision": self._execution.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken, to the bit.

        Raises:
            ShiftError: Something is missing.
        """
        check_complete(state, self.state_dict(), optional=("plain", "precision"))
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.mas.load_state_dict(state["mas"])
        self.detector.load_state_dict(state["detector"])
        self.buffer = None if state["buffer"] is None else tuple(state["buffer"])
        self._recent, self.step = list(state["recent"]), int(state["step"])
        self._plain = state.get("plain")
        self._execution.load_state_dict(state.get("precision", {}))

    def _renew(self, inputs: Tensor, labels: Tensor, losses: Tensor, plain: Tensor | None) -> None:
        hardest = losses.argsort(descending=True, stable=True)[: self._size]
        self.buffer = inputs[hardest].clone(), labels[hardest].clone()
        self._plain = None if plain is None else plain[hardest].clone()

    def _measured_on(self, inputs: Tensor) -> list[Tensor]:
        if self._most_recent:
            return self._recent
        if self._size and self.buffer is not None:
            return [self.buffer[0] if self._plain is None else self._plain]
        return [inputs]


def _shift_of(event: ShiftEvent) -> Shift:
    return Shift(event, "settled" if event.kind == "plateau" else "noticed", "", event.reason)
