"""Intervals and paired tests over seeds, against scipy by hand and against simulation."""

import math
import sys
import warnings

import numpy as np
import pytest
from scipy import stats

from growmas.errors import RunError
from growmas.runs.intervals import Interval, holm, paired_difference

OURS = {1: 0.913, 2: 0.897, 3: 0.921, 4: 0.903, 7: 0.5}
THEIRS = {1: 0.902, 2: 0.893, 3: 0.905, 4: 0.899, 8: 0.9}


def test_the_paired_test_is_scipys_over_the_common_seeds():
    difference = paired_difference(OURS, THEIRS)
    pairs = [(OURS[seed], THEIRS[seed]) for seed in (1, 2, 3, 4)]
    by_hand = stats.ttest_rel(*zip(*pairs, strict=True))
    assert difference.interval.n == 4
    assert math.isclose(difference.p, by_hand.pvalue)
    assert math.isclose(difference.interval.mean, np.mean([a - b for a, b in pairs]))
    assert difference.interval.low < difference.interval.mean < difference.interval.high
    back = paired_difference(THEIRS, OURS)
    assert math.isclose(back.p, difference.p)
    assert math.isclose(back.interval.mean, -difference.interval.mean)


def test_the_interval_is_scipys():
    values = [0.5, 0.7, 0.6, 0.95, 0.3]
    interval = Interval.of(values)
    expected = stats.bootstrap((np.array(values),), np.mean, rng=np.random.default_rng(0))
    assert (interval.low, interval.high) == tuple(expected.confidence_interval)
    assert interval.mean == pytest.approx(0.61)


def test_intervals_of_five_values_are_as_narrow_as_documented():
    generator = np.random.default_rng(3)
    intervals = [Interval.of(list(generator.normal(size=5))) for _ in range(300)]
    assert 0.77 < np.mean([each.low <= 0.0 <= each.high for each in intervals]) < 0.89


def test_degenerate_values():
    assert Interval.of([]) is None
    assert Interval.of([0.4]) == Interval(0.4, None, None, 1)
    assert Interval.of([0.5, 0.5, 0.5]) == Interval(0.5, 0.5, 0.5, 3)
    assert paired_difference({1: 0.5}, {2: 0.5}) is None
    assert paired_difference({1: 0.5}, {1: 0.4}).p is None
    assert paired_difference({1: 0.5, 2: 0.6}, {1: 0.5, 2: 0.6}).p == 1.0
    assert paired_difference({1: 0.75, 2: 0.5}, {1: 0.5, 2: 0.25}).p == 0.0


def test_holm_is_monotone_and_at_least_the_p_value():
    values = [0.2, 0.001, None, 0.03, 0.04]
    adjusted = holm(values)
    assert adjusted == [0.2, pytest.approx(0.004), None, pytest.approx(0.09), pytest.approx(0.09)]


def test_a_missing_scipy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(RunError, match="statistics"):
        Interval.of([0.1, 0.2])


@pytest.mark.parametrize(
    ("ours", "theirs", "p"),
    [
        ([0.9, 0.8, 0.7], [0.8, 0.7, 0.6], 0.0),  # 0.1 up to rounding: the t statistic is infinite
        ([0.1 + 0.2, 0.3 + 0.6, 0.7 + 0.1], [0.3, 0.9, 0.8], 1.0),  # rounding is no difference
        ([1.1e9 + 1, 2e9 + 1], [1.1e9, 2e9], 0.0),  # parameters
    ],
)
def test_rounding_is_not_tested(ours: list[float], theirs: list[float], p: float) -> None:
    assert {one - two for one, two in zip(ours, theirs, strict=True)} != {0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = paired_difference(dict(enumerate(ours)), dict(enumerate(theirs)))
    assert found is not None
    assert found.p == p
