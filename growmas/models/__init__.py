"""Small reference networks with a head for each task."""

from growmas.models.convnet import ConvNet
from growmas.models.mlp import MLP
from growmas.models.multihead import MultiHead
from growmas.models.separate import SeparateNetworks

__all__ = ["MLP", "ConvNet", "MultiHead", "SeparateNetworks"]
