"""Plasticity: units that do little are replaced while the network learns.

- `settings`: `ReplacementSettings`, the numbers of a replacement
- `recorder`: `Recorder`, activations of units during one training step in every few
- `utility`: how much a unit does, from its activations, its columns or its importance
- `population`: ages and utilities of the units of a group
- `guard`: the units that old tasks need
- `signals`: `plasticity_signals`, dormant units, ranks and the health of newborns
- `plasticity`: `Plasticity`, which takes a step after every step of the optimizer
"""

from growmas.plasticity.plasticity import Plasticity
from growmas.plasticity.settings import ReplacementSettings
from growmas.plasticity.signals import plasticity_signals

__all__ = ["Plasticity", "ReplacementSettings", "plasticity_signals"]
