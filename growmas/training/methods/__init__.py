"""Methods of learning tasks one after another: no protection, a penalty, growth, and baselines."""

from growmas.training.methods.method import Method

__all__ = ["Method"]
