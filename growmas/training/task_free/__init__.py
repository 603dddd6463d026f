"""Learning from a stream in which nobody says where a task ends."""

from growmas.training.task_free.fixed import TaskFreeMAS
from growmas.training.task_free.learner import Shift, StepDone, TaskFreeLearner

__all__ = ["Shift", "StepDone", "TaskFreeLearner", "TaskFreeMAS"]
