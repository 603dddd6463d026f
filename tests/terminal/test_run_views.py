import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from printing import printed

from growmas.errors import RunError
from growmas.runs import RunEntry, RunResult, compare
from growmas.runs.listing import select
from growmas.terminal.comparison import render_comparison
from growmas.terminal.runs import render_runs


def _result(name: str, accuracy: list[list[float]], **changes: object) -> dict[str, Any]:
    return {
        "name": name,
        "method": "mas",
        "stream": "split_digits",
        "scenario": "task",
        "seed": 0,
        "tasks": ["0/1", "2/3", "4/5"],
        "accuracy": accuracy,
        "parameters": 123456,
        "units": {"fc1": 96, "fc2": 80},
        "seconds": 61.24,
        "status": "finished",
    } | changes


RESULTS = [
    _result("digits-finetune", [[0.99], [0.6, 0.98], [0.5, 0.7, 0.99]], method="finetune"),
    _result("digits-mas", [[0.99], [0.97, 0.95], [0.96, 0.94, 0.93]], seconds=1234.5),
    _result(
        "digits-mas-grow",
        [[0.99], [0.98, 0.98], [0.98, 0.98, 0.97]],
        method="mas+grow",
        units={"features.0": 96, "features.3": 128, "fc": 256},
    ),
    _result("digits-deep", [[0.9], [0.9, 0.9], [0.9, 0.9, 0.9]], units=dict.fromkeys("abcdef", 8)),
    _result("digits-slow", [[0.99], [0.98, 0.98]], status="unfinished", seed=12),
    _result("digits-new", [], status="unfinished", seed=13),
]

NOW = 1_772_400_000.0
ENTRIES = [
    RunEntry(
        f"runs/2026-03-01-{each['name']}",
        "2026-03-01 20:40",
        RunResult.read(each | {"started": NOW - 50 * 60.0**i}),
    )
    for i, each in enumerate(RESULTS[:3])
] + [
    RunEntry(f"runs/2026-03-01-{each['name']}", "2026-03-01 20:40", RunResult.read(each))
    for each in RESULTS[3:]
]


def _compared(results: list[dict[str, Any]] = RESULTS) -> Any:
    return compare(RunResult.read(each) for each in results)


@pytest.mark.parametrize("ascii", [False, True])
@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("view", ["comparison", "runs"])
def test_golden(
    view: str, width: int, ascii: bool, check_golden: Callable[[str, str], None]
) -> None:
    drawn = (
        render_comparison(_compared(), ascii=ascii)
        if view == "comparison"
        else render_runs(ENTRIES, ascii=ascii, now=NOW)
    )
    text = printed(drawn, width)
    assert max(map(len, text.splitlines())) <= width
    assert not ascii or text.isascii()
    check_golden(f"{view}_{width}_{'ascii' if ascii else 'unicode'}", text)


def test_no_run_is_called_the_best() -> None:
    data = json.loads(json.dumps(_compared().as_data()))
    assert not [key for run in data["runs"] for key in run if "best" in key or "least" in key]
    assert data["runs"][5]["average_accuracy"] is None
    assert data["comparable"] is True


def test_printed_numbers_are_those_of_the_data() -> None:
    lines = printed(render_comparison(_compared(), ascii=True), 120).splitlines()
    for run in _compared().runs[:5]:
        assert run.average_accuracy is not None
        assert run.forgetting is not None
        line = next(line for line in lines if line.startswith(f"{run.name} "))
        assert f"{100 * run.average_accuracy:.1f}" in line
        assert f"{100 * run.forgetting:.1f}" in line


@pytest.mark.parametrize("changes", [{"stream": "permuted"}, {"scenario": "class"}])
def test_runs_of_different_kinds_have_no_winner(changes: dict[str, str]) -> None:
    results = [RESULTS[0], {**RESULTS[1], **changes}]
    text = printed(render_comparison(_compared(results), ascii=True), 120)
    assert "These runs do not compare: " in text
    assert "*" not in text
    assert _compared(results).as_data()["comparable"] is False


def test_a_run_alone_wins_nothing() -> None:
    assert "*" not in printed(render_comparison(_compared(RESULTS[:1]), ascii=True), 80)


def test_missing_keys_are_all_named() -> None:
    broken = {key: value for key, value in RESULTS[0].items() if key not in ("seed", "units")}
    with pytest.raises(RunError, match="'digits-finetune' lack seed, units"):
        RunResult.read(broken)


def test_the_list_of_runs_as_data() -> None:
    entry = json.loads(json.dumps(ENTRIES[4].as_data()))
    assert (entry["tasks_learnt"], entry["tasks"], entry["status"]) == (2, 3, "unfinished")
    assert entry["directory"] == "runs/2026-03-01-digits-slow"


def test_a_run_that_cannot_be_read_is_a_row_with_its_reason() -> None:
    text = printed(render_runs([RunEntry("runs/x", "", None, "x is damaged"), ENTRIES[0]]), 100)
    assert "unreadable" in text
    assert "x is damaged" in text
    assert "2026-03-01-digits-finetune" in text
    assert text.splitlines()[-2:] == ["in runs", "x is damaged"]


def test_a_narrow_terminal_shows_the_names_whole() -> None:
    text = printed(render_runs(ENTRIES, now=NOW), 40)
    assert max(map(len, text.splitlines())) <= 40
    assert [line.split()[0] for line in text.splitlines()[2:5]] == [
        "2026-03-01-digits-", "finetune", "2026-03-01-digits-mas",
    ]  # fmt: skip


def test_runs_of_no_common_folder_keep_their_path() -> None:
    mixed = [replace(ENTRIES[0], directory="a/x"), replace(ENTRIES[1], directory="b/y")]
    text = printed(render_runs(mixed, now=NOW), 100)
    assert "a/x" in text
    assert "\nin " not in text


@pytest.mark.parametrize(
    ("sort", "words", "names"),
    [
        ("accuracy", ["MAS"], ["new", "deep", "mas", "grow", "slow"]),
        ("seed", ["split", "task", "unfinished"], ["slow", "new"]),
        ("name", ["grow"], ["grow"]),
        ("method", ["3-01-digits-m"], ["mas", "grow"]),
        ("started", ["nothing of it"], []),
    ],
)
def test_runs_are_sorted_and_filtered(sort: str, words: list[str], names: list[str]) -> None:
    found = select(ENTRIES, sort=sort, words=words)
    assert [entry.directory.rpartition("-")[2] for entry in found] == names


def test_a_key_that_does_not_exist_is_named() -> None:
    with pytest.raises(RunError, match="did you mean 'accuracy'"):
        select(ENTRIES, sort="acuracy")
