"""The folder of tests is where `own_code` is found; torchvision is importable where installed."""

import sys
from pathlib import Path

import vision_operators  # noqa: F401

sys.path.append(str(Path(__file__).parent))
