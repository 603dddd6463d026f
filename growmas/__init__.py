"""Networks that grow and prune themselves while they learn one thing after another.

One quantity drives everything: the importance of Memory Aware Synapses (Aljundi et al., ECCV
2018), the sensitivity of the network's output to each parameter, measured without labels.

The public names are listed in `__init__.pyi`; anything else is private. They are loaded on first
use, so that reading a history or printing help never imports torch.
"""

from growmas.lazy import attach_stub

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = attach_stub(__name__)
