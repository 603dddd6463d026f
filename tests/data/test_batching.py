import pytest
import torch
from hypothesis import given, settings, strategies as st

from growmas.data import Split, batches
from growmas.errors import DataError


def numbered(count: int) -> Split:
    numbers = torch.arange(count)
    return Split(numbers.float().reshape(count, 1, 1, 1), numbers)


@settings(deadline=None)
@given(count=st.integers(1, 20), size=st.integers(1, 25), seed=st.none() | st.integers(0, 99))
def test_each_sample_comes_once_with_its_label(count, size, seed):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    given_out = list(batches(numbered(count), size, generator=generator))
    assert all(len(labels) == size for _, labels in given_out[:-1])
    labels = torch.cat([labels for _, labels in given_out])
    assert torch.equal(labels.sort().values, torch.arange(count))
    assert torch.equal(torch.cat([inputs for inputs, _ in given_out]).flatten().long(), labels)
    if seed is None:
        assert torch.equal(labels, torch.arange(count))


def test_each_pass_is_shuffled_anew_and_reproducibly():
    def passes() -> list[list[int]]:
        generator = torch.Generator().manual_seed(0)
        every = [batches(numbered(9), 9, generator=generator) for _ in range(2)]
        return [labels.tolist() for one in every for _, labels in one]

    assert passes() == passes()
    assert passes()[0] != passes()[1]


@pytest.mark.parametrize(("count", "size", "message"), [(3, 0, "got size 0"), (0, 3, "no samples")])
def test_impossible_requests_are_refused_at_the_call(count, size, message):
    with pytest.raises(DataError, match=message):
        batches(numbered(count), size)
