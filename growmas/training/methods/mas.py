"""The MAS penalty on a network of fixed size."""

from typing import Literal

from growmas.data import Task, batches
from growmas.distributed import own_share, size
from growmas.importance import distributed_importance, fisher_information, hebbian_importance
from growmas.penalty import MAS
from growmas.structure import Structure
from growmas.training.methods.method import IMPORTANCE_BATCH, Method, inputs_of, through


class FixedMAS(Method):
    """Learns with the MAS penalty, without growth."""

    def __init__(
        self,
        structure: Structure,
        mas: MAS,
        importance: Literal["mas", "fisher", "hebbian"] = "mas",
    ) -> None:
        super().__init__(structure, mas)
        self._consolidate = mas.consolidate
        self._importance = importance

    def end_task(self, task: Task) -> None:
        """Consolidate on the task's training data, through its own head."""
        if self._importance == "mas":
            data, forward = inputs_of(task), through(task.head)
            if size() > 1:  # every process measures its rows
                model = self.structure.model
                self._consolidate(distributed_importance(model, own_share(data), forward=forward))
            else:
                self._consolidate(data, forward=forward)
            return
        if self._importance == "hebbian":
            forward = through(task.head)
            model = self.structure.model
            self._consolidate(hebbian_importance(model, inputs_of(task), forward=forward))
            return
        labelled = batches(task.train, IMPORTANCE_BATCH)
        self._consolidate(
            fisher_information(
                self.structure.model,
                labelled,
                forward=lambda model, batch: model(batch[0], task.head),
            )
        )
