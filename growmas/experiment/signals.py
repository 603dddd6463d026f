"""Signals of plasticity, measured every few steps of a run and written to its history."""

import math
from collections.abc import Callable

from torch import Tensor

from growmas.batches import Forward
from growmas.config import SignalsConfig
from growmas.history.tracker import TopologyTracker
from growmas.plasticity import plasticity_signals
from growmas.structure import Structure


class Signals:
    """Writes the signals of plasticity of a network among the scalars of its history."""

    def __init__(self, config: SignalsConfig | None, structure: Structure, device: str) -> None:
        """Put the parts together.

        Args:
            config: How often, and on how many samples; None measures nothing.
            structure: The units of the network.
            device: Of the network.
        """
        self._config = config
        self._structure = structure
        self._device = device

    def after_step(
        self,
        tracker: TopologyTracker,
        inputs: Callable[[int], Tensor],
        *,
        step: int,
        task: str,
        epoch: int | None = None,
        forward: Forward | None = None,
    ) -> None:
        """Measure and write the signals, if that is due.

        Args:
            tracker: Of the history.
            inputs: (n) -> at most n training inputs of the task.
            step: Number of training steps done so far.
            task: Name of the task that is being learnt.
            epoch: Number of the pass over its data.
            forward: (model, inputs) -> output, such as through the head of the task.
        """
        if self._config is None or step % self._config.every or not self._structure.groups:
            return
        batch = inputs(self._config.samples).to(self._device)
        found = plasticity_signals(self._structure, [batch], forward=forward)
        finite = {name: value for name, value in found.items() if math.isfinite(value)}
        tracker.scalars(finite, step=step, task=task, epoch=epoch)
