"""Loggers: the numbers of a run, read back by the programs that they are written for."""

import csv
import json
import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from growmas import Observer, TopologyHistory
from growmas.config import load_config
from growmas.errors import ConfigError, RunError
from growmas.experiment import run_experiment
from growmas.loggers import RunLogger, build_loggers
from growmas.runs import RunResult
from growmas.runs.directory import read_run_id
from growmas.runs.observer import RunBegun, RunEnded, TaskDone

SMALL = ["stream.tasks=2", "stream.limit=20", "training.epochs=2"]
SMOKE = "configs/digits_smoke.yaml"
LAST = 16  # training steps: two tasks, two epochs of 4 batches

Table = dict[tuple[int, str], float]


class Stops(Observer):
    """Stops a run after its first task, and keeps what it was told."""

    def __init__(self, *, stop: bool = True) -> None:
        self.told: list[object] = []
        self._stop = stop

    def run_begun(self, begun: RunBegun) -> None:
        self.told.append(begun)

    def task_done(self, done: TaskDone) -> None:
        self.told.append(done)
        if self._stop and done.index == 0:
            signal.raise_signal(signal.SIGTERM)

    def note(self, text: str) -> None:
        self.told.append(text)

    def run_ended(self, ended: RunEnded) -> None:
        self.told.append(ended)


def stopped_and_resumed(folder: Path, log: str) -> RunResult:
    """Run an experiment that is stopped after its first task, then continued."""
    experiment = load_config(SMOKE, [*SMALL, f"log={log}"])
    with pytest.raises(SystemExit):
        run_experiment(experiment, folder, observer=Stops())
    return run_experiment(experiment, folder, resume=True)


def read_table(folder: Path) -> list[dict[str, str]]:
    """The rows of a run's table."""
    return list(csv.DictReader((folder / "log" / "scalars.csv").read_text().splitlines()))


def wanted(folder: Path) -> Table:
    """The numbers of the history by step and name, as loggers write them."""
    table: Table = {}
    with TopologyHistory(folder / "history.db") as history:
        ends = {}
        for each in history.scalars():
            table |= {(each.step, name): value for name, value in each.values.items()}
            ends[each.task] = each.step
        for task, step in ends.items():
            for name, value in history.metrics(task).items():
                table[step, name] = value
            for group, widths in history.widths().items():
                table[step, f"widths/{group}"] = widths[task]
        for group, by_task in history.turnover().items():
            table[LAST, f"births/{group}"] = sum(each.born for each in by_task.values())
            table[LAST, f"deaths/{group}"] = sum(each.died for each in by_task.values())
    return table


def assert_holds(found: Table, folder: Path, *, digits: float = 1e-12) -> None:
    """Every number of the history is there, and no other at these steps."""
    table = wanted(folder)
    assert {step for step, _ in found} == {0, *(step for step, _ in table)}
    assert table.keys() <= found.keys()
    for at, value in table.items():
        assert found[at] == pytest.approx(value, rel=digits), at
    assert found[LAST, "births/fc1"] > 0
    assert found[LAST, "deaths/fc1"] > 0


def test_a_table_of_a_stopped_run_is_that_of_the_whole_run(tmp_path: Path) -> None:
    tables = []
    for name in ("parts", "whole"):
        if name == "parts":
            stopped_and_resumed(tmp_path / name, "[csv]")
        else:
            run_experiment(load_config(SMOKE, [*SMALL, "log=[csv]"]), tmp_path / name)
        tables.append((tmp_path / name / "log" / "scalars.csv").read_text())
    assert tables[0] == tables[1]
    rows = list(csv.DictReader(tables[0].splitlines()))
    found = {(int(row["step"]), row["name"]): float(row["value"]) for row in rows}
    assert len(found) == len(rows), "a number is there once"
    assert_holds(found, tmp_path / "parts")
    assert {row["epoch"] for row in rows if row["name"] == "loss"} == {"1", "2"}


def test_what_was_lost_after_a_checkpoint_is_written_again(tmp_path: Path) -> None:
    """A process killed between the checkpoint and the logger leaves a gap, or lines too many."""
    folder = tmp_path / "run"
    experiment = load_config(SMOKE, [*SMALL, "log=[csv]"])
    with pytest.raises(SystemExit):
        run_experiment(experiment, folder, observer=Stops())
    table = folder / "log" / "scalars.csv"
    lines = table.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("8,")]
    table.write_text("".join([*kept, "12,5/6/7/8/9,1,loss,1.0\r\n", "13,bro"]))
    run_experiment(experiment, folder, resume=True)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    found = {(int(row["step"]), row["name"]): float(row["value"]) for row in rows}
    assert len(found) == len(rows)
    assert_holds(found, folder)


