"""The public names of growmas. `growmas.lazy` reads this file; see `growmas.__doc__`."""

from growmas import distributed as distributed
from growmas.checkpoint import load as load, load_manager as load_manager, save as save
from growmas.contexts import (
    UNKNOWN as UNKNOWN,
    Answer as Answer,
    Context as Context,
    EnergyContext as EnergyContext,
    EntropyContext as EntropyContext,
    GaussianContext as GaussianContext,
    NetworkFeatures as NetworkFeatures,
    RandomFilters as RandomFilters,
    RidgeContext as RidgeContext,
    SharedGaussianContext as SharedGaussianContext,
    answer_by_context as answer_by_context,
    answer_by_view as answer_by_view,
    combine_views as combine_views,
    gather_context as gather_context,
    view_answers as view_answers,
)
from growmas.errors import (
    CheckpointError as CheckpointError,
    ConfigError as ConfigError,
    ContextError as ContextError,
    DataError as DataError,
    GrowmasError as GrowmasError,
    GrowmasWarning as GrowmasWarning,
    HistoryError as HistoryError,
    ImportanceError as ImportanceError,
    PenaltyError as PenaltyError,
    PlanError as PlanError,
    PolicyError as PolicyError,
    RunError as RunError,
    ShiftError as ShiftError,
    SurgeryError as SurgeryError,
)
from growmas.experiment.loading import LoadedRun as LoadedRun, load_run as load_run
from growmas.experiment.run import run_experiment as run_experiment
from growmas.history import TopologyHistory as TopologyHistory, TopologyTracker as TopologyTracker
from growmas.importance import (
    ImportanceSum as ImportanceSum,
    PerSample as PerSample,
    Products as Products,
    Rows as Rows,
    accumulate_importance as accumulate_importance,
    compare_estimators as compare_estimators,
    distributed_importance as distributed_importance,
    fisher_information as fisher_information,
    hebbian_importance as hebbian_importance,
    importance_sum as importance_sum,
    mas_importance as mas_importance,
    register_rule as register_rule,
)
from growmas.integrations.torch_pruning import MASPruningImportance as MASPruningImportance
from growmas.manager import (
    AutoProtection as AutoProtection,
    BirthProtection as BirthProtection,
    Budget as Budget,
    GrowByGain as GrowByGain,
    GrowByNeed as GrowByNeed,
    GrowBySaturation as GrowBySaturation,
    GrowPolicy as GrowPolicy,
    OvergrowSelect as OvergrowSelect,
    Policy as Policy,
    ProtectionChoice as ProtectionChoice,
    PruneBelow as PruneBelow,
    PruneByRedundancy as PruneByRedundancy,
    PrunePolicy as PrunePolicy,
    PruneWithin as PruneWithin,
    ReplaceDead as ReplaceDead,
    ReplaceLowUtility as ReplaceLowUtility,
    Situation as Situation,
    StructuralManager as StructuralManager,
    candidate_gains as candidate_gains,
    saturation as saturation,
)
from growmas.penalty import MAS as MAS, HardProtection as HardProtection
from growmas.plasticity import (
    Plasticity as Plasticity,
    plasticity_signals as plasticity_signals,
)
from growmas.runs.observer import (
    EpochDone as EpochDone,
    Observer as Observer,
    RunBegun as RunBegun,
    RunEnded as RunEnded,
    ScalarsWritten as ScalarsWritten,
    TaskDone as TaskDone,
)
from growmas.shift import (
    Cusum as Cusum,
    DetectionScore as DetectionScore,
    Detector as Detector,
    NoveltyDetector as NoveltyDetector,
    PlateauDetector as PlateauDetector,
    ShiftEvent as ShiftEvent,
)
from growmas.structure import (
    ActivationStatistics as ActivationStatistics,
    DryRun as DryRun,
    Edit as Edit,
    GradMax as GradMax,
    Initialisation as Initialisation,
    LayerAxes as LayerAxes,
    Layout as Layout,
    Lineage as Lineage,
    Newborns as Newborns,
    Paired as Paired,
    Plan as Plan,
    Size as Size,
    Span as Span,
    Split as Split,
    SplitUnits as SplitUnits,
    Structure as Structure,
    TensorAxis as TensorAxis,
    UnitGroup as UnitGroup,
    Warmup as Warmup,
    add_gains as add_gains,
    fold_gains as fold_gains,
    register_attention as register_attention,
    register_layer as register_layer,
    register_layout as register_layout,
    register_norm as register_norm,
)
from growmas.structure.inspection.unit_graph import unit_graph as unit_graph
from growmas.training.distillation import Distillation as Distillation, distil as distil
from growmas.training.methods import (
    ER as ER,
    EWC as EWC,
    HAT as HAT,
    SLDA as SLDA,
    UPGD as UPGD,
    ContinualBackprop as ContinualBackprop,
    ContinuousCBP as ContinuousCBP,
    DERpp as DERpp,
    Exemplars as Exemplars,
    ICaRL as ICaRL,
    L2Init as L2Init,
    LwF as LwF,
    Method as Method,
    OnlineEWC as OnlineEWC,
    PackNet as PackNet,
    RanPAC as RanPAC,
    ReDo as ReDo,
    Replayed as Replayed,
    Reservoir as Reservoir,
    ShrinkPerturb as ShrinkPerturb,
    SynapticIntelligence as SynapticIntelligence,
    Teacher as Teacher,
)
from growmas.training.task_free import (
    TaskFreeLearner as TaskFreeLearner,
    TaskFreeMAS as TaskFreeMAS,
    TaskFreeMethod as TaskFreeMethod,
)

__version__: str
