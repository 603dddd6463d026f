"""When a task was learnt and when another one came, told from losses or from inputs.

Stands alone: detectors of losses need neither torch nor the rest of growmas.
"""

from growmas.shift.cusum import Cusum
from growmas.shift.event import Detector, ShiftEvent
from growmas.shift.novelty import NoveltyDetector
from growmas.shift.plateau import PlateauDetector
from growmas.shift.scoring import DetectionScore, replay, score

__all__ = [
    "Cusum",
    "DetectionScore",
    "Detector",
    "NoveltyDetector",
    "PlateauDetector",
    "ShiftEvent",
    "replay",
    "score",
]
