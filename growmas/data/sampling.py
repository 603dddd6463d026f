"""Sampling: which training samples of a source a stream uses, and with which labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from growmas.data.names import did_you_mean
from growmas.data.sources import held_out
from growmas.data.splits import Split
from growmas.errors import DataError

Limit = int | Mapping[str, int] | None
"""Training samples of each class, or of some classes by name; None for all of them."""


@dataclass(frozen=True)
class Sampling:
    """Choice of training samples.

    Attributes:
        label_noise: Share of training labels replaced by another class, uniformly; validation and
            test labels stay right.
        imbalance: Samples of the rarest class as a share of those of the most common one. Class c
            of C keeps the first imbalance^(c / (C − 1)) of its samples (Cao et al., NeurIPS 2019).
        validation: Share of each class held out of the training data.
    """

    label_noise: float = 0.0
    imbalance: float = 1.0
    validation: float = 0.0

    def drawn(
        self, train: Split, classes: Sequence[str], limit: Limit, generator: torch.Generator
    ) -> tuple[Split, Split | None]:
        """Return training and validation samples.

        Args:
            train: All training samples.
            classes: The C class names.
            limit: The first samples of each class that are kept.
            generator: On the CPU; drawn from only where there is noise.

        Raises:
            DataError: A limit is of an unknown class, or a class is too small.
        """
        kept = self._limits(train.labels, classes, limit)
        if kept is not None:
            train = train.subset(kept)
        validation = None
        if self.validation:
            mask = held_out(train.labels, len(classes), self.validation)
            for label, name in enumerate(classes):
                total = int((train.labels == label).sum())
                if total and not int((mask & (train.labels == label)).sum()):
                    raise DataError(
                        f"class {name!r} has {total} training samples, too few for a validation "
                        f"share of {self.validation}: raise it, or add samples",
                        key=("validation",),
                    )
            validation = train.subset(mask.nonzero().squeeze(1))
            train = train.subset((~mask).nonzero().squeeze(1))
        if self.label_noise:
            train = train.relabelled(
                _noisy(train.labels, self.label_noise, len(classes), generator)
            )
        return train, validation

    def _limits(self, labels: Tensor, classes: Sequence[str], limit: Limit) -> Tensor | None:
        """Return the rows that are kept, in order; None for all of them."""
        if limit is None and self.imbalance == 1.0:
            return None
        limits = limit if isinstance(limit, Mapping) else {}
        unknown = [name for name in limits if name not in classes]
        if unknown:
            raise DataError(
                f"{unknown[0]!r} is not a class; {did_you_mean(unknown[0], classes)}",
                key=("limit", unknown[0]),
            )
        kept = []
        for label, name in enumerate(classes):
            rows = (labels == label).nonzero().squeeze(1)
            rows = rows[: limit if isinstance(limit, int) else limits.get(name)]
            share = self.imbalance ** (label / max(1, len(classes) - 1))
            kept.append(rows[: max(1, round(share * len(rows)))])
        return torch.cat(kept).sort().values


PLAIN = Sampling()
"""All training samples, as they are."""


def _noisy(labels: Tensor, share: float, classes: int, generator: torch.Generator) -> Tensor:
    wrong = torch.rand(len(labels), generator=generator) < share
    shift = torch.randint(1, max(2, classes), (len(labels),), generator=generator)
    return torch.where(wrong, (labels + shift) % classes, labels)
