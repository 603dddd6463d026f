"""Training: the records of `training`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from growmas.config.record import Record


class FlipConfig(Record):
    """Images mirrored left to right at random."""

    kind: Literal["flip"] = Field(description="flip")
    probability: float = Field(0.5, ge=0, le=1, description="a number in 0 … 1")


class CropConfig(Record):
    """Images padded with zeros and cropped to their size at random."""

    kind: Literal["crop"] = Field(description="crop")
    padding: int = Field(4, ge=1, description="a whole number of pixels, at least 1")


class EraseConfig(Record):
    """A square of each image set to zero at random."""

    kind: Literal["erase"] = Field(description="erase")
    size: int = Field(8, ge=1, description="a whole number of pixels of a side, at least 1")


class TorchvisionConfig(Record):
    """A transform of torchvision.transforms.v2."""

    kind: Literal["torchvision"] = Field(description="torchvision")
    name: str = Field(description="the name of a class, such as RandomRotation")
    args: dict[str, Any] = Field({}, description="a mapping of its keyword arguments")


class PythonTransformConfig(Record):
    """A function of one's own, from one input to one of the same shape."""

    kind: Literal["python"] = Field(description="python")
    target: str = Field(
        pattern=r"^[\w.]+:[\w.]+$",
        description='a function that returns a transform, "module:name"',
    )
    args: dict[str, Any] = Field({}, description="a mapping of its keyword arguments")


def _as_mapping(value: object) -> object:
    """Read the name of a transform as a mapping with its kind."""
    return {"kind": value} if isinstance(value, str) else value


TransformConfig = FlipConfig | CropConfig | EraseConfig | TorchvisionConfig | PythonTransformConfig
Transform = Annotated[TransformConfig, Field(discriminator="kind"), BeforeValidator(_as_mapping)]


class TrainingConfig(Record):
    """Training of each task."""

    epochs: int = Field(ge=1, description="a whole number of epochs for each task, at least 1")
    batch_size: int = Field(128, ge=1, description="a whole number of samples, at least 1")
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="adam, adamw or sgd")
    learning_rate: float = Field(gt=0, description="a number above 0")
    momentum: float = Field(0.0, ge=0, lt=1, description="a number that is 0 or more, under 1")
    weight_decay: float = Field(0.0, ge=0, description="a number that is 0 or more")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="constant, or cosine: from learning_rate to 0 in every task"
    )
    input_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="a share of inputs to set to zero in training, 0 or more, under 1",
    )
    transforms: tuple[Transform, ...] = Field(
        (),
        strict=False,
        description="a list of random changes of training images, such as [flip, {kind: crop, "
        "padding: 4}]",
    )
    workers: int = Field(
        0, ge=0, description="a whole number of processes that prepare batches, 0 for none"
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="fp32, bf16 or fp16: of the forward pass in training; weights, penalty, "
        "importance and tests stay in fp32",
    )
    compile: bool = Field(
        False, description="true to run training steps through torch.compile, or false"
    )


class SignalsConfig(Record):
    """Signals of plasticity, measured while the network learns and written to the history."""

    every: int = Field(200, ge=1, description="a number of steps between measurements, at least 1")
    samples: int = Field(256, ge=2, description="a number of training samples, at least 2")
