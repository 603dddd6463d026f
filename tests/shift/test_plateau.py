import json
import math
import subprocess
import sys

import numpy as np
import paper_rule
import pytest
from hypothesis import given, settings, strategies as st

import growmas as gm
from growmas.errors import ShiftError
from growmas.shift import replay


def trace(seed, *, tasks=4, steps=60, noise=0.1, floor=0.1, top=2.3):
    """Losses that fall exponentially in every task, with multiplicative noise."""
    random = np.random.default_rng(seed)
    times = np.tile(np.arange(steps), tasks)
    clean = floor + (top - floor) * np.exp(-times / 8)
    return (clean * np.exp(noise * random.standard_normal(len(clean)))).tolist()


def said(events):
    return [(event.kind, event.step, event.onset) for event in events]


def test_every_task_has_a_plateau_and_every_boundary_a_peak():
    events = replay(trace(0))
    assert [event.kind for event in events] == ["plateau", "peak"] * 3 + ["plateau"]
    peaks = [event for event in events if event.kind == "peak"]
    assert [event.onset for event in peaks] == [60, 120, 180]
    assert all(event.step - event.onset <= 2 for event in peaks)


@pytest.mark.parametrize("seed", range(8))
def test_the_relative_rule_is_what_its_slow_twin_says(seed):
    losses = trace(seed, noise=0.1 * (seed + 1), floor=0.02 * seed)
    expected = paper_rule.relative_events(losses)
    assert said(replay(losses)) == expected
    assert seed > 4 or len(expected) >= 6


@pytest.mark.parametrize("seed", range(8))
def test_the_papers_rule_is_what_its_slow_twin_says(seed):
    losses = trace(seed, noise=0.4, floor=0.1)
    events = replay(losses, gm.PlateauDetector(mode="paper"))
    expected = paper_rule.events(losses)
    assert [(event.kind, event.step) for event in events] == expected
    assert len(expected) >= 7


@given(
    st.integers(0, 10_000),
    st.floats(1e-6, 1e6),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
)
@settings(max_examples=60, deadline=None)
def test_law_events_do_not_depend_on_the_unit_of_the_loss(seed, factor, noise, floor):
    losses = trace(seed, noise=noise, floor=floor, tasks=3, steps=45)
    assert said(replay([factor * loss for loss in losses])) == said(replay(losses))


def test_law_events_do_not_depend_on_where_the_loss_has_its_zero():
    losses = trace(3)
    assert said(replay([loss - 7.0 for loss in losses])) == said(replay(losses))


def test_the_papers_thresholds_do_depend_on_the_unit():
    losses = trace(0)
    detector = gm.PlateauDetector(mode="paper")
    assert replay(losses, detector)
    assert replay([100 * x for x in losses], gm.PlateauDetector(mode="paper")) == ()


def test_a_single_low_loss_is_no_plateau():
    """The released code has no such guard: one value has variance 0."""
    detector = gm.PlateauDetector(mode="paper")
    assert [detector.update(0.01) for _ in range(4)] == [None] * 4
    event = detector.update(0.01)
    assert event is not None
    assert event.kind == "plateau"


def test_one_outlier_is_no_peak_and_two_are():
    calm = [1.0 - 0.02 * i for i in range(40)] + [0.2, 0.21] * 30
    once = replay([*calm, 50.0, *[0.2] * 20])
    assert all(event.kind == "plateau" for event in once)
    (peak,) = [event for event in replay([*calm, 50.0, 50.0]) if event.kind == "peak"]
    assert (peak.step, peak.onset) == (101, 100)


def test_bursts_that_are_small_beside_what_was_learnt_are_no_peaks():
    """Adam at a loss of next to nothing bursts to a hundred times as much."""
    losses = trace(1, tasks=1, floor=1e-5)
    burst = [1e-3, 2e-3, 3e-3, 1e-3, 1e-4]
    assert all(event.kind == "plateau" for event in replay([*losses, *burst, *losses[-30:]]))


def test_a_loss_that_never_fell_has_no_plateau():
    noise = np.random.default_rng(0).random(500)
    assert replay(noise) == ()


def test_equal_losses_say_nothing():
    assert replay([0.3] * 200) == ()
    assert replay([0.0] * 200) == ()


def test_an_event_says_why():
    events = replay(trace(0))
    peak = next(event for event in events if event.kind == "peak")
    assert "scales of" in peak.reason
    assert "since step 60" in peak.reason
    assert peak.statistics["evidence"] > peak.thresholds["evidence"] == 2.7
    plateau = events[0]
    assert plateau.statistics["deviation"] <= plateau.thresholds["deviation"]
    assert (
        plateau.statistics["before"] - plateau.statistics["mean"]
        <= (plateau.thresholds["decrease"])
    )


@pytest.mark.parametrize("mode", ["relative", "paper"])
@pytest.mark.parametrize("at", [0, 7, 61, 63, 130])
def test_a_stopped_detector_goes_on_as_if_it_had_not_been(mode, at):
    losses = trace(5)
    whole = gm.PlateauDetector(mode=mode)
    first = gm.PlateauDetector(mode=mode)
    expected = replay(losses, whole)
    events = replay(losses[:at], first)
    second = gm.PlateauDetector(mode=mode)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert (*events, *replay(losses[at:], second)) == expected
    assert second.state_dict() == whole.state_dict()


def test_memory_does_not_grow():
    detector = gm.PlateauDetector()
    replay(trace(0, tasks=3), detector)
    small = len(json.dumps(detector.state_dict()))
    replay(trace(0, tasks=60), detector)
    assert len(json.dumps(detector.state_dict())) < small + 200


def test_nothing_is_said_in_the_refractory_time():
    losses = trace(0, noise=0.02)
    quiet = replay(losses, gm.PlateauDetector(refractory=80))
    steps = [event.step for event in quiet if event.kind == "peak"]
    assert steps == [61, 181]
    assert not [event for event in quiet if 61 < event.step <= 141]


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_named(loss):
    detector = gm.PlateauDetector()
    detector.update(1.0)
    with pytest.raises(ShiftError, match=r"the loss of step 1 is (nan|-?inf): .*finite losses"):
        detector.update(loss)
    assert detector.step == 1


def test_all_wrong_settings_are_told_at_once():
    with pytest.raises(ShiftError) as caught:
        gm.PlateauDetector(window=1, mode="absolute", evidence=1.0, refractory=-1)
    text = str(caught.value)
    for part in (
        "window=1: expected a whole number >= 2",
        "mode='absolute': expected 'relative' or 'paper'",
        "evidence=1.0: expected a number > 2",
        "refractory=-1",
    ):
        assert part in text


def test_a_state_of_other_settings_is_refused():
    state = gm.PlateauDetector(window=8).state_dict()
    with pytest.raises(ShiftError, match="window=8 instead of 10"):
        gm.PlateauDetector().load_state_dict(state)
    with pytest.raises(ShiftError, match="lacks quiet, rule"):
        gm.PlateauDetector().load_state_dict({"settings": {}, "step": 0})


def test_detectors_of_losses_do_without_torch():
    code = (
        "import sys, growmas; growmas.PlateauDetector().update(1.0); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("loss", ["x", None, [1.0, 2.0]])
def test_a_loss_that_is_no_number_is_refused(loss):
    with pytest.raises(
        ShiftError, match=r"loss of step 0 is a \w+ that is not one number: give the"
    ):
        gm.PlateauDetector().update(loss)
