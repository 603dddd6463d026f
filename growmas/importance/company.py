"""Company: whether the objective of a sample depends on the other samples of its batch."""

from collections.abc import Iterator

from torch import Tensor

from growmas.importance.cutting import Cutting, some_of
from growmas.importance.measurement import Measurement, samples_interact


def alone(measurement: Measurement, cutting: Cutting) -> Iterator[Tensor]:
    """Yield the objective of each sample in a batch of its own, [1, K], with its graph.

    Raises:
        ImportanceError: A sample by itself does not go through the model.
    """
    for n in range(cutting.samples):
        yield some_of(measurement, cutting, slice(n, n + 1))


def check_halves(measurement: Measurement, cutting: Cutting, values: Tensor) -> None:
    """Refuse samples whose objective is another in half of the batch.

    Two interleaved halves cost one more forward pass. Two single samples are compared as well.

    Args:
        measurement: Model, forward and objective.
        cutting: The batch.
        values: The objective of the whole batch, [N, K].

    Raises:
        ImportanceError: The objective depends on the other samples.
    """
    pieces = [slice(0, None, 2), slice(1, None, 2)]
    if cutting.samples > 2:
        pieces += [slice(0, 1), slice(cutting.samples - 1, None)]
    for index in pieces:  # with a graph, since a model may differentiate inside
        found = values.detach().clone()
        found[index] = some_of(measurement, cutting, index).detach()
        check_alone(measurement, found, values)


def check_alone(measurement: Measurement, found: Tensor, values: Tensor) -> None:
    """Refuse samples whose objective alone, [N, K], is not that in their batch, [N, K].

    Raises:
        ImportanceError: The objective depends on the other samples.
    """
    if not measurement.same_values(found, values):
        raise samples_interact("the output", "")