def test_event_files_hold_the_numbers_and_figures(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    pytest.importorskip("resvg_py")
    stopped_and_resumed(tmp_path / "run", "[tensorboard]")
    read = accumulators.EventAccumulator(str(tmp_path / "run" / "log" / "tensorboard"))
    read.Reload()
    tags = read.Tags()
    found = {(each.step, tag): each.value for tag in tags["scalars"] for each in read.Scalars(tag)}
    assert_holds(found, tmp_path / "run", digits=1e-6)
    assert {*tags["images"]} == {"topology/widths", "topology/lineage"}
    pictures = read.Images("topology/widths")
    assert [picture.step for picture in pictures] == [8, LAST]
    assert pictures[0].width > 900


def records(file: Path) -> Iterator[Any]:
    """The records of a file of wandb: a header of 7 bytes, then LevelDB's log."""
    from wandb.proto import wandb_internal_pb2

    content, at, parts = file.read_bytes(), 7, b""
    assert content[:4] == b":W&B"
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def test_an_offline_run_of_wandb_is_continued_under_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    stopped_and_resumed(tmp_path / "run", "[{kind: wandb, project: mine, tags: [a]}]")
    files = sorted((tmp_path / "run" / "log" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    found: Table = {}
    figures: set[tuple[int, str]] = set()
    for record in (record for file in files for record in records(file)):
        if record.HasField("run"):
            assert record.run.run_id == read_run_id(tmp_path / "run")
            assert record.run.project == "mine"
        if record.HasField("history"):
            items = {
                (each.key or "/".join(each.nested_key)): json.loads(each.value_json)
                for each in record.history.item
            }
            figures |= {(items["step"], name) for name in items if name.startswith("topology/")}
            found |= {(items["step"], name): value for name, value in items.items()}
    found = {at: value for at, value in found.items() if at not in figures}
    assert_holds(found, tmp_path / "run")
    assert {name for step, name in figures if step == LAST} >= {"topology/widths/path"}


@pytest.mark.filterwarnings("ignore")  # those of the libraries that it imports
def test_a_run_of_mlflow_is_found_again_in_its_database(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    stopped_and_resumed(tmp_path / "run", "[mlflow]")
    folder = (tmp_path / "run" / "log").resolve()
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("growmas").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["growmas.run"] == read_run_id(tmp_path / "run")
    assert run.data.params["method"] == "growmas"
    found = {
        (each.step, name): each.value
        for name in run.data.metrics
        for each in client.get_metric_history(run.info.run_id, name)
    }
    assert_holds(found, tmp_path / "run")
    figures = [each.path for each in client.list_artifacts(run.info.run_id, "topology")]
    assert figures == [
        f"topology/{name}-{step:08}.svg" for name in ("lineage", "widths") for step in (8, LAST)
    ]


def test_observers_of_a_config_and_of_a_call_are_told_in_order(tmp_path: Path) -> None:
    observer = Stops()
    experiment = load_config(SMOKE, SMALL)
    with pytest.raises(SystemExit):
        run_experiment(experiment, tmp_path / "run", observer=observer)
    begun, done, ended = observer.told
    assert isinstance(begun, RunBegun)
    assert (begun.step, begun.resumed, begun.last) == (0, False, None)
    assert begun.config["model"]["hidden"] == [32, 32]
    assert isinstance(done, TaskDone)
    assert (done.index, done.step) == (0, 8)
    assert ended == RunEnded("stopped", "stopped by SIGTERM")
    again = Stops(stop=False)
    run_experiment(experiment, tmp_path / "run", observer=again, resume=True)
    begun, done, ended = again.told
    assert (begun.step, begun.resumed) == (8, True)
    assert begun.last.index == 0
    assert begun.results.run_id == read_run_id(tmp_path / "run")
    assert (done.index, ended) == (1, RunEnded("finished"))


def test_numbers_of_a_task_free_run_are_logged(tmp_path: Path) -> None:
    overrides = ["stream.limit=40", "stream.steps_per_task=6", "stream.blur=0", "log=[csv]"]
    experiment = load_config("configs/task_free_smoke.yaml", overrides)
    result = run_experiment(experiment, tmp_path / "run")
    rows = read_table(tmp_path / "run")
    last = rows[-1]["step"]
    found = {row["name"]: float(row["value"]) for row in rows if row["step"] == last}
    assert found["accuracy"] == pytest.approx(result.average_accuracy)
    assert found["loss"] > 0


class Unreliable(RunLogger):
    """Loses its server after the first epoch."""

    kind = "unreliable"

    def open(self, begun: RunBegun) -> None:
        self.calls = 0

    def write(self, numbers: object, step: int, *, task: str, epoch: int | None) -> None:
        self.calls += 1
        if self.calls == 2:
            raise ConnectionError("connection lost\nat midnight")


class Broken(Unreliable):
    kind = "broken"

    def open(self, begun: RunBegun) -> None:
        raise ValueError("nonsense")


def unreliable() -> Observer:
    return RUNNING[-1]


RUNNING: list[RunLogger] = []


def test_a_logger_that_fails_says_so_once_and_the_run_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    RUNNING.append(Unreliable(said.append))
    log = 'log=[{kind: python, target: "test_loggers:unreliable"}]'
    experiment = load_config(SMOKE, [*SMALL, log], imports=[Path(__file__).parent])
    sys.modules["test_loggers"] = sys.modules[__name__]
    try:
        assert run_experiment(experiment, tmp_path / "run").finished
        assert RUNNING[-1].calls == 2
        assert said == [
            "unreliable has stopped logging (connection lost); the run and its history go on"
        ]
        RUNNING.append(Broken(said.append))
        with pytest.raises(RunError, match="broken cannot begin: nonsense"):
            run_experiment(experiment, tmp_path / "other")
    finally:
        del sys.modules["test_loggers"]


WRONG = {
    "unknown kind": ("[tensorbord]", 'did you mean "tensorboard"?'),
    "not a list": ("csv", "expected a list of loggers"),
    "twice": ("[csv, {kind: csv}]", "log.1: leave it out, as csv is given before"),
    "an option of another": ("[{kind: wandb, experiment: x}]", "log.0.experiment: unknown key"),
    "no observer": (
        "[{kind: python, target: 'json:JSONDecoder'}]",
        r"log.0.target: json:JSONDecoder is not a subclass of growmas.Observer",
    ),
    "not there": ("[{kind: python, target: 'nowhere_at_all:X'}]", "log.0.target: .*nowhere_at_all"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_logger_is_one_message_before_the_run(case: str, tmp_path: Path) -> None:
    log, message = WRONG[case]
    with pytest.raises(ConfigError, match=message):
        run_experiment(load_config(SMOKE, [*SMALL, f"log={log}"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_is_named_with_its_extra(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, kind, None)
    experiment = load_config(SMOKE, [*SMALL, f"log=[csv, {kind}]"])
    with pytest.raises(ConfigError, match=rf"log.1.kind: .*pip install 'growmas\[{kind}\]'"):
        run_experiment(experiment, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore")
def test_an_unreachable_server_is_named(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    log = load_config(SMOKE, ["log=[{kind: mlflow, tracking_uri: 'http://127.0.0.1:9'}]"]).log
    with pytest.raises(ConfigError, match=r"127.0.0.1:9 cannot be reached .*mlflow server"):
        build_loggers(log, say=print)


def test_wandb_online_needs_a_key_and_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    log = load_config(SMOKE, ["log=[{kind: wandb, mode: online, figures: false}]"]).log
    with pytest.raises(ConfigError, match=r"wandb has no key .* give mode: offline"):
        build_loggers(log, say=print)
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    with pytest.raises(ConfigError, match=r"127.0.0.1:9 cannot be reached .*offline"):
        build_loggers(log, say=print)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "below"
    log = load_config(SMOKE, [f"log=[{{kind: tensorboard, folder: {place}}}]"]).log
    with pytest.raises(ConfigError, match=r"expected a folder to write to, got .*below"):
        build_loggers(log, say=print)


def test_another_logger_does_not_keep_a_run_from_being_resumed(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        run_experiment(load_config(SMOKE, SMALL), tmp_path / "run", observer=Stops())
    experiment = load_config(SMOKE, [*SMALL, "log=[csv]"])
    assert run_experiment(experiment, tmp_path / "run", resume=True).finished
    rows = read_table(tmp_path / "run")
    assert {row["step"] for row in rows} == {"8", "12", "16"}
