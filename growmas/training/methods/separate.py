"""Baseline with a separate network for each task."""

from growmas.training.methods.viewed import Viewed


class Separate(Viewed):
    """Learns each task with a network of its own, which no other task changes.

    The structure belongs to a `SeparateNetworks`, in which a head is a whole network.
    """
