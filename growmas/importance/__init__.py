"""Importance Ω and Fisher information of every parameter, measured from data."""

from growmas.importance.comparison import Agreement, EstimatorComparison, compare_estimators
from growmas.importance.distributed import distributed_importance
from growmas.importance.fisher import fisher_information
from growmas.importance.gradients import PerSample, Products, Rows
from growmas.importance.hebbian import hebbian_importance
from growmas.importance.mas import importance_sum, mas_importance
from growmas.importance.online import RunningImportance, accumulate_importance
from growmas.importance.operations import register_rule
from growmas.importance.sums import ImportanceSum

__all__ = [
    "Agreement",
    "EstimatorComparison",
    "ImportanceSum",
    "PerSample",
    "Products",
    "Rows",
    "RunningImportance",
    "accumulate_importance",
    "compare_estimators",
    "distributed_importance",
    "fisher_information",
    "hebbian_importance",
    "importance_sum",
    "mas_importance",
    "register_rule",
]
