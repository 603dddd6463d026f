"""The folder of tests is where `own_code` is found; torchvision is importable where installed."""

import sys
from importlib.util import find_spec
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parent))


def _name_operators() -> torch.library.Library | None:
    """Define the operators that torchvision's wheel for GPUs lacks beside a torch for CPUs."""
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


OPERATORS = _name_operators()
