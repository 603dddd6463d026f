"""Networks with a head for each task: small reference networks, and those of the user."""

from growmas.models.convnet import ConvNet
from growmas.models.headed import HeadedNetwork
from growmas.models.mlp import MLP
from growmas.models.multihead import MultiHead
from growmas.models.resnet import ResNet
from growmas.models.separate import SeparateNetworks
from growmas.models.vit import ViT
from growmas.models.weights import load_weights

__all__ = [
    "MLP",
    "ConvNet",
    "HeadedNetwork",
    "MultiHead",
    "ResNet",
    "SeparateNetworks",
    "ViT",
    "load_weights",
]
