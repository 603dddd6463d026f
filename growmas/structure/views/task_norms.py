"""Tensors of tasks: norms, gains and biases at the end of each task, which its view reads."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from growmas.errors import SurgeryError
from growmas.structure.units.edit import AxisChange, Edit, reindexed
from growmas.structure.units.inventory import Inventory
from growmas.structure.views.overrides import Override, Place

STATISTICS = ("running_mean", "running_var")
AFFINE = ("weight", "bias")


class TaskNorms:
    """Running statistics of norms at the end of each task, and other tensors if asked.

    Norms are modules with buffers `running_mean` and `running_var`, such as BatchNorm; others are
    their weight and bias, and gains and biases of units. The values follow every edit of the
    structure: they are re-indexed as the tensors are. The entries of units that were born later
    take the current values; no view of an earlier task shows them.

    Attributes:
        tasks: Index of a task -> {qualified name of a tensor: its values then}.
    """

    def __init__(self, model: nn.Module) -> None:
        """Start without any values of the norms of `model`."""
        self._model = model
        self.tasks: dict[int, dict[str, Tensor]] = {}

    def remember(
        self, task: int, *, statistics: bool = True, affine: bool = False, also: Iterable[str] = ()
    ) -> None:
        """Keep the current values of the norms for a task, instead of earlier ones for that task.

        Args:
            task: Its index.
            statistics: Keep the running statistics.
            affine: Keep weight and bias as well.
            also: Qualified names of other parameters to keep.
        """
        wanted = STATISTICS * statistics + AFFINE * affine
        inventory = Inventory(self._model)
        with torch.inference_mode(False):  # gradients may be taken through the view later
            kept = {
                inventory.names[id(tensor)]: tensor.detach().clone()
                for _, norm in _norms(self._model)
                for attribute in wanted
                if (tensor := getattr(norm, attribute, None)) is not None
            }
            kept |= {name: inventory.tensors[name].detach().clone() for name in also}
        self.tasks = {**self.tasks, task: kept} if kept else self.tasks

    def forget(self, task: int) -> None:
        """Let the view of a task use the current values of the norms again."""
        self.tasks = {index: kept for index, kept in self.tasks.items() if index != task}

    def overrides(self, task: int, holds: Callable[[], bool]) -> dict[Place, Override]:
        """Return the tensors that are read in the view of a task, as overrides.

        A norm in train mode reads its own: it normalises by the batch and updates its own running
        statistics, as without a view. Gains and biases of other layers are those of the task in
        either mode.

        Args:
            task: Its index.
            holds: True if this view is the one whose norms count, when views are nested.
        """
        kept = self.tasks.get(task)
        if not kept:
            return {}
        inventory = Inventory(self._model)
        layers = {module: layer for layer, module in inventory.modules.items()}
        norms = {norm for _, norm in _norms(self._model)}

        def reading(module: nn.Module, then: Tensor) -> Override:
            norm = module in norms
            return lambda now: now if (norm and module.training) or not holds() else then.to(now)

        return {
            (layers[module], attribute): reading(module, then)
            for name, then in kept.items()
            for module, attribute in inventory.slots[name]
        }

    def leave(self, task: int) -> None:
        """Keep for a task that has no values what is kept for others, as the model has it now."""
        names = dict.fromkeys(name for kept in self.tasks.values() for name in kept)
        if names and task not in self.tasks:
            self.remember(task, statistics=False, also=names)

    @torch.no_grad()
    def resume(self, task: int) -> None:
        """Give the model the values kept for a task, whose view then reads those of the model."""
        tensors = Inventory(self._model).tensors
        for name, then in self.tasks.get(task, {}).items():
            tensors[name].copy_(then)
        self.forget(task)

    @torch.no_grad()
    def write(
        self, task: int, model: nn.Module, changes: Mapping[str, tuple[AxisChange, ...]]
    ) -> None:
        """Write what is kept for a task into a copy of the model.

        Args:
            task: Its index.
            model: The copy, whose axes have been changed.
            changes: Qualified parameter or buffer name -> changes of its axes.
        """
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        for name, kept in self.tasks.get(task, {}).items():
            tensors[name].copy_(reindexed(kept, changes.get(name, ())))

    def follow(self, edit: Edit) -> None:
        """Re-index the values as `edit` re-indexed the norms."""
        if not any(self.tasks.values()):
            return  # spares the walk over the model, which costs as much as a small edit
        now = {**dict(self._model.named_parameters()), **dict(self._model.named_buffers())}
        self.tasks = {
            task: {
                name: edit.reindex(
                    name, tensor, fresh=now[name].detach().to(tensor.device), nature="value"
                )
                for name, tensor in kept.items()
            }
            for task, kept in self.tasks.items()
        }

    def state_dict(self) -> dict[int, dict[str, Tensor]]:
        """Return the values: index of a task -> {name of a tensor: its values then}."""
        return {task: dict(kept) for task, kept in self.tasks.items()}

    def load_state_dict(self, state: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Restore what `state_dict` returned, after the model has the widths of that time.

        Raises:
            SurgeryError: Names or shapes are not those of the model's norms; nothing is restored.
        """
        tensors = Inventory(self._model).tensors
        wrong = sorted(
            name
            for kept in state.values()
            for name, tensor in kept.items()
            if name not in tensors or tensors[name].shape != tensor.shape
        )
        if wrong:
            raise SurgeryError(
                f"the state has norms, gains or biases of another model: "
                f"{', '.join(map(repr, wrong))} differ in name or shape"
            )
        self.tasks = {int(task): dict(kept) for task, kept in state.items()}


def _norms(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that have running statistics, with their qualified names."""
    for name, module in model.named_modules():
        if all(module._buffers.get(attribute) is not None for attribute in STATISTICS):
            yield name, module
