"""The mixture of the Gaussians of all tasks, and its log-probabilities."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from growmas.contexts.context import TaskKey
from growmas.contexts.density import Component, Density, densities
from growmas.moments import Moments


class Mixture:
    """Moments of every component; the Gaussians are made from them when they are needed.

    Attributes:
        shrinkage: Shrinkage s of the covariances, see `densities`.
        tasks: The T tasks seen, in the order in which they came.
        moments: Moments of each of the M components, in D dimensions.
    """

    def __init__(self, shrinkage: float) -> None:
        self.shrinkage = shrinkage
        self.tasks: tuple[TaskKey, ...] = ()
        self.moments: dict[Component, Moments] = {}
        self._fitted: list[Density] = []

    @property
    def components(self) -> tuple[Component, ...]:
        """Task and label of each component: tasks in the order of `tasks`, labels sorted."""
        place = {task: position for position, task in enumerate(self.tasks)}
        return tuple(sorted(self.moments, key=lambda c: (place[c[0]], c[1] or 0)))

    def add(self, component: Component, moments: Moments) -> None:
        """Add the moments of samples of a component; its task comes last if it is new."""
        if component[0] not in self.tasks:
            self.tasks = (*self.tasks, component[0])
        held = self.moments.get(component)
        self.moments[component] = held + moments if held else moments
        self._fitted = []

    def merge(self, other: "Mixture") -> None:
        """Add the moments of another mixture; tasks that are new here come last."""
        for component in other.components:
            self.add(component, other.moments[component])

    def squared(self, rows: Tensor) -> Tensor:
        """Return the squared Mahalanobis distance of rows [N, D] to every component, [N, M]."""
        return torch.stack([held.squared(rows) for held in self._densities(rows.device)], 1)

    def log_likelihood(self, squared: Tensor) -> Tensor:
        """Return the log-density under every component, [N, M], from the squared distances."""
        norms = [held.log_norm for held in self._densities(squared.device)]
        return -0.5 * (squared + squared.new_tensor(norms))

    def joint(self, squared: Tensor) -> Tensor:
        """Return log-density plus log-share of the component in its task, [N, M]."""
        seen = dict.fromkeys(self.tasks, 0)
        for (task, _), held in self.moments.items():
            seen[task] += held.count
        shares = [math.log(self.moments[c].count / seen[c[0]]) for c in self.components]
        return self.log_likelihood(squared) + squared.new_tensor(shares)

    def scores(self, squared: Tensor) -> Tensor:
        """Return the log-probability of every task, [N, T]."""
        joint = self.joint(squared)
        owners = [task for task, _ in self.components]
        columns = [[i for i, owner in enumerate(owners) if owner == t] for t in self.tasks]
        return torch.stack([joint[:, own].logsumexp(1) for own in columns], 1).log_softmax(1)

    def state(self) -> list[dict[str, Any]]:
        """Return every component with its moments, on the CPU."""
        return [
            {"task": task, "label": label, **_state(self.moments[task, label])}
            for task, label in self.components
        ]

    def restore(self, tasks: Sequence[TaskKey], state: Iterable[Mapping[str, Any]]) -> None:
        """Load what `state` returned."""
        moments = {(held["task"], held["label"]): _restored(held) for held in state}
        self.tasks, self.moments, self._fitted = tuple(tasks), moments, []

    def _densities(self, device: torch.device) -> list[Density]:
        """Return the Gaussian of each component, kept until the moments change."""
        if not self._fitted or self._fitted[0].mean.device != device:
            moments = {c: self.moments[c].to(device) for c in self.components}
            self._fitted = densities(moments, self.shrinkage)
        return self._fitted


def _state(moments: Moments) -> dict[str, Any]:
    held = moments.to(torch.device("cpu"))
    return {"count": held.count, "mean": held.mean[0], "scatter": held.scatter[0]}


def _restored(state: Mapping[str, Any]) -> Moments:
    return Moments(int(state["count"]), state["mean"][None], state["scatter"][None])
