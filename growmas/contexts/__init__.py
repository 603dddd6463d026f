"""Contexts, which name the task of an unlabelled input, and the answers of the views of tasks.

A `Context` scores tasks: by Gaussians of the inputs (`GaussianContext`), or by the confidence of
the views (`EntropyContext`, `EnergyContext`). `answer_by_context` lets each sample be answered by
the view of its task; `combine_views` weights the answers of all views.
"""

from growmas.contexts.answering import (
    Answer,
    TaskForward,
    answer_by_context,
    answer_by_view,
    combine_views,
    view_answers,
)
from growmas.contexts.confidence import EnergyContext, EntropyContext
from growmas.contexts.context import UNKNOWN, Answers, Context, TaskKey
from growmas.contexts.distributed import gather_context
from growmas.contexts.filters import RandomFilters
from growmas.contexts.gaussian import GaussianContext
from growmas.contexts.linear import LinearContext
from growmas.contexts.network_features import NetworkFeatures
from growmas.contexts.ridge import RidgeContext
from growmas.contexts.shared import SharedGaussianContext

__all__ = [
    "UNKNOWN",
    "Answer",
    "Answers",
    "Context",
    "EnergyContext",
    "EntropyContext",
    "GaussianContext",
    "LinearContext",
    "NetworkFeatures",
    "RandomFilters",
    "RidgeContext",
    "SharedGaussianContext",
    "TaskForward",
    "TaskKey",
    "answer_by_context",
    "answer_by_view",
    "combine_views",
    "gather_context",
    "view_answers",
]
