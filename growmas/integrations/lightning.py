"""Callback for the Trainer of Lightning: the penalty, growth and pruning, in its checkpoints."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from growmas.batches import Forward
from growmas.errors import RunError
from growmas.integrations.growth import Growth, check_task_names, missing
from growmas.manager import Budget
from growmas.manager.policy_sequence import Policies

try:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import Callback
except ImportError as error:
    raise missing("lightning", "lightning", error) from error

KEY = "growmas"
"""Entry of a Lightning checkpoint that holds the state."""


class GrowmasCallback(Callback):  # type: ignore[misc]
    """Learn a task with every `fit`: grow before it, protect what was learnt, prune after it.

    The gradient of the penalty is added once before every step of an optimizer, and is clipped with
    the rest. Optimizers keep their state: within a fit they follow the edits, and from one fit to
    the next their state is handed over, since Lightning makes them anew. A checkpoint holds the
    structure, the penalty and the manager, and `fit(ckpt_path=…)` gives a fresh module its shapes.

    Example::

        callback = GrowmasCallback(x[:2], strength=1.0, grow=gm.GrowPolicy(units=4))
        for loader in loaders:
            L.Trainer(max_epochs=2, callbacks=[callback]).fit(module, loader)

    Attributes:
        growth: Structure, penalty and manager; None before the first fit.
    """

    growth: Growth | None = None

    def __init__(
        self,
        example_inputs: Any,
        *,
        network: str = "",
        tasks: Sequence[str] | None = None,
        strength: float = 1.0,
        grow: Policies = None,
        prune: Policies = None,
        budget: Budget | None = None,
        forward: Forward | None = None,
        batches: int = 32,
    ) -> None:
        """Take the settings; the network is looked at when a fit begins.

        Args:
            example_inputs: As for `Structure`.
            network: Name of the submodule that grows, such as "net"; "" for the whole module.
            tasks: Names of the tasks, one for each fit; None numbers them.
            strength: λ of the penalty.
            grow: See `StructuralManager`.
            prune: See `StructuralManager`.
            budget: See `StructuralManager`.
            forward: (network, batch) -> output; None takes the first entry of a tuple.
            batches: Training batches on which importance is measured.
        """
        self._example_inputs = example_inputs
        self._network = network
        self._tasks = check_task_names(tasks)
        self._options: dict[str, Any] = {
            "strength": strength,
            "grow": grow,
            "prune": prune,
            "budget": budget,
            "forward": forward,
            "batches": batches,
        }
        self._carried: list[dict[str, Any]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the units, and give the network the shapes of a checkpoint that is loaded next."""
        if stage != "fit":
            return
        if trainer.world_size > 1:
            raise RunError(
                f"GrowmasCallback edits the network in one process, and the Trainer has "
                f"{trainer.world_size}: give devices=1, or use Fabric, see docs/distributed.md"
            )
        if self.growth is None:
            self.growth = self._found(pl_module)
        own = pl_module.on_load_checkpoint

        def restore(checkpoint: dict[str, Any]) -> None:
            vars(pl_module).pop("on_load_checkpoint", None)
            self._restore(checkpoint)
            own(checkpoint)

        # The module is asked before its weights are loaded, a callback only afterwards.
        vars(pl_module)["on_load_checkpoint"] = restore

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the module as it was."""
        vars(pl_module).pop("on_load_checkpoint", None)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the next task, unless a checkpoint left one open."""
        growth = self._growing()
        fresh = [each for each in trainer.optimizers if isinstance(each, Optimizer)]
        if not growth.task_open and len(self._carried) == len(fresh):
            for optimizer, state in zip(fresh, self._carried, strict=True):
                rates = [group["lr"] for group in optimizer.param_groups]
                optimizer.load_state_dict(state)
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate
        growth.attach(fresh)
        number = len(growth.structure.tasks)
        if not growth.task_open:
            growth.begin_task(self._tasks[number] if number < len(self._tasks) else None)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Add the gradient of the penalty."""
        self._growing().penalty_grad_()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the task: measure importance on its training data, then prune."""
        self._growing().end_task(trainer.train_dataloader or ())
        self._carried = [each.state_dict() for each in trainer.optimizers]

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add structure, penalty and manager to a checkpoint."""
        if self.growth is not None:
            checkpoint[KEY] = {**self.growth.state_dict(), "carried": self._carried}

    def _found(self, module: LightningModule) -> Growth:
        network = module.get_submodule(self._network) if self._network else module
        return Growth(network, self._example_inputs, **self._options)

    def _restore(self, checkpoint: dict[str, Any]) -> None:
        if KEY not in checkpoint:
            raise RunError(
                f"the checkpoint has no entry {KEY!r}: it was written without GrowmasCallback; "
                "load its weights into the module yourself, and fit without ckpt_path"
            )
        self._growing().load_state_dict(checkpoint[KEY])
        self._carried = list(checkpoint[KEY]["carried"])
        checkpoint[KEY] = {**checkpoint[KEY], "restored": True}

    def _growing(self) -> Growth:
        if self.growth is None:
            raise RunError("GrowmasCallback has not seen a fit yet: call trainer.fit first")
        return self.growth


def resize(network: nn.Module, checkpoint: Mapping[str, Any], example_inputs: Any) -> None:
    """Give a fresh network the shapes of a checkpoint, whose weights are loaded next.

    Call it in `on_load_checkpoint` of the module, so that `load_from_checkpoint` works. In a fit
    with a `GrowmasCallback`, which has done it by then, it does nothing.

    Args:
        network: The submodule that grew, or the module.
        checkpoint: Of Lightning, with the state of a `GrowmasCallback`.
        example_inputs: As for `Structure`.

    Raises:
        RunError: The checkpoint has no such state.
        GrowmasError: It does not fit the network.
    """
    if KEY not in checkpoint:
        raise RunError(f"the checkpoint has no entry {KEY!r}: it was written without the callback")
    if not checkpoint[KEY].get("restored"):
        Growth(network, example_inputs).load_state_dict(checkpoint[KEY])
