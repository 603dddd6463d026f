"""The MAS penalty over tasks, and what it is doing."""

from growmas.penalty.diagnosis import Diagnosis, ParameterDiagnosis
from growmas.penalty.hard import HardProtection
from growmas.penalty.mas import MAS

__all__ = ["MAS", "Diagnosis", "HardProtection", "ParameterDiagnosis"]
