"""Models: the records of `model`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from growmas.config.record import Record


def _as_widths(value: object) -> object:
    """Turn a single width into a list of one."""
    return [value] if type(value) is int else value


Widths = Annotated[
    tuple[Annotated[int, Field(ge=1)], ...],
    Field(min_length=1, strict=False),
    BeforeValidator(_as_widths),
]
_WIDTHS = "positive whole numbers, one for each layer, such as [64, 64]"
_ARGS = "a mapping of keyword arguments"


class MLPConfig(Record):
    """Multi-layer perceptron."""

    kind: Literal["mlp"] = Field(description="mlp")
    hidden: Widths = Field(description=_WIDTHS)


class ConvNetConfig(Record):
    """Convolution stages, followed by dense layers."""

    kind: Literal["convnet"] = Field(description="convnet")
    channels: Widths = Field(description=_WIDTHS)
    hidden: Widths = Field(description=_WIDTHS)


class ResNetConfig(Record):
    """Residual network for small images, after section 4.2 of He et al., CVPR 2016."""

    kind: Literal["resnet"] = Field(description="resnet")
    channels: Widths = Field((16, 32, 64), description="positive widths of the stages")
    blocks: int = Field(3, ge=1, description="a whole number of blocks in each stage, at least 1")


class ViTConfig(Record):
    """Small vision transformer."""

    kind: Literal["vit"] = Field(description="vit")
    patch: int = Field(4, ge=1, description="pixels of a side of a patch, at least 1")
    width: int = Field(64, ge=1, description="numbers of a token, a multiple of heads")
    depth: int = Field(4, ge=1, description="a whole number of blocks, at least 1")
    heads: int = Field(4, ge=1, description="a whole number of attention heads, at least 1")
    hidden: int = Field(128, ge=1, description="neurons of the dense part of a block, at least 1")


class _Given(Record):
    """Settings of networks that are not our own."""

    args: dict[str, Any] = Field({}, description=_ARGS)
    head: str | None = Field(
        None,
        description="the name of the last layer, which becomes a head for each task; null for the "
        "last Linear",
    )
    weights: str | None = Field(
        None,
        description="the path of a safetensors file or a torch state dict, relative to the folder "
        "of this config or absolute, or null",
    )
    freeze: tuple[str, ...] = Field(
        (),
        strict=False,
        description='a list of patterns of parameter names, such as ["stem.*"]; ["*"] for all but '
        "the heads",
    )
    adapter: Widths | None = Field(
        None, description="widths of dense layers between the network and its heads, or null"
    )


class PythonModelConfig(_Given):
    """Network of one's own."""

    kind: Literal["python"] = Field(description="python")
    target: str = Field(
        pattern=r"^[\w.]+:[\w.]+$", description='a class "module:name", such as "mymodel:Net"'
    )


class TimmConfig(_Given):
    """Network of the package timm."""

    kind: Literal["timm"] = Field(description="timm")
    name: str = Field(description="the name of a model, such as resnet18")
    pretrained: bool = Field(False, description="true or false")


class TransformersConfig(_Given):
    """Network of the package transformers."""

    kind: Literal["transformers"] = Field(description="transformers")
    name: str = Field(
        description="the name of an architecture such as vit (random weights, args for its "
        "config), or of a model on the hub or in a folder where pretrained is true"
    )
    pretrained: bool = Field(False, description="true or false")


GivenModelConfig = PythonModelConfig | TimmConfig | TransformersConfig
ModelConfig = MLPConfig | ConvNetConfig | ResNetConfig | ViTConfig | GivenModelConfig
