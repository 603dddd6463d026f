"""Suggested names: misspellings are mended, other names are listed."""

import pytest

from growmas.suggestion import closest, existing, suggestion


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("strenght", ["strength", "exclude"], "strength"),
        ("mpl", ["convnet", "mlp"], "mlp"),
        ("ADAM", ["sgd", "adam"], "adam"),
        ("mnist", ["digits", "mnist5k"], "mnist5k"),
        ("layer.1.fc", ["layers.0.fc", "layers.1.fc"], "layers.1.fc"),
        ("00", ["0", "2"], "0"),
        ("nothere", ["anchor"], None),
        ("99", ["8/9"], None),
        ("task 9", ["task 0", "task 1"], None),
        ("fc3", ["fc1", "fc2"], None),
        ("x", [], None),
    ],
)
def test_only_a_near_name_is_suggested(name, known, meant):
    assert closest(name, known) == meant


def test_without_a_near_name_those_that_exist_are_quoted_and_counted():
    assert suggestion("fc1", ["0"], "group") == "the only group is '0'"
    assert suggestion("fc1", ["0", "2"], "group") == "the 2 groups are '0', '2'"
    assert suggestion("fc1", [], "group") == "there are no groups"
    many = existing(map(str, range(30)), "layer")
    assert many.startswith("the 30 layers are '0', '1'")
    assert many.endswith("'19' and 10 more")
