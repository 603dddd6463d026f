"""The units of a network, and growing and pruning them."""

import growmas.structure.layers.channelwise
import growmas.structure.layers.derived
import growmas.structure.layers.gains
import growmas.structure.layers.huggingface
import growmas.structure.layers.probes
import growmas.structure.layers.responses
import growmas.structure.layers.torch_layers  # noqa: F401 (all register layer types)
from growmas.structure.followers.warmup import Warmup
from growmas.structure.gains import add_gains
from growmas.structure.initialisation.gradmax import GradMax
from growmas.structure.initialisation.newborns import Initialisation, Lineage, Newborns
from growmas.structure.initialisation.paired import Paired
from growmas.structure.initialisation.split import Split, SplitUnits
from growmas.structure.inspection.dry_run import DryRun, Outcome
from growmas.structure.inspection.explain import Cost, Explanation, GroupEffect
from growmas.structure.layers.attention import register_attention
from growmas.structure.layers.axes import LayerAxes, Size, TensorAxis, register_layer
from growmas.structure.layers.gains import fold_gains
from growmas.structure.layers.layouts import Layout, Span, register_layout
from growmas.structure.layers.norms import register_norm
from growmas.structure.reconstruction.statistics import ActivationStatistics
from growmas.structure.structure import Structure
from growmas.structure.units.edit import AxisChange, AxisMean, AxisTransfer, Edit
from growmas.structure.units.groups import Member, UnitGroup
from growmas.structure.units.layer_info import LayerInfo
from growmas.structure.units.plan import Plan

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
    "Paired",
    "Plan",
    "Size",
    "Span",
    "Split",
    "SplitUnits",
    "Structure",
    "TensorAxis",
    "UnitGroup",
    "Warmup",
    "add_gains",
    "fold_gains",
    "register_attention",
    "register_layer",
    "register_layout",
    "register_norm",
]
