"""A network for each task, for comparison."""

from growmas.training.methods.viewed import Viewed


class Separate(Viewed):
    """Each task has a network of its own, which no other task changes: nothing is shared.

    The structure is of a `SeparateNetworks`, in which a head is a whole network.
    """
