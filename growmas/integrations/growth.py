"""Penalty, growth and pruning of a network that the loop of another library trains."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from growmas.batches import Forward
from growmas.distributed import size
from growmas.errors import ConfigError, RunError
from growmas.manager import Budget, StructuralManager
from growmas.manager.policy_sequence import Policies
from growmas.penalty import MAS
from growmas.structure import Edit, Plan, Structure

BATCHES = 32
"""Batches of a task on which importance is measured, unless another number is given."""


class Growth:
    """State of a growing network between the calls of another library's loop.

    Every adapter holds one as `growth`.

    Attributes:
        structure: The units of the network.
        mas: Importance and anchors over tasks.
        manager: Grows and prunes; None before the first task.
    """

    def __init__(
        self,
        network: nn.Module,
        example_inputs: Any,
        *,
        strength: float = 1.0,
        grow: Policies = None,
        prune: Policies = None,
        budget: Budget | None = None,
        forward: Forward | None = None,
        batches: int = BATCHES,
    ) -> None:
        """Find the units of a network.

        Args:
            network: The network, without a wrapper.
            example_inputs: As for `Structure`.
            strength: λ of the penalty.
            grow: One policy or several, see `StructuralManager`.
            prune: One policy or several.
            budget: The limits of growth.
            forward: (model, batch) -> output, of a batch of the loop; None takes the first entry of
                a tuple.
            batches: Batches of a task on which importance is measured.

        Raises:
            SurgeryError: The network is wrapped, or its units cannot be found.
        """
        self.structure = Structure(network, example_inputs)
        self.mas = MAS(network, strength=strength)
        self.manager: StructuralManager | None = None
        self._options: dict[str, Any] = {"grow": grow, "prune": prune, "budget": budget}
        self._forward = forward
        self._batches = batches
        self._open = False
        self._saved: Mapping[str, Any] | None = None
        self._optimizers: Sequence[Optimizer] = ()

    @property
    def task_open(self) -> bool:
        """True between `begin_task` and `end_task`."""
        return self._open

    def attach(self, optimizers: Iterable[Optimizer]) -> None:
        """Let optimizers follow the edits from now on, in place of earlier ones."""
        found = tuple(optimizers)
        if self.manager is not None and [*map(id, found)] == [*map(id, self._optimizers)]:
            return
        state = self._saved if self.manager is None else self.manager.state_dict()
        first = found[0] if found else None
        options = {"mas": self.mas, "optimizer": first, "followers": found[1:], **self._options}
        self.manager = StructuralManager(self.structure, **options)
        if state is not None:
            self.manager.load_state_dict(state)
        self._optimizers, self._saved = found, None

    def begin_task(self, name: str | None = None) -> tuple[Edit, ...]:
        """Begin a task, unless one is open: the network grows for it.

        Args:
            name: Of the task; None names it by its number.
        """
        if self._open:
            return ()
        edits = self._managed().begin_task(name or f"task {len(self.structure.tasks) + 1}")
        self._open = True
        return edits

    def end_task(self, batches: Iterable[Any]) -> tuple[Edit, ...]:
        """End the open task: measure importance, then prune.

        Args:
            batches: Of the task's training data; as many as `batches` allows are used.
        """
        if not self._open:
            return ()
        few = list(islice(iter(batches), self._batches))
        edits = self._managed().end_task(few, forward=self._forward)
        self._open = False
        return edits

    def apply(self, plan: Plan) -> Edit:
        """Carry out a plan of your own; penalty and optimizers follow."""
        return self.structure.apply(plan, followers=self._managed().followers)

    def penalty_grad_(self) -> Tensor:
        """Add the gradient of the penalty; call it once before every step of the optimizer."""
        return self.mas.penalty_grad_()

    def state_dict(self) -> dict[str, Any]:
        """Return structure, penalty and manager as tensors and JSON values; the weights are not."""
        manager = self._saved if self.manager is None else self.manager.state_dict()
        return {
            "structure": self.structure.state_dict(),
            "mas": self.mas.state_dict(),
            "manager": manager,
            "open": self._open,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give the network the shapes of a state, before its weights are loaded.

        Raises:
            GrowmasError: The state does not fit the network.
        """
        self.structure.load_state_dict(state["structure"])
        self.mas.load_state_dict(state["mas"])
        self._saved, self.manager, self._optimizers = state["manager"], None, ()
        self._open = bool(state["open"])

    def _managed(self) -> StructuralManager:
        if self.manager is None:
            self.attach(())
        check_one_process()
        return self.manager  # type: ignore[return-value]


def check_one_process() -> None:
    """Refuse edits in one of several processes.

    Raises:
        RunError: Says what to do.
    """
    if size() > 1:
        raise RunError(
            "this adapter edits the network in one process, and there are several: use one device, "
            "or a loop with gm.distributed.apply, see docs/distributed.md"
        )


def check_task_names(tasks: Sequence[str] | None) -> list[str]:
    """Return the names of tasks as a list.

    Raises:
        ConfigError: They are not a list of different words.
    """
    names = list(tasks or ())
    if isinstance(tasks, str) or not all(isinstance(each, str) for each in names):
        raise ConfigError(f"tasks={tasks!r:.80}: expected a list of names, such as ['a', 'b']")
    if len(set(names)) < len(names):
        raise ConfigError(f"tasks={names}: every task needs a name of its own")
    return names


def missing(package: str, extra: str, error: ImportError) -> ImportError:
    """Return the error of an adapter whose package cannot be imported."""
    return ImportError(
        f"the adapter needs {package}, which cannot be imported ({error}): pip "
        f"install 'growmas[{extra}]'"
    )
