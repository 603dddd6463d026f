"""Outcomes: what becomes of channels in an operation; labels behind it, or a reason why none."""

from dataclasses import dataclass

from growmas.structure.analysis.labels import IndexMapping, Labels


class SharedChannels(str):
    """Reason why channels, whose `labels` it has, cannot change: all units of others use them."""

    labels: Labels


class PairedChannels(str):
    """Text for what channels of queries and keys give that meet one by one.

    They can change, in pairs, and what they give has none of them. `labels` has the channels in
    the order of the axis that the product runs over.
    """

    labels: Labels


class OverChannels(str):
    """Reason why channels are lost in an operation that runs over all of them.

    Removing channels changes the function, but the operation works with fewer of them: a plan that
    says `approximate=True` may remove them.
    """


@dataclass(frozen=True, eq=False)
class Propagation:
    """The channels behind an operation.

    Attributes:
        labels: Channel of every entry of the output.
        mapping: Which channels of the input they are; None: the same.
        mixed: Why a channel more or less changes the others, or nothing.
    """

    labels: Labels
    mapping: IndexMapping | None = None
    mixed: str = ""
