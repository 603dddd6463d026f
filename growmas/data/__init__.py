"""Sources of labelled samples, and the streams of tasks made of them.

The public names are listed in `__init__.pyi`. They are loaded on first use, so that a config can
ask for the names of sources without torch.
"""

from growmas.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__)
