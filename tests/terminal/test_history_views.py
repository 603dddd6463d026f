"""Printed tables of a history: their whole text, and sums of the printed numbers."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_structure import FakeStructure
from printing import printed

from growmas.errors import HistoryError
from growmas.history import TopologyHistory, TopologyTracker
from growmas.history.store import Store
from growmas.terminal import (
    importance,
    lifelines,
    log,
    network,
    run_diff,
    survival,
    task_diff,
    topology,
    unit,
)
from growmas.terminal.naming import read_unit
from growmas.terminal.numbers import number_table, pairs
from growmas.terminal.symbols import symbols

VIEWS: dict[str, tuple[str, Callable[[TopologyHistory], tuple[Any, Any, Any]]]] = {
    "show": ("lives", lambda h: (topology.summarise(h), topology.render_history, topology)),
    "log": ("lives", lambda h: (log.summarise(h, number=6), log.render_log, log)),
    "log_reverse": ("lives", lambda h: (log.summarise(h, reverse=True), log.render_log, log)),
    "diff": (
        "lives",
        lambda h: (task_diff.summarise(h, "1", "5"), task_diff.render_task_diff, task_diff),
    ),
    "diff_runs": (
        "lives",
        lambda h: (
            run_diff.summarise(h, h, names=("runs/one", "runs/two")),
            run_diff.render_run_diff,
            run_diff,
        ),
    ),
    "unit": ("lives", lambda h: (unit.summarise(h, "features.0", 3), unit.render_unit, unit)),
    "lifelines": (
        "lives",
        lambda h: (lifelines.summarise(h), lifelines.render_lifelines, lifelines),
    ),
    "lifelines_long": (
        "long",
        lambda h: (lifelines.summarise(h), lifelines.render_lifelines, lifelines),
    ),
    "survival": ("lives", lambda h: (survival.summarise(h), survival.render_survival, survival)),
    "survival_long": (
        "long",
        lambda h: (survival.summarise(h), survival.render_survival, survival),
    ),
    "graph": ("residual", lambda h: (network.summarise(h), network.render_network, network)),
    "importance": (
        "lives",
        lambda h: (importance.summarise(h), importance.render_importance, importance),
    ),
    "importance_long": (
        "long",
        lambda h: (importance.summarise(h), importance.render_importance, importance),
    ),
}


@pytest.mark.parametrize("view", VIEWS)
def test_golden(
    view: str, request: pytest.FixtureRequest, check_golden: Callable[[str, str], None]
) -> None:
    fixture, make = VIEWS[view]
    summary, render, module = make(request.getfixturevalue(fixture))
    for width in (80, 120):
        for ascii in (False, True):
            text = printed(render(summary, ascii=ascii), width)
            assert max(map(len, text.splitlines())) <= width
            assert not ascii or text.isascii()
            check_golden(f"{view}_{width}_{'ascii' if ascii else 'unicode'}", text)
    assert json.loads(json.dumps(module.as_data(summary)))


def test_every_line_of_the_log_leads_from_one_width_to_the_next(lives: TopologyHistory) -> None:
    text = printed(log.render_log(log.summarise(lives, reverse=True), ascii=True), 120)
    widths = {"features.0": 12, "blocks.1.mlp.fc1": 9}
    for line in text.splitlines():
        found = re.search(r"^[|o+* -]+ (\S+) +(\d+) -> (\d+)(?=  )", line)
        if found:
            born, died = (sum(map(int, re.findall(rf"  \{s}(\d+) ", line))) for s in "+-")
            assert int(found[2]) == widths[found[1]]
            assert int(found[3]) == widths[found[1]] + born - died
            widths[found[1]] = int(found[3])
    assert widths == {group.name: group.living for group in lives.groups()}


def test_the_log_is_cut_where_it_was_asked_to_be(lives: TopologyHistory) -> None:
    everything = log.summarise(lives)
    entries = [entry for task in everything.tasks for entry in task.entries]
    assert [entry.event.event for entry in entries] == [19, 16, 13, 12, 9, 8, 5, 4]
    newest = log.summarise(lives, number=3)
    assert [e.event.event for t in newest.tasks for e in t.entries] == [19, 16, 13]
    assert newest.left_out == 5
    assert newest.tasks[-1].task.name == "permutation 4"
    group = log.summarise(lives, group="blocks.1.mlp.fc1")
    assert [e.event.event for t in group.tasks for e in t.entries] == [16, 12, 8, 4]
    task = log.summarise(lives, task="permutation 2", reverse=True)
    assert [(t.task.name, len(t.entries)) for t in task.tasks] == [("permutation 2", 2)]
    assert log.summarise(lives, task="-2").tasks[0].task.name == "permutation 6"


def test_causes_are_in_the_data(lives: TopologyHistory) -> None:
    data: Any = log.as_data(log.summarise(lives, task="permutation 2"))
    causes = [entry["cause"] for entry in data["tasks"][0]["entries"]]
    assert causes == [
        {"policy": "PruneBelow", "threshold": 0.1},
        {"policy": "GrowPolicy", "value": 4},
    ]


def test_what_a_diff_prints_adds_up(lives: TopologyHistory) -> None:
    summary = task_diff.summarise(lives, "1", "4")
    text = printed(task_diff.render_task_diff(summary, ascii=True), 120)
    pattern = r"^(\S+(?: units)?) +(\d+) +(\d+) +(\d+) +(?:\+(\d+)|\.) +(?:-(\d+)|\.)"
    rows = {m[1]: [int(n or 0) for n in m.groups()[1:]] for m in re.finditer(pattern, text, re.M)}
    assert rows.keys() == {"features.0", "blocks.1.mlp.fc1", "all units"}
    for before, after, kept, born, pruned in rows.values():
        assert kept + pruned == before
        assert kept + born == after
    *parts, total = rows.values()
    assert [sum(column) for column in zip(*parts, strict=True)] == total
    assert {name: row[1] for name, row in rows.items() if name != "all units"} == {
        name: by_task["permutation 5"] for name, by_task in lives.widths().items()
    }


def test_shares_of_importance_are_of_the_store(lives: TopologyHistory) -> None:
    move = task_diff.summarise(lives, "1", "4").moves["features.0"]
    before = lives.importance("permutation 2")["features.0"]
    after = lives.importance("permutation 5")["features.0"]
    assert move.gone + sum(share for share, _ in move.units.values()) == pytest.approx(1)
    assert move.newborn + sum(share for _, share in move.units.values()) == pytest.approx(1)
    for unit_id, shares in move.units.items():
        wanted = before[unit_id] / sum(before.values()), after[unit_id] / sum(after.values())
        assert shares == pytest.approx(wanted)


def test_a_diff_lists_the_metrics_that_changed_most(tmp_path: Path) -> None:
    many = {f"loss/{i}": float(i) for i in range(40)}
    text = printed(
        number_table(
            pairs({"units": (3, 5)}, many, {k: 2 * v for k, v in many.items()}, []),
            ("a", "b"),
            symbols(ascii=True),
            keep=1,
        ),
        80,
    )
    assert re.search(r"units +3 +5 +\+2 \(x1\.67\)", text)
    assert "loss/39" in text
    assert "loss/27" not in text
    assert "... 28 changed less" in text


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("name", ["lives", "long"])
def test_lifelines_count_every_unit_once(
    name: str, every: bool, request: pytest.FixtureRequest
) -> None:
    history: TopologyHistory = request.getfixturevalue(name)
    summary = lifelines.summarise(history, every=every)
    widths = history.widths()
    for record, group in zip(history.groups(), summary.groups, strict=True):
        ids = [unit_id for life in group.lives for unit_id in life.units]
        assert sorted(ids) == sorted(line.unit for line in history.lifelines(record.name))
        assert len(ids) == record.ever
        for index, task in enumerate(summary.tasks):
            alive = sum(
                life.alive[index - life.birth] for life in group.lives if index >= life.birth
            )
            assert alive == widths[record.name][task]
        if every:
            text = printed(
                lifelines.render_lifelines(
                    lifelines.summarise(history, group=group.group, every=True), ascii=True
                ),
                120,
            )
            lines = [line for line in text.splitlines() if re.match(r" +1  #\d", line)]
            assert len(lines) == record.ever
            assert sum(line.endswith(">") for line in lines) == record.living
            assert sum(line.endswith("x") for line in lines) == record.ever - record.living


def test_frozen_stretches_are_where_the_store_has_them(lives: TopologyHistory) -> None:
    group = lifelines.summarise(lives, group="features.0").groups[0]
    (held,) = (life for life in group.lives if any(life.frozen))
    assert held.units == (7, 8)
    assert held.frozen == (0, 0, 2, 2, 0, 0, 0)


@pytest.mark.parametrize("group", [None, "features.0"])
def test_survival_is_of_all_who_were_born(lives: TopologyHistory, group: str | None) -> None:
    summary = survival.summarise(lives, group=group)
    groups = [each for each in lives.groups() if group in (None, each.name)]
    assert sum(cohort.size for cohort in summary.cohorts) == sum(each.ever for each in groups)
    assert summary.born[-1] == sum(each.ever for each in groups)
    assert summary.alive[-1] == sum(each.living for each in groups)
    text = printed(survival.render_survival(summary, ascii=True), 120)
    for cohort in summary.cohorts[1:]:
        line = next(line for line in text.splitlines() if line.startswith(f"{cohort.task} "))
        cells = re.sub(r"^ +[\d,]+ ", "", line.removeprefix(cohort.task))
        percent = [int(cell) for cell in re.findall(r"(\d+)\d", cells)]
        assert percent == [round(100 * n / cohort.size) for n in cohort.alive.values()]


def test_only_all_is_100_percent_and_only_none_is_0(tmp_path: Path) -> None:
    structure = FakeStructure({"fc": 1000})
    with TopologyTracker(structure, tmp_path / "run.db") as tracker:
        structure.begin_task("a")
        structure.edit(prune={"fc": [0]})
        tracker.snapshot()
        structure.begin_task("b")
        structure.edit(prune={"fc": list(range(1, 999))})
        tracker.snapshot()
    with TopologyHistory(tmp_path / "run.db") as history:
        text = printed(survival.render_survival(survival.summarise(history), ascii=True), 80)
    assert re.search(r"the beginning +1,000 + 999 +10\n", text)


def test_loads_are_as_the_formula_has_them(lives: TopologyHistory) -> None:
    summary = importance.summarise(lives)
    assert summary.tasks == tuple(f"permutation {i}" for i in range(1, 7))
    assert summary.left_out == ("permutation 7",)
    for group, loads in summary.groups.items():
        for task, load in zip(summary.tasks, loads, strict=True):
            assert load is not None
            values = list(lives.importance(task)[group].values())
            total = sum(values)
            assert load.units == len(values)
            assert load.total == pytest.approx(total)
            assert load.total == pytest.approx(lives.importance_summary()[group][task].total)
            assert load.spread == pytest.approx(total**2 / len(values) / sum(v * v for v in values))
            assert load.free == sum(v < total / len(values) / 10 for v in values)


def test_a_group_that_nothing_needs_is_all_free() -> None:
    load = importance.load_of([0.0, 0.0, 0.0])
    assert (load.units, load.total, load.spread, load.free) == (3, 0.0, 0.0, 3)


def test_the_network_is_drawn_with_all_its_parts(residual: TopologyHistory) -> None:
    summary = network.summarise(residual)
    text = printed(network.render_network(summary, ascii=True), 120)
    counts = re.findall(r"-> \d+ +([\d,]+) ", text)
    assert sum(int(count.replace(",", "")) for count in counts) == summary.parameters
    said = [layer.name for node in summary.nodes.values() for layer in node.layers]
    assert sorted(said) == sorted(layer.name for layer in residual.layers())
    operations = [kind for node in summary.nodes.values() for kind in node.then]
    operations += [node.operation.kind for node in summary.nodes.values() if node.operation]
    assert sorted(operations) == sorted(each.kind for each in residual.operations())


def test_a_unit_of_the_last_task_has_no_importance_yet(lives: TopologyHistory) -> None:
    text = printed(unit.render_unit(unit.summarise(lives, "blocks.1.mlp.fc1", 15)), 80)
    assert "in place of  #2" in text
    summary = unit.summarise(lives, "blocks.1.mlp.fc1", 2)
    assert summary.record.replaced_by == 15
    assert "replaced by  #15" in printed(unit.render_unit(summary), 80)


def test_a_units_worth_is_that_of_the_store(lives: TopologyHistory) -> None:
    summary = unit.summarise(lives, "features.0", 10)
    for worth in summary.measurements:
        values = lives.importance(worth.task)["features.0"]
        assert worth.importance == values[10]
        assert worth.of_mean == pytest.approx(values[10] * len(values) / sum(values.values()))
    assert summary.rank == 1 + sum(value > values[10] for value in values.values())
    text = printed(unit.render_unit(summary, ascii=True), 80)
    shown = re.findall(r"^permutation \d +([\d.]+) ", text, re.M)
    assert [float(number) for number in shown] == [
        worth.importance for worth in summary.measurements
    ]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda h: log.summarise(h, task="permutaton 3"), "did you mean 'permutation 3'"),
        (lambda h: log.summarise(h, task="9"), "has no task '9'.*or a number, 0 to 6"),
        (lambda h: log.summarise(h, group="feature"), "no group 'feature'; did you mean 'feat"),
        (lambda h: task_diff.summarise(h, "0", "12"), "no task '12'"),
        (lambda h: unit.summarise(h, "feature.0", 3), "did you mean 'features.0'"),
        (lambda h: unit.summarise(h, "features.0", 99), "unit 99 does not exist in group"),
        (lambda h: lifelines.summarise(h, group="fc"), "no group 'fc'"),
        (lambda h: survival.summarise(h, group="fc"), "no group 'fc'"),
        (lambda h: network.summarise(h, task="x"), "no task 'x'"),
        (lambda h: read_unit("fc1/17"), "'fc1/17' does not name a unit: write GROUP#ID"),
    ],
)
def test_mistakes_get_the_nearest_valid_name(
    lives: TopologyHistory, ask: Callable[[TopologyHistory], object], message: str
) -> None:
    with pytest.raises(HistoryError, match=message):
        ask(lives)


def test_a_history_without_importance_says_how_to_get_it(residual: TopologyHistory) -> None:
    with pytest.raises(HistoryError, match="give snapshots omega"):
        importance.summarise(residual)


@pytest.mark.parametrize(
    "ask",
    [
        topology.summarise,
        log.summarise,
        lambda h: task_diff.summarise(h, "0", "1"),
        lambda h: run_diff.summarise(h, h, names=("a", "b")),
        lambda h: unit.summarise(h, "fc", 0),
        lifelines.summarise,
        survival.summarise,
        network.summarise,
        importance.summarise,
    ],
)
def test_an_empty_history_says_that_it_has_only_just_begun(
    ask: Callable[[TopologyHistory], object], tmp_path: Path
) -> None:
    Store.create(tmp_path / "run.db", overwrite=False).close()
    with (
        TopologyHistory(tmp_path / "run.db") as history,
        pytest.raises(HistoryError, match=r"has no task yet|has no group 'fc'; it has none"),
    ):
        ask(history)


@pytest.mark.parametrize(
    ("reason", "cause", "said"),
    [
        ("why not", {"policy": "Mine"}, "why not"),
        ("", {"policy": "Mine", "value": 3}, "policy Mine"),
    ],
)
def test_the_log_says_why(tmp_path: Path, reason: str, cause: dict[str, Any], said: str) -> None:
    structure = FakeStructure({"fc": 4})
    with TopologyTracker(structure, tmp_path / "run.db"):
        structure.edit(grow={"fc": 1}, reason=reason, cause=cause)
    with TopologyHistory(tmp_path / "run.db") as history:
        assert f"{said}" in printed(log.render_log(log.summarise(history)), 80)


def test_many_groups_share_a_lane(tmp_path: Path) -> None:
    structure = FakeStructure({f"blocks.{i}.fc": 4 for i in range(20)})
    with TopologyTracker(structure, tmp_path / "run.db") as tracker:
        structure.edit(grow={f"blocks.{i}.fc": 1 for i in range(20)})
        tracker.snapshot("[bold]a")
    with TopologyHistory(tmp_path / "run.db") as history:
        text = printed(log.render_log(log.summarise(history)), 80)
    assert text.startswith("20 groups\n│  [bold]a  finished")
    assert text.count("4 → 5  +1") == 20


@pytest.mark.parametrize("width", [40, 60, 80])
def test_differences_break_no_word_and_lose_no_number(lives: TopologyHistory, width: int) -> None:
    text = printed(task_diff.render_task_diff(task_diff.summarise(lives, "1", "4")), width)
    assert max(map(len, text.splitlines())) <= width
    words = set(re.split(r"[^\w]+", " ".join(text.split())))
    assert {"units", "importance", "pruned", "parameters", "change"} <= words
    narrow = re.search(r"^features\.0 +(\d+) → (\d+) +\+8 −5$", text, re.MULTILINE)
    wide = re.search(r"^features\.0 +(\d+) +(\d+) +10 +\+8 +−5 ", text, re.MULTILINE)
    found = narrow or wide
    assert found is not None
    assert found.groups() == ("15", "18")
