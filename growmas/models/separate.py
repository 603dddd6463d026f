"""Separate networks, one for each task."""

from collections.abc import Sequence

from torch import Tensor, nn

from growmas.models.multihead import MultiHead


class SeparateNetworks(nn.Module):
    """Separate network for each task; a head of this model is a whole network.

    Args:
        networks: with one head each.
    """

    def __init__(self, networks: Sequence[MultiHead]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, inputs: Tensor, head: int | None = None) -> Tensor | tuple[Tensor, ...]:
        """Return the logits of one network, or of all, as `MultiHead` does.

        Args:
            inputs: [N, *input_shape].
            head: index of the network. None runs every one of them.
        """
        if head is not None:
            logits: Tensor = self.networks[head](inputs, 0)
            return logits
        outputs = tuple(network(inputs, 0) for network in self.networks)
        return outputs if len(outputs) > 1 else outputs[0]
