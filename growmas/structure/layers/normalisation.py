"""Normalisations: what a layer divides by, which an edit changes and other tensors take up."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Normalisation:
    """A norm of every position over all its channels: γ · (x − x̄) / √(v + ε) + β.

    Attributes:
        centred: True for a LayerNorm; False for an RMSNorm, where x̄ = 0 and v is the mean square.
        gain: The parameter γ, which multiplies.
        eps: The attribute ε; "" if it is written into the code, and too small to matter.
        offset: What is added to γ before: 1 where (1 + γ) multiplies.
        power: Where channels of zero are added, so that a share s of all is left, γ is multiplied
            by s to this power: ½ for a norm by the root of a mean of squares, 1 for one by a mean,
            0 for one by a sum.
    """

    centred: bool
    gain: str
    eps: str
    offset: float = 0.0
    power: float = 0.5


@dataclass(frozen=True)
class RowLengths:
    """Lengths of rows that a layer keeps apart from them: g in W = g · V / |V|.

    Attributes:
        lengths: The tensor g.
        rows: The tensor V.
        dim: The axis of both along which the rows lie.
    """

    lengths: str
    rows: str
    dim: int
