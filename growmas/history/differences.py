"""Differences of two networks: after two tasks of one run, or of two runs."""

from collections.abc import Mapping

from growmas.history.records import GroupDiff, GroupImportance, NetworkState, RunDiff, TopologyDiff

UnitImportance = Mapping[str, Mapping[int, float]]
"""Group name -> unit id -> importance."""


def diff_tasks(
    before: NetworkState, after: NetworkState, *, importance: tuple[UnitImportance, UnitImportance]
) -> TopologyDiff:
    """Compare the network after one task with the network after another task of the same run.

    Args:
        before: The network after the first task.
        after: The network after the second task.
        importance: Importance of the units at both tasks' snapshots; empty where not measured.
    """
    first, second = importance
    return TopologyDiff(
        before=before.task,
        after=after.task,
        groups={
            name: _group_diff(units, after.units[name], first.get(name, {}), second.get(name, {}))
            for name, units in before.units.items()
        },
        parameters_before=before.parameters,
        parameters_after=after.parameters,
        metrics_before=before.metrics,
        metrics_after=after.metrics,
        flops_before=before.flops,
        flops_after=after.flops,
        importance_before=_measured(before),
        importance_after=_measured(after),
    )


def diff_runs(before: NetworkState, after: NetworkState) -> RunDiff:
    """Compare the network of one run with the network of another run.

    Args:
        before: The first run's network after a task, from `TopologyHistory.at`.
        after: The second run's network after a task.
    """
    names = dict.fromkeys([*before.groups, *after.groups])
    pairs = {name: (before.groups.get(name), after.groups.get(name)) for name in names}
    return RunDiff(before, after, pairs)


def _group_diff(
    before: tuple[int, ...],
    after: tuple[int, ...],
    first: Mapping[int, float],
    second: Mapping[int, float],
) -> GroupDiff:
    kept = tuple(sorted({*before} & {*after}))
    return GroupDiff(
        kept=kept,
        born=tuple(sorted({*after} - {*before})),
        pruned=tuple(sorted({*before} - {*after})),
        moved={
            unit: (first[unit], second[unit]) for unit in kept if unit in first and unit in second
        },
    )


def _measured(state: NetworkState) -> dict[str, GroupImportance]:
    return {
        name: group.importance
        for name, group in state.groups.items()
        if group.importance is not None
    }
