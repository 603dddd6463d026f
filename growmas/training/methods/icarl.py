"""iCaRL: incremental classifier and representation learning."""

import torch
import torch.nn.functional as F
from torch import Tensor

from growmas.contexts import NetworkFeatures
from growmas.data import Split, Stream, Task, batches, joined
from growmas.errors import ConfigError
from growmas.structure import Structure
from growmas.training.methods.exemplars import Exemplars
from growmas.training.methods.known_outputs import KnownOutputs
from growmas.training.methods.method import IMPORTANCE_BATCH, Method
from growmas.training.methods.teacher import Teacher


class ICaRL(Method):
    """Answer by the nearest mean of exemplars, on features trained with them and by distillation.

    Rebuffi et al., "iCaRL: Incremental Classifier and Representation Learning", CVPR 2017. A task
    is learnt on its samples and the exemplars of earlier classes (Algorithm 3), with g the sigmoid
    of an output, before the task (q) and now, δ the label:

        −Σ_new classes [δ log g + (1 − δ) log(1 − g)] − Σ_old classes [q log g + (1 − q) log(1 − g)]

    Exemplars are chosen by herding (Algorithm 4), K in all, m = K / classes of each; those of
    earlier classes are the first m of before (Algorithm 5). Features φ are what the head reads,
    divided by their length; a sample is given the class whose exemplars' mean, divided by its
    length too, is nearest (Algorithm 1).

    Differs from the paper: the loss is the mean over samples and outputs, without weight decay of
    its own; q is computed when it is needed, by a copy of the network. In the middle of a task,
    whose classes have no exemplars yet, the outputs answer.

    Args:
        structure: The network, with one head for all classes.
        stream: Tells the classes of each task.
        memory: K.

    Raises:
        ConfigError: The stream is not of scenario class, or the memory is not a whole number or has
            less than a sample for each class.

    Attributes:
        exemplars: The samples kept.
        teacher: The network at the end of the last task.
    """

    SAVED = ("exemplars", "teacher", "_current")

    def __init__(self, structure: Structure, *, stream: Stream, memory: int = 2000) -> None:
        super().__init__(structure)
        if stream.scenario != "class":
            raise ConfigError(
                f"icarl answers among the classes of all tasks: expected a stream of scenario "
                f"class, got {stream.scenario}"
            )
        self._stream = stream
        self._known = KnownOutputs(stream)
        self.exemplars = Exemplars(memory)
        classes = len({label for task in stream.tasks for label in task.classes})
        if memory < classes:
            raise ConfigError(
                f"memory={memory}: expected at least {classes}, an exemplar of each class of the "
                "stream"
            )
        self.teacher = Teacher(structure.model)
        self._current = -1  # index of the task whose classes have no exemplars yet
        self._means: tuple[list[int], Tensor] | None = None

    def begin_task(self, task: Task) -> None:
        """Let the outputs answer until the task has exemplars."""
        super().begin_task(task)
        self._current = task.index

    def lesson(self, task: Task) -> Split | None:
        """Return the samples of the task and all exemplars."""
        old = [
            Split(inputs.cpu(), torch.full((len(inputs),), label))
            for label, inputs in self.exemplars.inputs.items()
            if label not in task.classes
        ]
        return joined([task.train, *old])

    def loss(self, inputs: Tensor, labels: Tensor, task: Task) -> Tensor:
        """Return the binary cross entropy of all outputs known so far."""
        known = self._known.until(task)[task.head].to(labels.device)
        logits = self.structure.model(inputs, task.head)[:, known]
        wanted = (labels[:, None] == known).to(logits.dtype)
        old = self._known.before(task).get(task.head)
        if self.teacher and old is not None:
            old = old[~torch.isin(old, self._known.of(task))].to(labels.device)
            places = torch.searchsorted(known, old)
            wanted[:, places] = self.teacher(inputs, task.head)[:, old].sigmoid().to(wanted)
        return F.binary_cross_entropy_with_logits(logits, wanted)

    def end_task(self, task: Task) -> None:
        """Choose the exemplars of the task's classes, and copy the network."""
        known = self._known.until(task)[task.head]
        each = self.exemplars.share(len(known))
        self.exemplars.shrink(each)
        for label in self._known.of(task).tolist():
            mine = task.train.subset((task.train.labels == label).nonzero().squeeze(1))
            if len(mine):
                inputs = torch.cat([x for x, _ in batches(mine, IMPORTANCE_BATCH)])
                self.exemplars.add(label, inputs, self._features(inputs).cpu(), each)
        self.teacher.renew()
        self._current, self._means = -1, None

    def predict(self, inputs: Tensor, task: Task | None) -> Tensor:
        """Return the class whose exemplars' mean is nearest."""
        if self._current >= 0:
            now = self._stream.tasks[self._current]
            known = self._known.until(now)[now.head].to(inputs.device)
            logits: Tensor = self.structure.model(inputs, now.head)
            return known[logits[:, known].argmax(1)]
        if self._means is None:
            of_classes = {
                label: F.normalize(self._features(kept).mean(0), dim=0)
                for label, kept in sorted(self.exemplars.inputs.items())
            }
            self._means = [*of_classes], torch.stack([*of_classes.values()])
        labels, means = self._means
        nearest = torch.cdist(self._features(inputs), means).argmin(1)
        return torch.tensor(labels, device=inputs.device)[nearest]

    def _features(self, inputs: Tensor) -> Tensor:
        """Return φ(x), what the head reads divided by its length, [N, F]."""
        features = NetworkFeatures(self.structure.model, into="heads.0")
        parts = [features(part) for part in torch.split(inputs, IMPORTANCE_BATCH)]
        return F.normalize(torch.cat(parts), dim=1)
