import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from scenes import managed

import growmas as gm


def slow_saturation(omegas):
    """The participation ratio, weight by weight."""
    values = [float(v) for omega in omegas for v in omega.flatten()]
    squares = sum(v * v for v in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 0.0


def test_saturation_is_the_participation_ratio_of_what_makes_the_units():
    _, structure, mas, *_, x = managed()
    assert gm.saturation(structure, mas) == {"0": 0.0, "2": 0.0}
    mas.consolidate([x])
    found = gm.saturation(structure, mas)
    for name in ("0", "2"):
        omegas = [mas.omega[f"{name}.weight"], mas.omega[f"{name}.bias"]]
        assert found[name] == pytest.approx(slow_saturation(omegas), rel=1e-5)
        assert 0 < found[name] < 1


def test_scale_and_strength_do_not_matter_and_equal_protection_is_one():
    _, structure, mas, *_, x = managed()
    mas.consolidate([x])
    before = gm.saturation(structure, mas)
    mas.decay(0.1)
    mas.strength = 7.0
    assert gm.saturation(structure, mas) == pytest.approx(before, rel=1e-5)
    mas.strength = {"*": 1.0, "0.*": 0.0}
    assert gm.saturation(structure, mas)["0"] == 0.0
    mas.strength = 1.0
    mas.omega = {name: torch.full_like(omega, 0.3) for name, omega in mas.omega.items()}
    assert gm.saturation(structure, mas) == pytest.approx({"0": 1.0, "2": 1.0})


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.floats(0.02, 0.9))
def test_what_is_grown_brings_it_to_the_threshold(threshold):
    manager, structure, mas, _, x = managed(
        grow=gm.GrowBySaturation(threshold, most=10**6, protected="2")
    )
    manager.begin_task("a")
    manager.end_task([x])
    before, width = gm.saturation(structure, mas)["0"], structure.groups["0"].width
    manager.begin_task("b")
    after, grown = gm.saturation(structure, mas)["0"], structure.groups["0"].width
    assert structure.groups["2"].width == 8
    if before <= threshold:
        assert grown == width
        return
    assert after <= threshold * (1 + 1e-6)
    assert after * grown / (grown - 1) > threshold * (1 - 1e-6), "one unit fewer would not do"
    assert grown == width + math.ceil(width * (before / threshold - 1))


def test_groups_have_thresholds_of_their_own():
    manager, *_, x = managed(grow=gm.GrowBySaturation({"2": 0.01}, most=3))
    manager.begin_task("a")
    manager.end_task([x])
    (edit,) = manager.begin_task("b")
    assert edit.born == {"2": (8, 9, 10)}
