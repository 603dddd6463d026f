"""Which task an input is like, when nobody says so, and the answers of the views of those tasks."""

from growmas.contexts.answers import (
    Answer,
    TaskForward,
    answer_by_context,
    answer_by_view,
    combine_views,
    view_answers,
)
from growmas.contexts.confidence import EnergyContext, EntropyContext
from growmas.contexts.context import UNKNOWN, Answers, Context, TaskKey
from growmas.contexts.filters import RandomFilters
from growmas.contexts.gaussian import GaussianContext

__all__ = [
    "UNKNOWN",
    "Answer",
    "Answers",
    "Context",
    "EnergyContext",
    "EntropyContext",
    "GaussianContext",
    "RandomFilters",
    "TaskForward",
    "TaskKey",
    "answer_by_context",
    "answer_by_view",
    "combine_views",
    "view_answers",
]
