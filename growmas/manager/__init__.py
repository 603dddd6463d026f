"""The structural manager and its policies, which decide when to grow and when to prune.

`StructuralManager` asks its policies for plans and carries them out within a `Budget`. The
policies here are `GrowPolicy`, `GrowBySaturation`, `OvergrowSelect`, `ReplaceDead`,
`ReplaceLowUtility`, `PrunePolicy`, `PruneBelow` and `PruneWithin`; a policy of your own is a
subclass of `Policy` that reads a `Situation`.
"""

from growmas.manager.allocation import allocate
from growmas.manager.auto_protection import AutoProtection, ProtectionChoice
from growmas.manager.birth import BirthProtection
from growmas.manager.bounded_pruning import PruneWithin
from growmas.manager.budget import Budget
from growmas.manager.capacity import GrowBySaturation, saturation
from growmas.manager.contrib import Gains, GrowByGain, GrowByNeed, candidate_gains
from growmas.manager.growth import GrowPolicy
from growmas.manager.low_utility import ReplaceLowUtility
from growmas.manager.manager import StructuralManager
from growmas.manager.overgrowth import OvergrowSelect
from growmas.manager.policy import Policy
from growmas.manager.pruning import PruneBelow, PrunePolicy
from growmas.manager.redundancy import PruneByRedundancy
from growmas.manager.replacement import ReplaceDead
from growmas.manager.situation import Situation
from growmas.manager.trial import trial_loss

__all__ = [
    "AutoProtection",
    "BirthProtection",
    "Budget",
    "Gains",
    "GrowByGain",
    "GrowByNeed",
    "GrowBySaturation",
    "GrowPolicy",
    "OvergrowSelect",
    "Policy",
    "ProtectionChoice",
    "PruneBelow",
    "PruneByRedundancy",
    "PrunePolicy",
    "PruneWithin",
    "ReplaceDead",
    "ReplaceLowUtility",
    "Situation",
    "StructuralManager",
    "allocate",
    "candidate_gains",
    "saturation",
    "trial_loss",
]
