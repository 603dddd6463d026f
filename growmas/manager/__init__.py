"""When to grow and when to prune: policies propose plans, the manager carries them out."""

from growmas.manager.allocation import shared_out
from growmas.manager.bounded import PruneWithin
from growmas.manager.budget import Budget
from growmas.manager.capacity import GrowBySaturation, saturation
from growmas.manager.contrib.gain import Gains, GrowByGain, candidate_gains
from growmas.manager.contrib.need import GrowByNeed, trial_loss
from growmas.manager.grow import GrowPolicy
from growmas.manager.manager import StructuralManager
from growmas.manager.overgrow import OvergrowSelect
from growmas.manager.prune import PruneBelow, PrunePolicy
from growmas.manager.redundancy import PruneByRedundancy
from growmas.manager.replace import ReplaceDead
from growmas.manager.situation import Policy, Situation

__all__ = [
    "Budget",
    "Gains",
    "GrowByGain",
    "GrowByNeed",
    "GrowBySaturation",
    "GrowPolicy",
    "OvergrowSelect",
    "Policy",
    "PruneBelow",
    "PruneByRedundancy",
    "PrunePolicy",
    "PruneWithin",
    "ReplaceDead",
    "Situation",
    "StructuralManager",
    "candidate_gains",
    "saturation",
    "shared_out",
    "trial_loss",
]
