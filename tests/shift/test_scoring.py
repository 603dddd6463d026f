import pytest

from growmas.errors import ShiftError
from growmas.shift import ShiftEvent, score


def peaks(*steps):
    return [ShiftEvent("peak", step, step, "") for step in steps]


def test_peaks_are_matched_in_order_and_each_once():
    result = score(peaks(12, 14, 40, 103), [10, 50, 100], steps=200, tolerance=20)
    assert (result.shifts, result.found, result.peaks) == (3, 2, 4)
    assert result.delays == (2, 3)
    assert result.recall == pytest.approx(2 / 3)
    assert result.precision == pytest.approx(1 / 2)
    assert result.delay == 2.5
    assert result.false_alarms == 2
    assert result.false_alarms_per_1000 == 10


def test_a_peak_before_its_shift_is_a_false_alarm():
    assert score(peaks(99), [100]).found == 0


def test_a_peak_belongs_to_the_last_shift_before_it():
    result = score(peaks(105), [100, 104])
    assert result.delays == (1,)


def test_a_shift_that_takes_a_while_is_found_within_it_and_shortly_after():
    assert score(peaks(100), [(90, 130)], tolerance=0).delays == (10,)
    assert score(peaks(140), [(90, 130)], tolerance=10).delays == (50,)
    assert score(peaks(141), [(90, 130)], tolerance=10).delays == ()


def test_plateaus_count_for_nothing():
    result = score([ShiftEvent("plateau", 5, 1, "")], [])
    assert (result.peaks, result.recall, result.precision, result.delay) == (0, None, None, None)
    assert result.false_alarms_per_1000 is None


@pytest.mark.parametrize("shifts", [[5, 5], [9, 3], [(7, 6)]])
def test_shifts_out_of_order_are_refused(shifts):
    with pytest.raises(ShiftError, match="true_shifts must rise"):
        score([], shifts)
