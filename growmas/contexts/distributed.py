"""Contexts whose samples are spread over the processes of a distributed run."""

from copy import copy, deepcopy
from typing import Any, TypeVar

from torch import distributed as dist, nn

from growmas.contexts.distances import DistanceHistogram
from growmas.contexts.gaussian import GaussianContext
from growmas.contexts.mixture import Mixture
from growmas.contexts.network_features import NetworkFeatures
from growmas.contexts.ridge import RidgeContext
from growmas.contexts.shared import SharedGaussianContext
from growmas.contexts.statistics import ClassSums
from growmas.contexts.temperature import Calibration

Mergeable = TypeVar("Mergeable", GaussianContext, RidgeContext, SharedGaussianContext)


def gather_context(context: Mergeable, *, group: dist.ProcessGroup | None = None) -> Mergeable:
    """Return a context that saw the samples of all processes; the given one stays as it is.

    A collective call: every process of the group makes it with its own context, which may have
    seen nothing, and all get the same one, to the last bit. Tasks come in the order of the first
    process that saw them. Go on updating the given one, since samples in the gathered one would
    count once for each process at the next call. Without a process group it is a copy.

    Args:
        context: With the same settings, and the same frozen filters, in every process.
        group: None for the default group.

    Raises:
        ContextError: In every process, if the contexts do not merge.
    """
    states: list[Any] = [context.state_dict()]
    if dist.is_available() and dist.is_initialized():
        states = [None] * dist.get_world_size(group)
        dist.all_gather_object(states, context.state_dict(), group=group)
    parts: list[Mergeable] = [_restored(context, state) for state in states]
    for other in parts[1:]:
        parts[0].merge(other)
    return parts[0]


def emptied(context: Mergeable) -> Mergeable:
    """Return a context with the same settings and the same extractor that has seen no sample."""
    empty = copy(context)
    empty._projection = copy(context._projection)
    empty._distances = DistanceHistogram()
    if isinstance(empty, GaussianContext):
        empty._mixture = Mixture(empty._mixture.shrinkage)
    else:
        empty._sums = ClassSums()
        empty._calibration = Calibration(empty._calibration.default)
        empty._estimate = None
    return empty


def freeze_extract(context: Mergeable, inputs: Any) -> None:
    """Let the extractor of a context settle on what it takes from its first inputs.

    Args:
        context: If it has seen samples, nothing is done.
        inputs: The first ones, the same in every process.
    """
    if not context._projection.size:
        context._projection.features(inputs)


def _restored(context: Mergeable, state: dict[str, Any]) -> Mergeable:
    """Return a context with the settings of one and a state; networks are not copied."""
    extract = context._projection.extract
    networks = {id(extract): extract} if isinstance(extract, nn.Module | NetworkFeatures) else {}
    restored = deepcopy(context, networks)
    restored.load_state_dict(state)
    return restored
