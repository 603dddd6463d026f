"""Experiments as YAML files: read, checked with all mistakes at once, and written.

Nothing here imports torch, so that help and validation start fast.
"""

from growmas.config.experiment import (
    ConvNetConfig,
    Experiment,
    FinetuneConfig,
    GrowConfig,
    GrowmasConfig,
    MASConfig,
    MethodConfig,
    MLPConfig,
    ModelConfig,
    PermutedConfig,
    PruneConfig,
    SourcesConfig,
    SplitConfig,
    StreamConfig,
    TrainingConfig,
)
from growmas.config.load import dump_config, load_config

__all__ = [
    "ConvNetConfig",
    "Experiment",
    "FinetuneConfig",
    "GrowConfig",
    "GrowmasConfig",
    "MASConfig",
    "MLPConfig",
    "MethodConfig",
    "ModelConfig",
    "PermutedConfig",
    "PruneConfig",
    "SourcesConfig",
    "SplitConfig",
    "StreamConfig",
    "TrainingConfig",
    "dump_config",
    "load_config",
]
