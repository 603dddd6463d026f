"""The bounds of every detector: a value that equals its threshold counts as within it."""

import math

import pytest

import growmas as gm
from growmas.shift import ShiftEvent, replay, score


def kinds(losses, detector):
    return [(event.kind, event.step) for event in replay(losses, detector)]


def test_evidence_that_equals_its_threshold_is_no_peak():
    # the median of ten is 1 and the largest rise among them 1: scores are x − 1.5, summed
    quiet = [2.0, 2.0, 0.0, 0.0, 2.0, 0.0, 2.0, 0.0, 2.0, 0.0, 2.0, 2.0]
    detector = gm.PlateauDetector(2, reference=10, evidence=3.0)
    events = replay([*quiet, 3.0, 3.0, 1.75], detector)
    (peak,) = [event for event in events if event.kind == "peak"]
    assert (peak.step, peak.onset) == (14, 12)
    assert peak.statistics["evidence"] == 3.25


@pytest.mark.parametrize(("flat", "found"), [(1.0, [("plateau", 3)]), (0.99, [])])
def test_a_loss_that_falls_by_exactly_the_share_is_a_plateau(flat, found):
    assert kinds([4.0, 4.0, 2.0, 2.0], gm.PlateauDetector(2, flat=flat)) == found


@pytest.mark.parametrize(("spread", "found"), [(0.5, [("plateau", 3)]), (0.49, [])])
def test_a_window_that_varies_by_exactly_the_share_is_a_plateau(spread, found):
    # from 4 to a median of 2: a fall of 2, and a standard deviation of 1
    detector = gm.PlateauDetector(2, flat=1.0, spread=spread)
    assert kinds([4.0, 4.0, 1.0, 3.0], detector) == found


def test_a_mean_that_equals_that_of_the_plateau_is_no_peak_in_the_paper():
    detector = gm.PlateauDetector(2, "paper")
    assert kinds([0.0] * 5, detector) == [("plateau", 1)]
    assert kinds([0.1], detector) == [("peak", 5)]


def test_the_deviation_of_a_cusum_is_that_of_a_sample():
    rise = 1.2  # in population deviations; √2 times less in those of a sample
    assert kinds([0.0, 2.0, 1 + rise], gm.Cusum(1.0, 0.0, minimum=2)) == []
    assert kinds([0.0, 2.0, 1 + rise], gm.Cusum(0.84, 0.0, minimum=2)) == [("peak", 2)]
    assert rise / math.sqrt(2) > 0.84


def test_evidence_of_a_cusum_that_equals_its_threshold_is_no_peak():
    assert kinds([-1.0, 0.0, 1.0, 2.5], gm.Cusum(2.0, minimum=3)) == []
    assert kinds([-1.0, 0.0, 1.0, 2.51], gm.Cusum(2.0, minimum=3)) == [("peak", 3)]


def test_a_peak_at_the_first_step_of_a_shift_finds_it_and_no_other():
    peak = [ShiftEvent("peak", 104, 104, "")]
    assert score(peak, [104]).delays == (0,)
    assert score(peak, [100, 104]).delays == (0,)
    assert score(peak, [54]).delays == (50,)
    assert score(peak, [53]).delays == ()
