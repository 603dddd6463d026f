"""Networks that grow and prune themselves while they learn one thing after another.

One quantity drives everything: the importance of Memory Aware Synapses (Aljundi et al., ECCV
2018), how sensitive the network's output is to each parameter, measured without labels.

The names below are the public face; whatever is not here is private. They are loaded on first
use (PEP 562), so that reading a history or printing help never imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from growmas.checkpoint import load, save
    from growmas.contexts import (
        UNKNOWN,
        Answer,
        Context,
        EnergyContext,
        EntropyContext,
        GaussianContext,
        answer_by_context,
        answer_by_view,
        combine_views,
        view_answers,
    )
    from growmas.errors import GrowmasError, GrowmasWarning
    from growmas.history import TopologyHistory, TopologyTracker
    from growmas.importance import (
        ImportanceSum,
        accumulate_importance,
        compare_estimators,
        distributed_importance,
        hebbian_importance,
        importance_sum,
        mas_importance,
    )
    from growmas.integrations.torch_pruning import MASPruningImportance
    from growmas.manager import (
        Budget,
        GrowByGain,
        GrowByNeed,
        GrowBySaturation,
        GrowPolicy,
        OvergrowSelect,
        Policy,
        PruneBelow,
        PrunePolicy,
        PruneWithin,
        ReplaceDead,
        StructuralManager,
        candidate_gains,
        saturation,
    )
    from growmas.penalty import MAS
    from growmas.structure import (
        ActivationStatistics,
        DryRun,
        Edit,
        GradMax,
        Plan,
        Split,
        Structure,
        UnitGroup,
        Warmup,
    )
    from growmas.structure.unit_graph import unit_graph

__version__ = "0.1.0"

__all__ = [
    "MAS",
    "UNKNOWN",
    "ActivationStatistics",
    "Answer",
    "Budget",
    "Context",
    "DryRun",
    "Edit",
    "EnergyContext",
    "EntropyContext",
    "GaussianContext",
    "GradMax",
    "GrowByGain",
    "GrowByNeed",
    "GrowBySaturation",
    "GrowPolicy",
    "GrowmasError",
    "GrowmasWarning",
    "ImportanceSum",
    "MASPruningImportance",
    "OvergrowSelect",
    "Plan",
    "Policy",
    "PruneBelow",
    "PrunePolicy",
    "PruneWithin",
    "ReplaceDead",
    "Split",
    "StructuralManager",
    "Structure",
    "TopologyHistory",
    "TopologyTracker",
    "UnitGroup",
    "Warmup",
    "accumulate_importance",
    "answer_by_context",
    "answer_by_view",
    "candidate_gains",
    "combine_views",
    "compare_estimators",
    "distributed_importance",
    "hebbian_importance",
    "importance_sum",
    "load",
    "mas_importance",
    "saturation",
    "save",
    "unit_graph",
    "view_answers",
]

_HOMES = {
    "MAS": "penalty",
    "UNKNOWN": "contexts",
    "ActivationStatistics": "structure",
    "Budget": "manager",
    "Answer": "contexts",
    "Context": "contexts",
    "DryRun": "structure",
    "Edit": "structure",
    "EnergyContext": "contexts",
    "EntropyContext": "contexts",
    "GaussianContext": "contexts",
    "GradMax": "structure",
    "GrowByGain": "manager",
    "GrowByNeed": "manager",
    "GrowBySaturation": "manager",
    "GrowPolicy": "manager",
    "GrowmasError": "errors",
    "GrowmasWarning": "errors",
    "ImportanceSum": "importance",
    "MASPruningImportance": "integrations.torch_pruning",
    "OvergrowSelect": "manager",
    "Plan": "structure",
    "Policy": "manager",
    "PruneBelow": "manager",
    "PrunePolicy": "manager",
    "PruneWithin": "manager",
    "ReplaceDead": "manager",
    "Split": "structure",
    "StructuralManager": "manager",
    "Structure": "structure",
    "TopologyHistory": "history",
    "TopologyTracker": "history",
    "UnitGroup": "structure",
    "Warmup": "structure",
    "accumulate_importance": "importance",
    "candidate_gains": "manager",
    "answer_by_context": "contexts",
    "answer_by_view": "contexts",
    "combine_views": "contexts",
    "compare_estimators": "importance",
    "distributed_importance": "importance",
    "hebbian_importance": "importance",
    "importance_sum": "importance",
    "load": "checkpoint",
    "mas_importance": "importance",
    "saturation": "manager",
    "save": "checkpoint",
    "unit_graph": "structure.unit_graph",
    "view_answers": "contexts",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'growmas' has no attribute {name!r}")
    return getattr(import_module(f"growmas.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
