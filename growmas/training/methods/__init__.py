"""Methods of learning tasks one after another: no protection, a penalty, growth, and baselines."""

from growmas.training.methods.method import Method
from growmas.training.methods.reservoir import Reservoir

__all__ = ["Method", "Reservoir"]
