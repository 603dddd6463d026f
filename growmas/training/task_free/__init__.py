"""Learners of streams without task boundaries."""

from growmas.training.task_free.fixed import TaskFreeMAS
from growmas.training.task_free.learner import TaskFreeLearner
from growmas.training.task_free.method import TaskFreeMethod
from growmas.training.task_free.records import Shift, StepDone

__all__ = ["Shift", "StepDone", "TaskFreeLearner", "TaskFreeMAS", "TaskFreeMethod"]
