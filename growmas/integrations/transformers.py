"""Callback for the Trainer of transformers: the penalty, growth and pruning, in its checkpoints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from growmas.checkpoint import read_state, write_state
from growmas.integrations.growth import Growth, missing

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise missing("transformers", "models", error) from error

FOLDER = "growmas"
"""Folder below a checkpoint of the Trainer that holds the state."""


def logits(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    """Return the logits of a batch without its labels, or with them where the model needs them."""
    inputs = {name: each for name, each in batch.items() if name != "labels"}
    try:
        output = model(**inputs)
    except TypeError:  # a forward that always computes the loss
        output = model(**batch)
    found: Tensor = output["logits"] if isinstance(output, Mapping) else output
    return found


class GrowmasCallback(TrainerCallback):
    """Learn a task with every `train()`: grow before it, protect what was learnt, prune after it.

    The gradient of the penalty is added once before every step of the optimizer, however many
    batches it accumulates; it is not clipped. Give all trainers the same optimizer,
    `Trainer(optimizers=(optimizer, None))`, and it keeps its state over tasks. Every checkpoint of
    the Trainer has the state in its folder `growmas`, see `load`.

    Args:
        growth: Structure, penalty and policies of the model; its `forward` may be `logits`.
        task: Name of the next task; None numbers it. It can be set before every `train()`.
    """

    def __init__(self, growth: Growth, *, task: str | None = None) -> None:
        self.growth = growth
        self.task = task

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin the next task."""
        self.growth.attach([_inner(kwargs.get("optimizer"))])
        self.growth.begin_task(self.task)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Add the gradient of the penalty."""
        self.growth.penalty_grad_()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End the task: measure importance on its training data, then prune."""
        self.growth.end_task(kwargs.get("train_dataloader") or ())

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the state into the folder of the checkpoint."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}" / FOLDER
        write_state(folder, self.growth.state_dict())


def load(growth: Growth, checkpoint: str | Path) -> None:
    """Give the network of a fresh `Growth` the shapes of a checkpoint, whose weights come next.

    Args:
        growth: Of a fresh model.
        checkpoint: Folder that the Trainer wrote, `…/checkpoint-100`.

    Raises:
        CheckpointError: It has no state of growmas, or a damaged one.
        GrowmasError: The state does not fit the network.
    """
    growth.load_state_dict(read_state(Path(checkpoint) / FOLDER))


def _inner(optimizer: Any) -> Optimizer:
    """Return the optimizer inside of the one of accelerate."""
    found: Optimizer = getattr(optimizer, "optimizer", optimizer)
    return found
