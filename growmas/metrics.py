"""Metrics of a sequence of tasks: average accuracy, backward transfer and forgetting.

A matrix R holds in R[i][j] the accuracy on task j measured after learning task i, both from 0;
T is the number of rows, the tasks learnt so far. Only entries with j <= i are read, so a row may
stop after its own task or go on to tasks not yet learnt.
"""

from collections.abc import Sequence

from growmas.errors import DataError

Matrix = Sequence[Sequence[float]]


def average_accuracy(matrix: Matrix) -> float:
    """Return the mean accuracy over the tasks learnt, after the last of them: 1/T Σ_j R[T−1][j].

    ACC of Lopez-Paz and Ranzato, "Gradient Episodic Memory", NeurIPS 2017.

    Raises:
        DataError: If the matrix has no rows, or a row misses a task learnt by then.
    """
    tasks = _tasks(matrix)
    return sum(matrix[-1][:tasks]) / tasks


def backward_transfer(matrix: Matrix) -> float:
    """Return the mean change of accuracy since learning: 1/(T−1) Σ_{j<T−1} R[T−1][j] − R[j][j].

    BWT of Lopez-Paz and Ranzato, NeurIPS 2017; negative when tasks are forgotten. 0.0 for one
    task.

    Raises:
        DataError: If the matrix has no rows, or a row misses a task learnt by then.
    """
    return _mean_over_earlier(
        [matrix[-1][task] - matrix[task][task] for task in range(_tasks(matrix) - 1)]
    )


def forgetting(matrix: Matrix) -> float:
    """Return the mean drop from the best: 1/(T−1) Σ_{j<T−1} max_{j<=i<T−1} R[i][j] − R[T−1][j].

    Chaudhry et al., "Riemannian Walk for Incremental Learning", ECCV 2018, eq. 3, with the
    maximum over the time since the task was learnt. Negative if tasks ended better than they
    ever were; 0.0 for one task.

    Raises:
        DataError: If the matrix has no rows, or a row misses a task learnt by then.
    """
    last = _tasks(matrix) - 1
    return _mean_over_earlier(
        [
            max(matrix[time][task] for time in range(task, last)) - matrix[last][task]
            for task in range(last)
        ]
    )


def _mean_over_earlier(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _tasks(matrix: Matrix) -> int:
    if not matrix:
        raise DataError("the accuracy matrix has no rows: measure at least one task first")
    for task, row in enumerate(matrix):
        if len(row) <= task:
            raise DataError(
                f"row {task} of the accuracy matrix has {len(row)} entries: after learning task "
                f"{task} it needs the accuracy on each of the {task + 1} tasks learnt by then"
            )
    return len(matrix)
