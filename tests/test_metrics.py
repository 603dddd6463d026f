import pytest

from growmas.errors import DataError
from growmas.metrics import average_accuracy, backward_transfer, forgetting

# Task 0 is learnt to 0.8, improves to 0.9 while task 1 is learnt, and falls to 0.6.
LOWER = [[0.8], [0.9, 0.7], [0.6, 0.5, 1.0]]
FULL = [[0.8, 0.1, 0.9], [0.9, 0.7, 0.9], [0.6, 0.5, 1.0]]


@pytest.mark.parametrize("matrix", [LOWER, FULL])
def test_the_three_numbers(matrix: list[list[float]]) -> None:
    assert average_accuracy(matrix) == pytest.approx((0.6 + 0.5 + 1.0) / 3)
    assert backward_transfer(matrix) == pytest.approx(((0.6 - 0.8) + (0.5 - 0.7)) / 2)
    assert forgetting(matrix) == pytest.approx(((0.9 - 0.6) + (0.7 - 0.5)) / 2)


def test_accuracy_before_a_task_was_learnt_does_not_count() -> None:
    assert forgetting([[0.8, 0.9], [0.8, 0.7], [0.8, 0.7, 0.5]]) == pytest.approx(0.0)


def test_a_run_cut_short_counts_the_tasks_learnt() -> None:
    assert average_accuracy(FULL[:2]) == pytest.approx((0.9 + 0.7) / 2)
    assert backward_transfer(FULL[:2]) == pytest.approx(0.1)


def test_one_task_neither_transfers_nor_forgets() -> None:
    assert average_accuracy([[0.8, 0.2]]) == 0.8
    assert backward_transfer([[0.8]]) == 0.0
    assert forgetting([[0.8]]) == 0.0


@pytest.mark.parametrize("metric", [average_accuracy, backward_transfer, forgetting])
def test_incomplete_matrices_are_refused(metric: type) -> None:
    with pytest.raises(DataError, match="has no rows"):
        metric([])
    with pytest.raises(DataError, match="row 1 of the accuracy matrix has 1 entries"):
        metric([[0.8], [0.9]])
