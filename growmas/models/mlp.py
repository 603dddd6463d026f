"""Multi-layer perceptron."""

from collections.abc import Sequence
from math import prod

from torch import Tensor

from growmas.models.multihead import MultiHead


class MLP(MultiHead):
    """Flattened inputs, dense ReLU layers, and a linear head for each task.

    >>> model = MLP((1, 28, 28), hidden=[64, 32], head_sizes=[2, 2])
    >>> [name for name, _ in model.named_modules() if name]
    ['fc1', 'fc2', 'heads', 'heads.0', 'heads.1']

    Args:
        input_shape: of one sample; any number of axes.
        hidden: the width of each dense layer.
        head_sizes: the number of outputs of each head.

    Raises:
        ConfigError: if a width is not positive, or `head_sizes` is empty.
    """

    def __init__(
        self, input_shape: Sequence[int], hidden: Sequence[int], head_sizes: Sequence[int]
    ) -> None:
        super().__init__()
        self._add_dense(prod(input_shape), hidden, head_sizes)

    def features(self, inputs: Tensor) -> Tensor:
        """Flatten [N, *input_shape] → [N, the product of input_shape]."""
        return inputs.flatten(1)
