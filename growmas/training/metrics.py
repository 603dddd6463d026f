"""The numbers of `growmas.metrics`, under the name that loops of their own import."""

from growmas.metrics import Matrix, average_accuracy, backward_transfer, forgetting

__all__ = ["Matrix", "average_accuracy", "backward_transfer", "forgetting"]
