"""Learning from a stream in which nobody says where a task ends."""

from growmas.training.task_free.fixed import TaskFreeMAS
from growmas.training.task_free.learner import TaskFreeLearner
from growmas.training.task_free.records import Shift, StepDone

__all__ = ["Shift", "StepDone", "TaskFreeLearner", "TaskFreeMAS"]
