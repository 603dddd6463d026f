"""Methods of learning tasks one after another: no protection, a penalty, growth, and baselines.

- shared parts: `Method`, `Reservoir`, `Exemplars`, `Teacher`, `PathIntegral`, `UpdateMask`,
  `UnitGates`, `KnownOutputs`
- penalties: `EWC`, `OnlineEWC`, `SynapticIntelligence`, `L2Init`
- replay and distillation: `ER`, `DERpp`, `LwF`, `ICaRL`
- a part of the network for each task: `PackNet`, `HAT`
- against the loss of plasticity: `ContinualBackprop`, `ContinuousCBP`, `ReDo`, `ShrinkPerturb`,
  `UPGD`
- statistics, without training: `SLDA`, `RanPAC`
"""

from growmas.training.methods.classifier import SLDA, RanPAC
from growmas.training.methods.continuous import ContinuousCBP
from growmas.training.methods.ewc import EWC, OnlineEWC
from growmas.training.methods.exemplars import Exemplars
from growmas.training.methods.hat import HAT
from growmas.training.methods.icarl import ICaRL
from growmas.training.methods.l2_init import L2Init
from growmas.training.methods.lwf import LwF
from growmas.training.methods.method import Method
from growmas.training.methods.packnet import PackNet
from growmas.training.methods.perturbing import UPGD, ShrinkPerturb
from growmas.training.methods.replacing import ContinualBackprop, ReDo
from growmas.training.methods.replay import ER, DERpp
from growmas.training.methods.reservoir import Replayed, Reservoir
from growmas.training.methods.synaptic_intelligence import SynapticIntelligence
from growmas.training.methods.teacher import Teacher

__all__ = [
    "ER",
    "EWC",
    "HAT",
    "SLDA",
    "UPGD",
    "ContinualBackprop",
    "ContinuousCBP",
    "DERpp",
    "Exemplars",
    "ICaRL",
    "L2Init",
    "LwF",
    "Method",
    "OnlineEWC",
    "PackNet",
    "RanPAC",
    "ReDo",
    "Replayed",
    "Reservoir",
    "ShrinkPerturb",
    "SynapticIntelligence",
    "Teacher",
]
