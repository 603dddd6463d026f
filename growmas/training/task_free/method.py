"""Methods of learning on streams without task boundaries."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from growmas.data import Split, Task
from growmas.errors import ShiftError
from growmas.training.execution import Execution
from growmas.training.methods.method import Method
from growmas.training.methods.own_state import load_own_state, own_state
from growmas.training.task_free.checks import check_complete
from growmas.training.task_free.records import StepDone


class TaskFreeMethod:
    """Learns a stream by a method to which the whole stream is one task.

    It is for methods that need neither the beginning nor the end of a task, such as `ER`, `DERpp`
    and `L2Init`: `begin_task` and `end_task` are not called. Each batch is one step.

    Attributes:
        method: Of learning; it holds the network.
        optimizer: Over the parameters of the network.
        step: Number of batches learnt.
    """

    def __init__(
        self,
        method: Method,
        optimizer: torch.optim.Optimizer,
        *,
        execution: Execution | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            method: Of learning; it holds the network.
            optimizer: Over the parameters of the network.
            execution: Precision of steps, and compiled code; None for float32 and no compiling.
        """
        self.method = method
        self._execution = Execution() if execution is None else execution
        self.step = 0
        self.optimizer = optimizer

    def learn(self, inputs: Tensor, labels: Tensor, *, plain: Tensor | None = None) -> StepDone:
        """Learn one batch, and return what happened.

        Args:
            inputs: [N, ...].
            labels: int64 [N].
            plain: The inputs without random changes. A method learns and keeps `inputs`.

        Raises:
            ShiftError: The loss became NaN or infinite; the network was not updated.
        """
        task = _stream_as_task(inputs, labels)
        self.method.structure.model.train()
        with self._execution.forward():
            loss = self.method.loss(inputs, labels, task)
        value = float(loss.detach())
        if not torch.isfinite(loss.detach()):
            raise ShiftError(
                f"the loss became {value} at step {self.step}: lower training.learning_rate"
            )
        penalty, stepped = self._execution.step(loss, self.optimizer, self.method.penalty_grad_)
        if stepped:
            self.method.step_done(task)
        self.step += 1
        return StepDone(self.step - 1, value, "", None, float(penalty))

    def predict(self, inputs: Tensor) -> Tensor:
        """Return the output in eval mode, [N, C]."""
        model = self.method.structure.model
        mode = model.training
        model.eval()
        with torch.no_grad():
            output: Tensor = model(inputs, 0)
        model.train(mode)
        return output

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the settings, as tensors and JSON values."""
        return {
            "model": dict(self.method.structure.model.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "mas": None,
            "own": own_state(self.method),
            "precision": self._execution.state_dict(),
            "step": self.step,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken, to the bit.

        Raises:
            ShiftError: Something is missing.
        """
        check_complete(state, self.state_dict(), optional=("precision",))
        self.method.structure.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        load_own_state(self.method, state["own"])
        self._execution.load_state_dict(state.get("precision", {}))
        self.step = int(state["step"])


def _stream_as_task(inputs: Tensor, labels: Tensor) -> Task:
    """Return the stream as the first task, whose samples at hand are the batch."""
    batch = Split(inputs, labels)
    return Task(name="stream", index=0, train=batch, test=batch, classes=(), head=0)
