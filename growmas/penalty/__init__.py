"""The MAS penalty over tasks, its diagnosis, and hard protection of the most important weights."""

from growmas.penalty.diagnosis import Diagnosis, ParameterDiagnosis
from growmas.penalty.hard import HardProtection
from growmas.penalty.mas import MAS

__all__ = ["MAS", "Diagnosis", "HardProtection", "ParameterDiagnosis"]
