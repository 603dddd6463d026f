import json

import numpy as np
import pytest
import torch

import growmas as gm
from growmas.errors import ShiftError
from growmas.integrations.river import RiverDetector
from growmas.shift import Detector, replay

STEP = [
    *np.random.default_rng(0).normal(1.0, 0.1, 60),
    *np.random.default_rng(1).normal(2, 0.1, 40),
]


def textbook_cusum(values, minimum=20):
    """Mean and deviation of all values before, anew at every step."""
    evidence = 0.0
    for step in range(minimum, len(values)):
        before = values[:step]
        z = (values[step] - np.mean(before)) / np.std(before, ddof=1)
        evidence = max(0.0, evidence + z - 0.5)
        if evidence > 5:
            return step
    return None


def test_a_cusum_is_what_its_slow_twin_says():
    event = replay(STEP, gm.Cusum())[0]
    assert event.step == textbook_cusum(STEP)
    assert event.onset <= event.step
    rising = [*STEP[:60], *(1 + 0.02 * i for i in range(40))]
    first = replay(rising, gm.Cusum())[0]
    assert first.step == textbook_cusum(rising)
    assert first.onset < first.step


def test_a_stopped_cusum_goes_on():
    whole, first, second = gm.Cusum(), gm.Cusum(), gm.Cusum()
    expected = replay(STEP, whole)
    replay(STEP[:45], first)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert replay(STEP[45:], second) == expected
    assert second.state_dict() == whole.state_dict()


def test_a_cusum_refuses_settings_out_of_range():
    with pytest.raises(ShiftError, match="threshold=0: expected a number > 0"):
        gm.Cusum(0)


def batches(seed, shift=0.0, count=30):
    random = torch.Generator().manual_seed(seed)
    return [torch.rand(20, 12, generator=random) + shift for _ in range(count)]


def test_novelty_sees_inputs_change_without_labels():
    detector = gm.NoveltyDetector(samples=200)
    found = [detector.update(x) for x in [*batches(0), *batches(1, 1.0), *batches(2)]]
    assert [event.step for event in found if event] == [30, 60]


def test_novelty_goes_on_where_it_stopped():
    data = [*batches(0), *batches(1, 1.0)]
    whole, first, second = (gm.NoveltyDetector(samples=200) for _ in range(3))
    expected = [whole.update(x) for x in data]
    for x in data[:25]:
        first.update(x)
    second.load_state_dict(first.state_dict())
    assert [second.update(x) for x in data[25:]] == expected[25:]


def test_detectors_of_river_report_what_rises_and_not_what_falls():
    drift = pytest.importorskip("river.drift")
    jump = [0.1, 0.12] * 100 + [2.0, 2.1] * 60 + [0.1, 0.12] * 100
    (event,) = replay(jump, RiverDetector(drift.ADWIN()))
    assert 200 <= event.step < 320
    assert "ADWIN" in event.reason


def test_what_river_cannot_save_is_said():
    drift = pytest.importorskip("river.drift")
    with pytest.raises(ShiftError, match="no state that a checkpoint can hold"):
        RiverDetector(drift.ADWIN()).state_dict()
    with pytest.raises(ShiftError, match="a dict without drift_detected"):
        RiverDetector({})


@pytest.mark.parametrize("detector", [gm.PlateauDetector(), gm.Cusum()])
def test_detectors_have_one_interface(detector):
    assert isinstance(detector, Detector)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: gm.PlateauDetector(), "PlateauDetector(window=10, mode='relative'; step 0)"),
        (lambda: gm.PlateauDetector(mode="paper"), "PlateauDetector(window=5, mode='paper'; step"),
        (lambda: gm.Cusum(4), "Cusum(threshold=4, slack=0.5, minimum=20; step 0)"),
        (lambda: gm.NoveltyDetector(20), "NoveltyDetector(20; step 0)"),
    ],
)
def test_each_says_what_it_is_in_one_line(make, text):
    assert repr(make()).startswith(text)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gm.NoveltyDetector(make=5), "make=5: expected a function without arguments"),
        (lambda: gm.NoveltyDetector(1), "samples=1: expected a whole number >= 2"),
        (lambda: gm.Cusum("5"), "threshold='5': expected a number > 0"),
        (lambda: gm.Cusum(float("nan")), "threshold=nan: expected a number > 0"),
        (lambda: gm.Cusum(slack=-0.1, minimum=1), "slack=-0.1: .*\nminimum=1: "),
        (lambda: gm.PlateauDetector(rise="0.1"), "rise='0.1': expected a number > 0"),
        (lambda: gm.PlateauDetector(evidence=2), "evidence=2: expected a number > 2, which"),
        (lambda: replay([1.0], 5), r"detector=5: expected a detector, such as PlateauDetector\(\)"),
        (lambda: replay([1.0], gm.PlateauDetector), "expected a detector, such as"),
    ],
)
def test_what_a_detector_refuses(make, message):
    with pytest.raises(ShiftError, match=message):
        make()
