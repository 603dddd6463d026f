"""What `key=value,value` means."""

import itertools

import pytest
import yaml
from hypothesis import given, settings, strategies as st

from growmas.sweep.grid import MOST_RUNS, directory_names, read_grid, split_values

WORDS = st.text("ab c,[]{}'\":x1", max_size=6)
SCALARS = st.none() | st.booleans() | st.integers(-99, 99) | WORDS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=6,
)
KEYS = st.from_regex(r"[a-z]{1,4}(\.[a-z]{1,4}){0,2}", fullmatch=True)


def in_yaml(value):
    """As an item of a list, where a comma needs quotes."""
    text = yaml.safe_dump([value], default_flow_style=True, width=10**6, allow_unicode=True)
    return text.strip().removeprefix("[").removesuffix("]")


@settings(max_examples=200, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=4))
def test_values_in_yaml_are_split_where_they_were_joined(values):
    texts = [in_yaml(value) for value in values]
    parts = split_values(",".join(texts))
    assert parts == [text.strip() for text in texts]
    assert [yaml.safe_load(part) for part in parts] == values


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(KEYS, st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True)),
                min_size=1, max_size=3, unique_by=lambda axis: axis[0]))  # fmt: skip
def test_combinations_are_the_product_in_the_order_written(axes):
    grid = read_grid([f"{key}={','.join(map(str, values))}" for key, values in axes])
    assert grid.mistakes == ()
    expected = [()]
    for key, values in axes:  # slow and obvious
        expected = [(*those, (key, str(value))) for those in expected for value in values]
    assert [tuple(setting.items()) for setting in grid.combinations()] == expected
    names = directory_names(grid)
    assert len({name.casefold() for name in names}) == len(names) == grid.size == len(expected)


@settings(max_examples=200, deadline=None)
@given(st.integers(-50, 50), st.integers(0, 20))
def test_a_range_counts_both_ends(first, more):
    (axis,) = read_grid([f"seed={first}..{first + more}"]).axes
    assert axis.values == tuple(str(first + step) for step in range(more + 1))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1", ["1"]),
        ("[64,64],[128,128]", ["[64,64]", "[128,128]"]),
        ("{kind: mas, strength: 1},null", ["{kind: mas, strength: 1}", "null"]),
        (r'"a\",b",c', [r'"a\",b"', "c"]),
        ("it's,that's", ["it's", "that's"]),
        ("[64,64", ["[64,64"]),
        ("64],8", ["64]", "8"]),
        ("a[0,b", ["a[0", "b"]),
        ("kind: {a: 1, b: 2},c", ["kind: {a: 1, b: 2}", "c"]),
    ],
)
def test_what_is_one_value(text, values):
    assert split_values(text) == values


def test_ranges_and_values_mix():
    (axis,) = read_grid(["seed=0,3..5,9"]).axes
    assert axis.values == ("0", "3", "4", "5", "9")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "override seed: expected key=value or key=value,value"),
        ("=3", "override =3: expected key=value or key=value,value"),
        ("seed=", "override seed=: expected a value before and after every comma, got nothing"),
        ("seed=1,,2", "override seed=1,,2: expected a value before and after every comma"),
        ("seed=5..1", "override seed=5..1: expected a smaller number before a larger one"),
        ("seed=1,1..2", "override seed=1,1..2: 1 is given twice: leave one out"),
        (f"seed=1..{10**12}", f"expected at most {MOST_RUNS:,} values, got 1..{10**12}"),
    ],
)
def test_mistakes_are_told_with_what_was_written(override, message):
    (mistake,) = read_grid([override]).mistakes
    assert message in mistake


def test_a_key_that_is_there_twice_is_a_mistake():
    (mistake,) = read_grid(["seed=1", "seed=2"]).mistakes
    assert mistake.startswith("override seed=2: seed is given twice: write all of its values")


def test_too_many_runs_are_refused_before_they_are_counted_out():
    grid = read_grid(["seed=1..9999", "threads=1..9999"])
    assert grid.mistakes == (f"these are {9999**2:,} runs: give fewer values, at most 10,000 runs",)


def test_names_are_short_readable_and_all_different():
    def names(*overrides):
        return directory_names(read_grid(overrides))

    assert names("seed=1", "method.strength=1e-3") == ["seed=1,strength=1e-3"]
    assert names("model.hidden=[64, 64],[8]") == ["hidden=64x64", "hidden=8"]
    assert names("method.grow={units: 8, kind: fixed}") == ["grow=units-8+kind-fixed"]
    assert names("model.kind=mlp", "stream.kind=split") == ["model.kind=mlp,stream.kind=split"]
    alike = names("model.hidden=[8],8")
    assert len(set(alike)) == 2
    assert all(name.startswith("hidden=8-") for name in alike)
    (long,) = names("model.hidden=[" + ", ".join(["128"] * 60) + "]")
    assert len(long) < 120
    for name in itertools.chain(alike, [long], names("device=../../x", "name='a b/c'")):
        assert "/" not in name
        assert not set(name) & set(" []{}'\"")
