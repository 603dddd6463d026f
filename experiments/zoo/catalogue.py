"""The networks of the scan, each with inputs: random weights, small, nothing is downloaded."""

from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
Example = tuple[torch.nn.Module, Any, Any]


def names(library: str) -> list[str]:
    return (HERE / f"{library}.txt").read_text().split()


def label(library: str) -> str:
    """Name a library with its version where results differ by it."""
    if library != "transformers":
        return library
    import transformers

    return f"transformers-{transformers.__version__}"


def example(library: str, name: str) -> Example:
    """A model, inputs to analyse it on and others to compare it on."""
    return {"timm": timm_model, "transformers": transformers_model, "others": other_model}[library](
        name
    )


def define_vision_operators() -> None:
    """torchvision's wheel has no CPU operators for this torch: importing it needs their names."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT.append(library)


_KEPT: list[Any] = []


def timm_model(name: str) -> Example:
    if not _KEPT:
        define_vision_operators()
    import timm

    model = timm.create_model(name, pretrained=False)
    shape = model.default_cfg.get("input_size", (3, 224, 224))
    return model, torch.randn(2, *shape), torch.randn(2, *shape)


def transformers_model(name: str) -> Example:
    import transformer_zoo

    return transformer_zoo.example(name)


def other_model(name: str) -> Example:
    import other_zoo

    return other_zoo.example(name)
