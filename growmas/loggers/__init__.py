"""Loggers: observers that write the numbers and figures of a run for other programs."""

from growmas.loggers.building import build_loggers
from growmas.loggers.logger import RunLogger

__all__ = ["RunLogger", "build_loggers"]
