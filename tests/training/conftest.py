"""torchvision is importable where it is installed."""

import vision_operators  # noqa: F401
