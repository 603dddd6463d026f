"""How norms stood at the end of each task, so that old tasks are normalised as they were then."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from growmas.errors import SurgeryError
from growmas.structure.units.edit import AxisChange, Edit, reindexed
from growmas.structure.units.inventory import Inventory
from growmas.structure.views.overrides import Override, Place

STATISTICS = ("running_mean", "running_var")
AFFINE = ("weight", "bias")


class TaskNorms:
    """Running statistics of norms as tasks left them, and weight and bias where asked.

    Norms are modules with buffers `running_mean` and `running_var`, such as BatchNorm. Follows
    every edit of its structure by itself: what is remembered is re-indexed as the norms are, and
    entries of units that were not there take the norm's values of today, which no view of a task
    before them shows.

    Attributes:
        tasks: Index of a task -> {qualified name of a norm's tensor: its values then}.
    """

    def __init__(self, model: nn.Module) -> None:
        """Remember nothing yet of the norms of `model`."""
        self._model = model
        self.tasks: dict[int, dict[str, Tensor]] = {}

    def remember(self, task: int, *, affine: bool = False) -> None:
        """Keep what the norms hold now, in place of what was kept for the task before.

        Args:
            task: Its index.
            affine: Keep weight and bias as well.
        """
        wanted = STATISTICS + AFFINE * affine
        names = Inventory(self._model).names
        with torch.inference_mode(False):  # gradients may be taken through the view later
            kept = {
                names[id(tensor)]: tensor.detach().clone()
                for _, norm in _norms(self._model)
                for attribute in wanted
                if (tensor := getattr(norm, attribute, None)) is not None
            }
        self.tasks = {**self.tasks, task: kept} if kept else self.tasks

    def forget(self, task: int) -> None:
        """Let the norms of a task's view be those of today again."""
        self.tasks = {index: kept for index, kept in self.tasks.items() if index != task}

    def overrides(self, task: int, holds: Callable[[], bool]) -> dict[Place, Override]:
        """What the norms of a task's view read in place of their own tensors.

        A norm in train mode reads its own: it normalises by the batch, and its own running
        statistics move, as without a view.

        Args:
            task: Its index.
            holds: Whether this view is the one whose norms count, where views are nested.
        """
        kept = self.tasks.get(task)
        if not kept:
            return {}
        names = Inventory(self._model).names

        def reading(norm: nn.Module, then: Tensor) -> Override:
            return lambda now: now if norm.training or not holds() else then.to(now)

        return {
            (layer, attribute): reading(norm, kept[names[id(tensor)]])
            for layer, norm in _norms(self._model)
            for attribute in STATISTICS + AFFINE
            if (tensor := getattr(norm, attribute, None)) is not None and names[id(tensor)] in kept
        }

    @torch.no_grad()
    def write(
        self, task: int, model: nn.Module, changes: Mapping[str, tuple[AxisChange, ...]]
    ) -> None:
        """Put what is kept of a task into a copy of the model.

        Args:
            task: Its index.
            model: The copy, whose axes have been changed.
            changes: How, by tensor.
        """
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        for name, kept in self.tasks.get(task, {}).items():
            tensors[name].copy_(reindexed(kept, changes.get(name, ())))

    def follow(self, edit: Edit) -> None:
        """Re-index what is kept as `edit` did the norms."""
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
        """Index of a task -> {name of a tensor: its values then}."""
        return {task: dict(kept) for task, kept in self.tasks.items()}

    def load_state_dict(self, state: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Take over what `state_dict` gave, once the model has the widths of then.

        Raises:
            SurgeryError: Names or shapes are not those of the model's norms; nothing is taken over.
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
                f"the norms remembered are not those of this model: {', '.join(map(repr, wrong))} "
                "differ in name or shape"
            )
        self.tasks = {int(task): dict(kept) for task, kept in state.items()}


def _norms(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules that have running statistics, by qualified name."""
    for name, module in model.named_modules():
        if all(module._buffers.get(attribute) is not None for attribute in STATISTICS):
            yield name, module
