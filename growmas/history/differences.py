"""Two networks side by side: of two tasks, or of two runs."""

from typing import TYPE_CHECKING

from growmas.history.records import (
    GroupDiff,
    GroupImportance,
    GroupState,
    NetworkState,
    RunDiff,
    TopologyDiff,
)

if TYPE_CHECKING:
    from growmas.history.reader import TopologyHistory

Values = dict[int, float]


def diff(history: "TopologyHistory", a: str | int, b: str | int) -> TopologyDiff:
    """See `TopologyHistory.diff`."""
    with history.frozen():
        before, after = history.at(a), history.at(b)
        old, new = history.importance(before.task), history.importance(after.task)
        groups = {
            name: _group_diff(units, after.units[name], old.get(name, {}), new.get(name, {}))
            for name, units in before.units.items()
        }
        summary = _importance(history)
    return TopologyDiff(
        before=before.task,
        after=after.task,
        groups=groups,
        parameters_before=before.parameters,
        parameters_after=after.parameters,
        metrics_before=before.metrics,
        metrics_after=after.metrics,
        flops_before=before.flops,
        flops_after=after.flops,
        importance_before=summary.get(before.task, {}),
        importance_after=summary.get(after.task, {}),
    )


def diff_runs(
    first: "TopologyHistory",
    second: "TopologyHistory",
    first_task: str | int | None = None,
    second_task: str | int | None = None,
) -> RunDiff:
    """One run after a task against another run after a task.

    Args:
        first: A run.
        second: Another.
        first_task: A task of the first run; None takes the last.
        second_task: A task of the second run; None takes the last.

    Raises:
        HistoryError: No such task.
    """
    with first.frozen(), second.frozen():
        before, after = first.at(first_task), second.at(second_task)
        left, right = _groups(first, before), _groups(second, after)
    names = dict.fromkeys([*left, *right])
    return RunDiff(before, after, {name: (left.get(name), right.get(name)) for name in names})


def _group_diff(
    before: tuple[int, ...], after: tuple[int, ...], old: Values, new: Values
) -> GroupDiff:
    kept = tuple(sorted({*before} & {*after}))
    return GroupDiff(
        kept=kept,
        born=tuple(sorted({*after} - {*before})),
        pruned=tuple(sorted({*before} - {*after})),
        moved={unit: (old[unit], new[unit]) for unit in kept if unit in old and unit in new},
    )


def _importance(history: "TopologyHistory") -> dict[str, dict[str, GroupImportance]]:
    """Task to group to importance."""
    result: dict[str, dict[str, GroupImportance]] = {}
    for group, by_task in history.importance_summary().items():
        for task, numbers in by_task.items():
            result.setdefault(task, {})[group] = numbers
    return result


def _groups(history: "TopologyHistory", state: NetworkState) -> dict[str, GroupState]:
    importance = _importance(history).get(state.task, {})
    result = {}
    for name, by_task in history.turnover().items():
        names = list(by_task)
        sofar = [by_task[task] for task in names[: names.index(state.task) + 1]]
        born, pruned = sum(t.born for t in sofar), sum(t.died for t in sofar)
        ever = sofar[0].before + born
        result[name] = GroupState(sofar[-1].width, ever, born, pruned, importance.get(name))
    return result
