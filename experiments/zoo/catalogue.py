"""The networks of the scan, each with inputs: random weights, small, nothing is downloaded."""

import importlib.util
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
    define_vision_operators()
    return {"timm": timm_model, "transformers": transformers_model, "others": other_model}[library](
        name
    )


def define_vision_operators() -> None:
    """Define what importing torchvision needs: its wheel has no CPU operators for this torch."""
    if _KEPT or importlib.util.find_spec("torchvision") is None:
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT.append(library)


_KEPT: list[Any] = []


SHALLOW = (
    "beit_base_patch16_224", "beitv2_base_patch16_224", "cait_xxs24_224", "convit_tiny",
    "deepseek_vit_412m", "deit_tiny_distilled_patch16_224", "deit_tiny_patch16_224",
    "eva02_tiny_patch14_224", "flexivit_small", "gemma4_vit_167m", "naflexvit_base_patch16_gap",
    "qwen3_vit_88m", "tnt_s_patch16_224", "vit_relpos_small_patch16_224", "vit_tiny_patch16_224",
    "vit_xsmall_patch16_clip_224", "xcit_nano_12_p8_224", "xcit_tiny_12_p16_224",
    "vit_tiny_r_s16_p8_224",
)  # fmt: skip
"""Models of timm that are a row of blocks of one kind: made with three of them."""

SIZES = {
    "deepseek_vit_412m": 112, "halonet26t": 256, "eca_halonext26ts": 256, "inception_v3": 128,
    "inception_v4": 128, "inception_resnet_v2": 128, "nasnetalarge": 96, "pnasnet5large": 96,
}  # fmt: skip
"""Model of timm -> size of its images where neither its own nor 64 will do."""


def timm_model(name: str) -> Example:
    """A model of timm, on images of 64 pixels where it takes any size."""
    import timm

    depth = {"depth": 3} if name in SHALLOW else {}
    model = timm.create_model(name, pretrained=False, **depth)
    given = model.default_cfg
    size = given.get("input_size", (3, 224, 224))[-1]
    size = SIZES.get(name, size if given.get("fixed_input_size") else min(size, 64))
    return model, torch.randn(2, 3, size, size), torch.randn(2, 3, size, size)


def transformers_model(name: str) -> Example:
    import transformer_zoo

    return transformer_zoo.example(name)


def other_model(name: str) -> Example:
    import other_zoo

    return other_zoo.example(name)
