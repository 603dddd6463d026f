"""Detectors of shifts: when a task has been learnt and when another one has come.

`PlateauDetector` and `Cusum` watch a loss and need neither torch nor the rest of growmas;
`NoveltyDetector` watches inputs. `replay` and `score` evaluate a detector on stored losses.
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
