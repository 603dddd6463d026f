"""torchvision, importable beside a torch for CPUs: its wheel for GPUs lacks two operators there."""

import sys
from importlib.util import find_spec

import torch


def name_operators() -> torch.library.Library | None:
    """Define the operators if torchvision is installed and lacks them; keep the result."""
    if find_spec("torchvision") is None:
        return None
    try:
        import torchvision  # noqa: F401
    except (RuntimeError, OSError, ImportError):
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        for name in [each for each in sys.modules if each.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        return library
    return None


OPERATORS = name_operators()
