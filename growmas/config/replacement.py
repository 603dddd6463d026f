"""Replacement of units: the records of methods against the loss of plasticity."""

from typing import Literal

from pydantic import Field

from growmas.config.record import Record

_MATURITY = "a number of steps for which a unit is safe, 0 or more"
_DECAY = "the share of the earlier utility that is kept, 0 or more, under 1"
_EVERY = "a number of steps from one measurement to the next, at least 1"
_WARM_UP = "true or false: fresh entries get the bias correction of their own age under Adam"
_NOISE = "a size of the noise that is 0 or more"


class ReplaceConfig(Record):
    """Replacement of units of low utility after steps of training."""

    threshold: float = Field(
        0.2, gt=0, le=1, description="a share of a layer's mean utility, above 0, up to 1"
    )
    rate: float | None = Field(
        None, gt=0, lt=1, description="a share of units per step, between 0 and 1, or null"
    )
    maturity: int = Field(100, ge=0, description=_MATURITY)
    utility: Literal["rms", "activation", "contribution"] = Field(
        "rms", description="rms, activation or contribution"
    )
    decay: float = Field(0.9, ge=0, lt=1, description=_DECAY)
    every: int = Field(10, ge=1, description=_EVERY)
    guard: float | None = Field(
        0.1,
        ge=0,
        description="a share of a layer's mean need above which old tasks keep a unit, or null",
    )
    init: Literal["paired", "zero_out"] = Field("paired", description="paired or zero_out")


class CBPConfig(Record):
    """Continual backprop: the least useful units are replaced at a steady rate."""

    kind: Literal["cbp"] = Field(description="cbp")
    rate: float = Field(0.0001, gt=0, lt=1, description="a share of units per step, above 0")
    maturity: int = Field(100, ge=0, description=_MATURITY)
    decay: float = Field(0.99, ge=0, lt=1, description=_DECAY)
    every: int = Field(1, ge=1, description=_EVERY)
    warm_up: bool = Field(True, description=_WARM_UP)


class CCBPConfig(Record):
    """Continuous continual backprop: all units are reset a little, the least useful most."""

    kind: Literal["ccbp"] = Field(description="ccbp")
    rate: float = Field(0.001, gt=0, lt=1, description="a share per step, between 0 and 1")
    decay: float = Field(0.99, ge=0, lt=1, description=_DECAY)


class LayerNormConfig(Record):
    """Fine-tuning of the network with a layer norm behind every layer that produces units."""

    kind: Literal["layernorm"] = Field(description="layernorm")


class ReDoConfig(Record):
    """Recycling of dormant units at regular checks."""

    kind: Literal["redo"] = Field(description="redo")
    threshold: float = Field(
        0.1, gt=0, le=1, description="a share of a layer's mean activation, above 0, up to 1"
    )
    every: int = Field(1000, ge=1, description=_EVERY)
    warm_up: bool = Field(False, description=_WARM_UP)


class ShrinkPerturbConfig(Record):
    """Shrinking and perturbing of all parameters at every step."""

    kind: Literal["shrink_perturb"] = Field(description="shrink_perturb")
    shrink: float = Field(0.0001, ge=0, lt=1, description="a share, 0 or more, under 1")
    noise: float = Field(0.001, ge=0, description=_NOISE)


class UPGDConfig(Record):
    """Gradients that are smaller for useful weights and noisy for others."""

    kind: Literal["upgd"] = Field(description="upgd")
    noise: float = Field(0.001, ge=0, description=_NOISE)
    decay: float = Field(0.999, ge=0, lt=1, description=_DECAY)
