"""Learning without forgetting."""

from torch import Tensor

from growmas.data import Stream, Task
from growmas.structure import Structure
from growmas.training.methods.known_outputs import KnownOutputs
from growmas.training.methods.method import Method
from growmas.training.methods.settings import above, check_settings, number
from growmas.training.methods.teacher import Teacher


class LwF(Method):
    """Answer new inputs, through old outputs, as the network did before the task began.

    Li and Hoiem, "Learning without Forgetting", ECCV 2016. With y the logits of an old head for a
    new input before the task, ŷ those now:

        L(θ) + λ Σ_heads −Σ_c p_c log p̂_c (Eq. 2)    p = softmax(y / T), p̂ = softmax(ŷ / T)

    the mean over samples. With one head for all classes (scenario class), the sum is over the
    classes of earlier tasks; where all tasks share their labels (scenario domain), over all.

    Differs from the paper: there is no warm-up in which the new head is trained alone, and the
    logits before the task are computed when they are needed, by a copy of the network, not stored.

    Args:
        structure: The network.
        stream: Its scenario and heads tell which outputs are old.
        strength: λ.
        temperature: T.

    Attributes:
        teacher: The network at the end of the last task.
    """

    SAVED = ("teacher",)

    def __init__(
        self,
        structure: Structure,
        *,
        stream: Stream,
        strength: float = 1.0,
        temperature: float = 2.0,
    ) -> None:
        check_settings(strength=number(strength, least=0), temperature=above(temperature))
        super().__init__(structure)
        self._known = KnownOutputs(stream)
        self._strength, self._temperature = strength, temperature
        self.teacher = Teacher(structure.model)

    def loss(self, inputs: Tensor, labels: Tensor, task: Task) -> Tensor:
        """Return the cross entropy with the labels, and with what the teacher answers."""
        value = super().loss(inputs, labels, task)
        if not self.teacher:
            return value
        for head, outputs in self._known.before(task).items():
            wanted = self.teacher(inputs, head)[:, outputs]
            given = self.structure.model(inputs, head)[:, outputs]
            value = value + self._strength * distillation(given, wanted, self._temperature)
        return value

    def end_task(self, task: Task) -> None:
        """Copy the network for the tasks to come."""
        self.teacher.renew()


def distillation(given: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Return −Σ_c p_c log p̂_c, the mean over samples, of logits [N, C] given and wanted."""
    probabilities = (wanted / temperature).softmax(1)
    return -(probabilities * (given / temperature).log_softmax(1)).sum(1).mean()
