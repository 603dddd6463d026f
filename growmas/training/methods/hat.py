"""Hard attention to the task."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from growmas.data import Stream, Task
from growmas.errors import ConfigError, RunError
from growmas.structure import Structure
from growmas.training.methods.method import Method
from growmas.training.methods.settings import above, check_settings, number, whole
from growmas.training.methods.unit_gates import UnitGates
from growmas.training.methods.update_mask import (
    HEADS,
    UpdateMask,
    keep_statistics,
    other_heads,
)

LARGEST = 6.0
"""The numbers e stay in −6 … 6."""

STEEPEST = 50.0
"""cosh is taken of at most this."""


class HAT(Method):
    """Learn for each task which units it uses, and hold what earlier tasks use.

    Serrà et al., "Overcoming Catastrophic Forgetting with Hard Attention to the Task", ICML 2018,
    §2. Units are multiplied by a_t = sigmoid(s e_t). Within an epoch of B batches s rises from
    1/s_max to s_max, s = 1/s_max + (s_max − 1/s_max) (b − 1) / (B − 1), at the end it is s_max.
    With a_<t the largest a of earlier tasks, an update of the weight from unit j to unit i is
    multiplied by 1 − min(a_<t,i, a_<t,j). The gradient of e is multiplied by
    s_max [cosh(s e) + 1] / (s [cosh(e) + 1]), and

        c Σ a_t (1 − a_<t) / Σ (1 − a_<t)

    is added to the loss. As s_max → ∞, gates are 0 or 1 and nothing is forgotten.

    Differs from the paper: any network whose units growmas finds; a unit is shut where it is read;
    units that pass LayerNorm on a residual path have no gate, what makes them, and norms, are
    frozen after the first task, as are running statistics of BatchNorm. Updates are multiplied
    instead of gradients, so that it holds for Adam and momentum; e is learnt by plain SGD with its
    own rate; no clipping of gradients.

    Args:
        structure: The network, with a head for each task.
        stream: Its number of tasks.
        scale: s_max.
        sparsity: c.
        gate_rate: Learning rate of e.
        batch_size: Samples of a step, for the number of batches in an epoch.
        seed: Of the initial e.

    Attributes:
        gates: The numbers e of each task.

    Raises:
        ConfigError: The network has no unit that can be shut.
    """

    SAVED = ("gates", "_step")

    def __init__(
        self,
        structure: Structure,
        *,
        stream: Stream,
        scale: float = 400.0,
        sparsity: float = 0.75,
        gate_rate: float = 0.05,
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        check_settings(
            scale=number(scale, least=1),
            sparsity=number(sparsity, least=0),
            gate_rate=above(gate_rate),
            batch_size=whole(batch_size, least=1),
        )
        super().__init__(structure)
        generator = torch.Generator().manual_seed(seed)
        self.gates = UnitGates(structure, tasks=len(stream.tasks), generator=generator)
        if not self.gates.numbers:
            raise ConfigError(
                "hat shuts hidden units, and this network has none that can be left out: give it "
                "a hidden layer, or use another method"
            )
        self._scale, self._sparsity, self._rate = scale, sparsity, gate_rate
        self._batch_size = batch_size
        self._updates = UpdateMask(structure.model)
        self._step = 0  # of the epoch
        self._s = scale

    def loss(self, inputs: Tensor, labels: Tensor, task: Task) -> Tensor:
        """Return the cross entropy through the gates, and the pressure to use few new units."""
        if task.index:
            keep_statistics(self.structure.model)
        if not self._updates.factors:
            self._updates.factors = self._movable(task)
        steps = math.ceil(len(task.train) / self._batch_size)
        least, share = 1 / self._scale, self._step / max(1, steps - 1)
        self._s = least + (self._scale - least) * min(1.0, share) if steps > 1 else self._scale
        gates = self.gates.of(task.index, self._s)
        with self.gates.open(
            gates
        ):  # forward: compiled code would keep the gates of its first call
            logits = self.structure.model.forward(inputs, task.head)
        return F.cross_entropy(logits, labels) + self._sparsity * self._used(gates, task)

    def penalty_grad_(self) -> Tensor:
        """Note the parameters before the step, and return 0."""
        self._updates.before_step()
        return super().penalty_grad_()

    @torch.no_grad()
    def step_done(self, task: Task) -> None:
        """Scale the change of the weights, and make a step of e."""
        self._updates.after_step()
        for e in self.gates.numbers.values():
            if e.grad is None:
                continue
            mine = e[task.index]
            steep = torch.cosh((self._s * mine).clamp(-STEEPEST, STEEPEST)) + 1
            factor = self._scale * steep / (self._s * (torch.cosh(mine) + 1))
            moved = mine - self._rate * factor * e.grad[task.index]
            e[task.index] = moved.clamp(-LARGEST, LARGEST)
            e.grad = None
        self._step += 1

    def epoch_done(self, task: Task, epoch: int) -> None:
        """Let s rise anew."""
        self._step = 0

    def end_task(self, task: Task) -> None:
        """Hold the units of the task from now on."""
        self._updates.factors = {}

    def predict(self, inputs: Tensor, task: Task | None) -> Tensor:
        """Predict labels through the gates of the task.

        Raises:
            RunError: The task is unknown.
        """
        if task is None:
            raise RunError(
                "hat answers through the gates of a task, and the task is unknown: learn a stream "
                "of scenario task, or use another method"
            )
        with torch.no_grad(), self.gates.open(self.gates.of(task.index, self._scale)):
            logits: Tensor = self.structure.model(inputs, task.head)
        return logits.argmax(1)

    def _used(self, gates: dict[str, Tensor], task: Task) -> Tensor:
        """Return Σ a_t (1 − a_<t) / Σ (1 − a_<t), of all units with gates."""
        taken = self.gates.until(task.index, self._scale)
        free = {name: 1 - each for name, each in taken.items()}
        used = torch.stack([(gates[name] * free[name]).sum() for name in gates]).sum()
        return used / torch.stack([each.sum() for each in free.values()]).sum().clamp(min=1e-6)

    def _movable(self, task: Task) -> dict[str, Tensor]:
        """Return how far each entry of the parameters may move in this task."""
        model = self.structure.model
        if not task.index:
            return other_heads(model, task.head)
        factors = self.gates.factors(self.gates.until(task.index, self._scale))
        own = f"{HEADS}{task.head}."
        free = {name: each for name, each in factors.items() if not name.startswith(own)}
        return {**free, **other_heads(model, task.head)}
