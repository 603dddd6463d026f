"""One backward pass to the recorded uses, which gives each gradient away as soon as it arrives."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from growmas.errors import ImportanceError
from growmas.importance.graph import Graph
from growmas.importance.uses import Use


class Receiver(Protocol):
    """Processes the gradients at the outputs of uses.

    Attributes:
        uses: The uses whose gradients it expects.
    """

    uses: list[Use]

    def arrive(self, use: Use, delta: Tensor | None) -> None:
        """Process the gradient at the output of `use`; None stands for zero."""
        ...

    def finish(self) -> None:
        """Process what is left at the end of the pass."""
        ...


def pass_gradients(value: Tensor, graph: Graph, receiver: Receiver, *, keep_graph: bool) -> None:
    """Give the gradient at every use to `receiver` when it arrives; compute no other gradient.

    Asking autograd for all gradients at once would hold them until the end of the pass. Only the
    edges that gradients reach last are asked for; the other uses have a hook on their node.
    """
    uses = list(receiver.uses)
    if not uses or not value.requires_grad:
        receiver.finish()
        return
    lowest = graph.lowest({use.edge.node for use in uses})
    last = [use for use in uses if use.edge.node in lowest]
    hooks = [
        use.edge.node.register_prehook(
            lambda deltas, use=use: receiver.arrive(use, deltas[use.edge.output_nr])
        )
        for use in uses
        if use.edge.node not in lowest
    ]
    try:
        edges = [use.edge for use in last]
        deltas = torch.autograd.grad(value, edges, retain_graph=keep_graph, allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    for use, delta in zip(last, deltas, strict=True):
        receiver.arrive(use, delta)
    receiver.finish()


UNDIFFERENTIABLE = ("needed for gradient computation", "derivative for", "no grad fn")
"""Words in torch's errors about models that have no backward pass."""

CHECKPOINT = "CheckpointFunctionBackward"
"""Name of the node of a checkpoint with `use_reentrant=True`, and of those made after it."""


def check_checkpoints(graph: Graph, where: str) -> None:
    """Refuse checkpoints of the old kind: the graph does not show the parameters inside them.

    Raises:
        ImportanceError: There is one, between the objective and a parameter or an input.
    """
    if graph.has_node(CHECKPOINT):
        raise ImportanceError(
            f"{where}: the model uses torch.utils.checkpoint with use_reentrant=True, through "
            "which gradients cannot be asked for: give use_reentrant=False (for models of "
            "Hugging Face: gradient_checkpointing_enable(gradient_checkpointing_kwargs="
            "{'use_reentrant': False})), or measure without checkpoints"
        )


@contextmanager
def differentiable(where: str) -> Iterator[None]:
    """Turn torch's errors about a missing backward pass into one about the model.

    Args:
        where: Name of the batch in errors.

    Raises:
        ImportanceError: An operation has no derivative, or has overwritten what it needs.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if not any(words in str(error) for words in UNDIFFERENTIABLE):
            raise
        raise ImportanceError(
            f"{where}: the model has no backward pass in eval mode ({error!s:.160}...), and "
            "importance needs gradients: look for a state or cache that is written in place in "
            "eval mode, or an operation without a derivative; or pass forward= that avoids it"
        ) from error
