from itertools import pairwise

from hypothesis import given, settings, strategies as st

from growmas.terminal.folding import evenly, fold, shared_words, title

CHANGES = st.lists(st.integers(0, 5), max_size=25)


def fold_slowly(changes: list[int], columns: int) -> list[range]:
    """Fold by comparing all neighbours in every step."""
    stretches = [range(i, i + 1) for i in range(len(changes))]
    ends = 1 if columns >= 3 else 0
    while len(stretches) > max(columns, 1):
        pairs = [
            (sum(changes[i] for i in [*a, *b]), len(a) + len(b), at)
            for at, (a, b) in enumerate(pairwise(stretches))
            if ends <= at < len(stretches) - 1 - ends
        ]
        at = min(pairs)[2]
        stretches[at : at + 2] = [range(stretches[at].start, stretches[at + 1].stop)]
    return stretches


@settings(max_examples=200, deadline=None)
@given(CHANGES, st.integers(1, 30))
def test_fold_merges_neighbours_that_changed_least(changes: list[int], columns: int) -> None:
    stretches = fold(changes, columns)
    assert [index for stretch in stretches for index in stretch] == list(range(len(changes)))
    assert len(stretches) <= columns
    assert stretches == fold_slowly(changes, columns)


def test_quiet_tasks_are_folded_and_eventful_ones_are_not() -> None:
    assert fold([0, 5, 0, 0, 0, 7, 0, 0], 6) == [
        range(1),
        range(1, 2),
        range(2, 5),
        range(5, 6),
        range(6, 7),
        range(7, 8),
    ]


@given(st.integers(0, 40), st.integers(1, 12))
def test_evenly_divides_all(count: int, columns: int) -> None:
    stretches = evenly(count, columns)
    assert [index for stretch in stretches for index in stretch] == list(range(count))
    assert len({len(stretch) for stretch in stretches}) <= 2


def test_names_of_stretches_say_what_they_share_once() -> None:
    names = ["split digits 1", "split digits 2", "split digits 10"]
    assert shared_words(names) == "split digits "
    assert title(names, range(3), ellipsis="…") == "split digits 1 … 10"
    assert title(["0/1", "2/3"], range(2), ellipsis="...") == "0/1 ... 2/3"
    assert title(names, range(1, 2), ellipsis="…") == "split digits 2"
    assert shared_words(["a b"]) == ""
    assert shared_words(["a", "a b"]) == ""
