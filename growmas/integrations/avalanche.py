"""Plugin for the strategies of Avalanche: exact MAS, growth and pruning."""

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from growmas.batches import Forward
from growmas.errors import SurgeryError
from growmas.integrations.growth import Growth, missing
from growmas.manager import Budget
from growmas.manager.policy_sequence import Policies

try:
    from avalanche.models import DynamicModule
    from avalanche.training.plugins import SupervisedPlugin
except (ImportError, RuntimeError) as error:
    raise missing("avalanche-lib", "avalanche", ImportError(str(error))) from error


class GrowmasPlugin(SupervisedPlugin):  # type: ignore[misc]
    """Grow before an experience, protect what was learnt, and prune after it.

    The importance is the exact one, per sample, on all training data of an experience; the plugin
    MAS of Avalanche takes absolute values of batch means, and fades older tasks. The gradient of
    the penalty is added before every step. The optimizer of the strategy keeps its state.

    Example::

        plugin = GrowmasPlugin(x[:2], strength=1.0, grow=gm.GrowPolicy(units=4))
        strategy = Naive(model=net, optimizer=optimizer, plugins=[plugin])

    Attributes:
        growth: Structure, penalty and manager; None before the first experience.
    """

    growth: Growth | None = None

    def __init__(
        self,
        example_inputs: Any,
        *,
        strength: float = 1.0,
        grow: Policies = None,
        prune: Policies = None,
        budget: Budget | None = None,
        forward: Forward | None = None,
        batches: int = 10**9,
    ) -> None:
        """Take the settings; the model is looked at before the first experience.

        Args:
            example_inputs: As for `Structure`.
            strength: λ of the penalty.
            grow: See `StructuralManager`.
            prune: See `StructuralManager`.
            budget: See `StructuralManager`.
            forward: (model, batch) -> output of a minibatch (x, y, task); None takes x.
            batches: Batches of an experience on which importance is measured.
        """
        super().__init__()
        self._example_inputs = example_inputs
        self._options: dict[str, Any] = {
            "strength": strength,
            "grow": grow,
            "prune": prune,
            "budget": budget,
            "forward": forward,
            "batches": batches,
        }

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Begin a task: the network grows for it."""
        _check_static(strategy.model)
        if self.growth is None:
            self.growth = Growth(strategy.model, self._example_inputs, **self._options)
        self.growth.attach([strategy.optimizer])
        self.growth.begin_task(f"experience {strategy.experience.current_experience}")
        _tell_parameters(strategy)

    def before_update(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Add the gradient of the penalty."""
        if self.growth is not None:
            self.growth.penalty_grad_()

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """End the task: measure importance on its training data, then prune."""
        if self.growth is not None:
            self.growth.end_task(_batches(strategy))
            _tell_parameters(strategy)


def _check_static(model: nn.Module) -> None:
    """Refuse layers that Avalanche itself replaces.

    Raises:
        SurgeryError: Names the first.
    """
    for name, module in model.named_modules():
        if isinstance(module, DynamicModule):
            raise SurgeryError(
                f"{name or 'the model'!r} is a {type(module).__name__}, which Avalanche itself "
                "changes between experiences: give a model with a head for all classes, such as "
                "nn.Linear(width, classes)"
            )


def _tell_parameters(strategy: Any) -> None:
    """Tell the strategy which parameters its optimizer has, so that their state is kept."""
    strategy.optimized_param_id = dict(strategy.model.named_parameters())


def _batches(strategy: Any) -> Iterator[Any]:
    data = strategy.experience.dataset
    collate = getattr(data, "collate_fn", None)
    loader = DataLoader(data, batch_size=strategy.train_mb_size, collate_fn=collate)
    yield from loader
