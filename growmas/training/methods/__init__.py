"""What is done about earlier tasks: nothing, a penalty, growth; and what that is compared with."""

from growmas.training.methods.build import build_method
from growmas.training.methods.method import Method

__all__ = ["Method", "build_method"]
