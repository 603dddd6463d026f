"""From a config to streams, models, methods and learners, and a run of them."""

from growmas.experiment.learners import build_task_aware, build_task_free
from growmas.experiment.loading import LoadedRun, load_run
from growmas.experiment.methods import build_method
from growmas.experiment.models import build_model, build_separate, build_structure
from growmas.experiment.optimizers import build_optimizer
from growmas.experiment.randomness import random_generator
from growmas.experiment.run import run_experiment
from growmas.experiment.streams import build_stream, build_task_free_stream

__all__ = [
    "LoadedRun",
    "build_method",
    "build_model",
    "build_optimizer",
    "build_separate",
    "build_stream",
    "build_structure",
    "build_task_aware",
    "build_task_free",
    "build_task_free_stream",
    "load_run",
    "random_generator",
    "run_experiment",
]
