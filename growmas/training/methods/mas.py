"""The MAS penalty on a network of fixed size."""

from growmas.data import Task
from growmas.penalty import MAS
from growmas.structure import Structure
from growmas.training.methods.method import Method, inputs_of, through


class FixedMAS(Method):
    """Learns with the MAS penalty, without growth."""

    def __init__(self, structure: Structure, mas: MAS) -> None:
        super().__init__(structure, mas)
        self._consolidate = mas.consolidate

    def end_task(self, task: Task) -> None:
        """Consolidate on the task's training inputs, through its own head."""
        self._consolidate(inputs_of(task), forward=through(task.head))
