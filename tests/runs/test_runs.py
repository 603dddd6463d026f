import json

import pytest

from growmas.errors import RunError
from growmas.runs import (
    RunResult,
    TraceWriter,
    find_history,
    find_run,
    list_runs,
    read_result,
    read_trace,
)
from growmas.runs.finding import find_directory

METRICS = {
    "name": "digits-smoke", "method": "mas", "stream": "digits split", "scenario": "task",
    "seed": 0, "tasks": ["a", "b"], "accuracy": [[0.9], [0.8, 0.7]], "parameters": 10,
    "units": {"fc1": 4},
    "seconds": 1.5, "status": "finished", "started": 1e9,
}  # fmt: skip
HEADER = {"stream": "s", "steps": 4, "tasks": ["a", "b"], "true_shifts": [[2, 2, 1]]}


def run_at(folder, **changes):
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(METRICS | changes))
    (folder / "history.db").write_bytes(b"")
    return folder


def test_a_result_is_read_as_it_was_written_and_by_older_versions(tmp_path):
    result = read_result(run_at(tmp_path / "run", later="ignored"))
    assert result.average_accuracy == pytest.approx(0.75)
    assert result.forgetting == pytest.approx(0.1)
    assert (result.cpu_seconds, result.context_size, result.learnt) == (0.0, 0, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"accuracy": [[0.9], [0.8]]}, {"accuracy": [[float("nan")]]}, {"accuracy": {"a": 1}},
        {"units": [1]}, {"seed": "0"}, {"tasks": None}, {"seconds": True}, {"started": "today"},
        {"accuracy": [["0.9"]]}, {"status": 3}, {"parameters": -1},
    ],
)  # fmt: skip
def test_damaged_values_are_named(tmp_path, changes):
    with pytest.raises(RunError, match=f"damaged: {next(iter(changes))} cannot be read"):
        read_result(run_at(tmp_path / "run", **changes))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_damaged_files_are_errors_of_growmas(tmp_path, text):
    folder = run_at(tmp_path / "run")
    (folder / "metrics.json").write_bytes(text)
    with pytest.raises(RunError):
        read_result(folder)
    with pytest.raises(RunError):
        RunResult.read({"name": "x"})


def test_one_unreadable_run_is_one_entry(tmp_path):
    run_at(tmp_path / "a")
    run_at(tmp_path / "b", seed="x")
    run_at(tmp_path / "c", started=1e300)
    entries = {entry.directory.rpartition("/")[2]: entry for entry in list_runs(tmp_path)}
    assert [entries[name].result is None for name in "abc"] == [False, True, True]
    assert "seed cannot be read" in entries["b"].problem
    assert json.loads(json.dumps(entries["b"].as_data()))["status"] == "unreadable"


def test_runs_are_found_by_path_and_by_name(tmp_path):
    folder = run_at(tmp_path / "runs" / "one")
    assert find_run("one", tmp_path / "runs") == find_run(str(folder), tmp_path) == folder
    assert find_history("one", tmp_path / "runs") == folder / "history.db"
    with pytest.raises(RunError, match="did you mean 'one'"):
        find_run("onne", tmp_path / "runs")


def test_a_sweep_is_not_a_run(tmp_path):
    sweep = tmp_path / "runs" / "my sweep"
    (sweep / "seed=1").mkdir(parents=True)
    (sweep / "sweep.json").write_text('{"runs": []}')
    ways = (find_run, find_history, find_directory)
    for find in ways:
        with pytest.raises(RunError, match=r"^my sweep is a sweep: name a run, or see all of them"):
            find("my sweep", tmp_path / "runs")
    (sweep / "seed=1" / "metrics.json").write_text("{}")
    for find in ways:
        with pytest.raises(RunError) as refused:
            find(str(sweep), tmp_path / "runs")
        assert f"such as '{sweep / 'seed=1'}', or" in str(refused.value)
        assert str(refused.value).endswith(f"growmas compare '{sweep}'")
    assert find_run(sweep / "seed=1", tmp_path / "runs") == sweep / "seed=1"
    with pytest.raises(RunError, match=r"sweep\.json is a file: give the directory of a run"):
        find_directory(sweep / "sweep.json", tmp_path)


def test_a_trace_is_continued_where_it_was_stopped(tmp_path):
    shift = {"kind": "peak", "onset": 2, "action": "opened", "reason": "said so", "step": 2}
    for first, last in ((0, 3), (2, 4)):  # step 2 is learnt again
        with TraceWriter(tmp_path, HEADER, start=first) as trace:
            for step in range(first, last):
                context, width = ("c1", 4) if step < 2 else ("c2", 6)
                event = shift if step == 2 else None
                trace.write(step, 0.5, context=context, widths={"fc": width}, shift=event)
    read = read_trace(tmp_path)
    assert (len(read.losses), read.contexts) == (4, ("c1", "c2"))
    assert [(event.step, event.action, event.context) for event in read.events] == [
        (2, "opened", "c2")
    ]
    assert read.widths == ((0, {"fc": 4}), (2, {"fc": 6}))


@pytest.mark.parametrize("text", [b"", b"\n", b"[]\n", b"{}\n", b"\xff\n", b'{"steps": []}\n1\n'])
def test_a_damaged_trace_is_an_error_of_growmas(tmp_path, text):
    (tmp_path / "stream.jsonl").write_bytes(text)
    with pytest.raises(RunError, match="damaged"):
        read_trace(tmp_path)
