"""Fisher information of a task's training data, through the head of the task."""

from typing import Literal

from torch import Tensor

from growmas.data import Task, batches
from growmas.importance import fisher_information
from growmas.structure import Structure
from growmas.training.methods.method import IMPORTANCE_BATCH

Target = Literal["model", "label", "sample"]
"""Labels over which the Fisher's expectation is taken, see `fisher_information`."""


def task_fisher(structure: Structure, task: Task, target: Target) -> dict[str, Tensor]:
    """Return parameter name -> F of a task, the mean over its training samples.

    Every square is of the gradient of one sample, also in a batch. The model is bit-identical
    afterwards.
    """
    return fisher_information(
        structure.model,
        batches(task.train, IMPORTANCE_BATCH),
        target=target,
        forward=lambda model, batch: model(batch[0], task.head),
    )
