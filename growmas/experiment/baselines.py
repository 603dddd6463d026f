"""Published methods to compare with, built from a config."""

from dataclasses import dataclass
from typing import assert_never

from torch.optim import Optimizer

from growmas.config import (
    CBPConfig,
    CCBPConfig,
    DERppConfig,
    ERConfig,
    EWCConfig,
    HATConfig,
    ICaRLConfig,
    L2InitConfig,
    LayerNormConfig,
    LwFConfig,
    OnlineEWCConfig,
    PackNetConfig,
    RanPACConfig,
    ReDoConfig,
    ShrinkPerturbConfig,
    SIConfig,
    SLDAConfig,
    UPGDConfig,
)
from growmas.config.baselines import BaselineConfig
from growmas.data import Stream
from growmas.experiment.contexts import build_extract
from growmas.structure import Structure
from growmas.training.methods import (
    ER,
    EWC,
    HAT,
    SLDA,
    UPGD,
    ContinualBackprop,
    ContinuousCBP,
    DERpp,
    ICaRL,
    L2Init,
    LwF,
    Method,
    OnlineEWC,
    PackNet,
    RanPAC,
    ReDo,
    ShrinkPerturb,
    SynapticIntelligence,
)

Boundless = (
    ERConfig
    | DERppConfig
    | L2InitConfig
    | CBPConfig
    | CCBPConfig
    | LayerNormConfig
    | ReDoConfig
    | ShrinkPerturbConfig
    | UPGDConfig
)
"""Records of the published methods that work without task boundaries."""

BASELINES = (
    *(EWCConfig, OnlineEWCConfig, SIConfig, LwFConfig, ERConfig, DERppConfig),
    *(PackNetConfig, HATConfig, ICaRLConfig, SLDAConfig, RanPACConfig, L2InitConfig),
    *(CBPConfig, CCBPConfig, LayerNormConfig, ReDoConfig, ShrinkPerturbConfig, UPGDConfig),
)
"""Records of the published methods."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """Parts of an experiment that methods are built with.

    Attributes:
        structure: The units of the network.
        optimizer: Of its parameters.
        stream: What will be learnt.
        epochs: Of each task.
        batch_size: Samples of a step.
        seed: Of a memory, of gates and of random features.
    """

    structure: Structure
    optimizer: Optimizer
    stream: Stream
    epochs: int
    batch_size: int
    seed: int


def build_baseline(config: BaselineConfig, given: Given) -> Method:
    """Build the published method that a config describes.

    Raises:
        ConfigError: The method cannot be used with the network.
    """
    structure, stream, seed = given.structure, given.stream, given.seed
    settings = config.model_dump(exclude={"kind", "features", "filters", "pool", "whiten"})
    match config:
        case EWCConfig():
            return EWC(structure, **settings)
        case OnlineEWCConfig():
            return OnlineEWC(structure, **settings)
        case SIConfig():
            return SynapticIntelligence(structure, **settings)
        case ERConfig() | DERppConfig() | L2InitConfig() | CBPConfig() | ReDoConfig():
            return build_boundless(config, structure, given.optimizer, seed=seed)
        case ShrinkPerturbConfig() | UPGDConfig() | CCBPConfig() | LayerNormConfig():
            return build_boundless(config, structure, given.optimizer, seed=seed)
        case LwFConfig():
            return LwF(structure, stream=stream, **settings)
        case ICaRLConfig():
            return ICaRL(structure, stream=stream, **settings)
        case PackNetConfig():
            return PackNet(structure, epochs=given.epochs, **settings)
        case HATConfig():
            return HAT(structure, stream=stream, batch_size=given.batch_size, seed=seed, **settings)
        case SLDAConfig():
            extract = build_extract(config, seed=seed, model=structure.model)
            return SLDA(structure, stream=stream, extract=extract, **settings)
        case RanPACConfig():
            extract = build_extract(config, seed=seed, model=structure.model)
            return RanPAC(structure, stream=stream, extract=extract, seed=seed, **settings)
    assert_never(config)


def build_boundless(
    config: Boundless, structure: Structure, optimizer: Optimizer, *, seed: int
) -> Method:
    """Build a published method that works without task boundaries.

    Args:
        config: Its record.
        structure: The units of the network.
        optimizer: Of its parameters.
        seed: Of a memory, and of noise.
    """
    settings = config.model_dump(exclude={"kind"})
    match config:
        case L2InitConfig():
            return L2Init(structure, **settings)
        case CBPConfig():
            return ContinualBackprop(structure, optimizer=optimizer, **settings)
        case CCBPConfig():
            return ContinuousCBP(structure, seed=seed, **settings)
        case LayerNormConfig():
            return Method(structure)
        case ReDoConfig():
            return ReDo(structure, optimizer=optimizer, **settings)
        case ShrinkPerturbConfig():
            return ShrinkPerturb(structure, seed=seed, **settings)
        case UPGDConfig():
            return UPGD(structure, seed=seed, **settings)
        case ERConfig():
            return ER(structure, seed=seed, **settings)
        case DERppConfig():
            return DERpp(structure, seed=seed, **settings)
    assert_never(config)
