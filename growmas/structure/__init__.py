"""The units of a network, and growing and pruning them."""

import growmas.structure.huggingface
import growmas.structure.layers  # noqa: F401 (both register layer types)
from growmas.structure.attention import register_attention
from growmas.structure.axes import LayerAxes, Size, TensorAxis, register_layer
from growmas.structure.edit import AxisChange, AxisMean, AxisTransfer, Edit
from growmas.structure.explain import Cost, Explanation, GroupEffect
from growmas.structure.gradmax import GradMax
from growmas.structure.groups import Member, UnitGroup
from growmas.structure.layer_info import LayerInfo
from growmas.structure.layouts import Layout, Span, register_layout
from growmas.structure.newborns import Initialisation, Lineage, Newborns
from growmas.structure.norms import register_norm
from growmas.structure.plan import Plan
from growmas.structure.rehearsal import DryRun, Outcome
from growmas.structure.split import Split
from growmas.structure.statistics import ActivationStatistics
from growmas.structure.structure import Structure
from growmas.structure.warmup import Warmup

__all__ = [
    "ActivationStatistics",
    "AxisChange",
    "AxisMean",
    "AxisTransfer",
    "Cost",
    "DryRun",
    "Edit",
    "Explanation",
    "GradMax",
    "GroupEffect",
    "Initialisation",
    "LayerAxes",
    "LayerInfo",
    "Layout",
    "Lineage",
    "Member",
    "Newborns",
    "Outcome",
    "Plan",
    "Size",
    "Span",
    "Split",
    "Structure",
    "TensorAxis",
    "UnitGroup",
    "Warmup",
    "register_attention",
    "register_layer",
    "register_layout",
    "register_norm",
]
