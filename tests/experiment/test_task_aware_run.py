import json
import os
import shutil
import signal
import sqlite3
from contextlib import closing

import pytest
import torch

import growmas as gm
from growmas.checkpoint import read_state
from growmas.config import load_config
from growmas.data import own_heads
from growmas.errors import RunError
from growmas.experiment import build_model, build_stream, random_generator, run_experiment
from growmas.experiment.session import Session
from growmas.runs.status import read_status

SMALL = ["stream.tasks=2", "stream.limit=20", "training.epochs=1"]
SMOKE = "configs/digits_smoke.yaml"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    experiment = load_config(SMOKE, SMALL)
    folder = tmp_path_factory.mktemp("runs") / "one"
    return experiment, folder, run_experiment(experiment, folder)


def test_the_run_directory_holds_everything(finished):
    experiment, folder, results = finished
    names = {path.name for path in folder.iterdir()}
    assert {"config.yaml", "metrics.json", "history.db", "checkpoint"} <= names
    assert load_config(folder / "config.yaml") == experiment
    written = json.loads((folder / "metrics.json").read_text())
    assert written["status"] == "finished"
    assert written["accuracy"] == results.accuracy
    assert [len(row) for row in results.accuracy] == [1, 2]


def test_periods_of_time_are_answered_before_they_are_learnt(tmp_path, finished):
    stream = "stream={kind: ordered, source: digits, tasks: 3, scenario: domain, limit: 20}"
    changes = [stream, "training.epochs=1", "method={kind: finetune}"]
    result = run_experiment(load_config(SMOKE, changes), tmp_path / "run")
    written = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert len(result.ahead) == 2
    assert written["ahead"] == list(result.ahead)
    assert finished[2].ahead == []


def test_the_history_agrees_with_the_metrics(finished):
    _, folder, results = finished
    with gm.TopologyHistory(folder / "history.db") as history:
        last = history.tasks()[-1].name
        assert [task.name for task in history.tasks()] == results.tasks
        widths = {name: by_task[last] for name, by_task in history.widths().items()}
        assert widths == results.units
        assert history.parameters()[last] == results.parameters
        assert history.metrics(last)[f"accuracy/{last}"] == results.accuracy[-1][-1]
        graph = history.graph(operations=False)
        assert set(graph.edges) == {
            ("fc1", "fc2"),
            ("fc2", "heads.0"),
            ("fc2", "heads.1"),
        }


def test_the_checkpoint_answers_as_the_run_did(finished):
    experiment, folder, results = finished
    stream = build_stream(experiment)
    model = build_model(experiment.model, stream.input_shape, stream.head_sizes, seed=0)
    structure, mas = gm.load(
        folder / "checkpoint", model=model, example_inputs=stream.tasks[0].test.inputs[:2]
    )
    assert mas.tasks == 2
    for task, expected in zip(stream.tasks, results.accuracy[-1], strict=True):
        with torch.no_grad(), structure.view(task.name):
            right = model(task.test.inputs, task.head).argmax(1) == task.test.labels
        assert float(right.double().mean()) == pytest.approx(expected)


def test_the_same_seed_gives_the_same_numbers(finished, tmp_path):
    experiment, _, results = finished
    again = run_experiment(experiment, tmp_path / "again")
    assert again.accuracy == results.accuracy
    assert again.units == results.units


def test_every_method_starts_from_the_same_network_and_data(tmp_path):
    first = [
        run_experiment(load_config(f"configs/mnist5k_split_{method}.yaml", [
            "stream.limit=10", "stream.tasks=1", "training.epochs=1", "model.hidden=[8]",
            "training.learning_rate=0.003",
        ]), tmp_path / method).accuracy
        for method in ("finetune", "mas")
    ]  # fmt: skip
    assert first[0] == first[1]


def test_an_existing_run_is_kept_unless_told(finished):
    experiment, folder, _ = finished
    with pytest.raises(RunError, match="exists: name another with --out, or replace it"):
        run_experiment(experiment, folder)
    run_experiment(experiment, folder, overwrite=True)


def test_what_is_no_run_is_never_replaced(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(RunError, match="is not a run of growmas"):
        run_experiment(load_config(SMOKE, SMALL), tmp_path, overwrite=True)
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_a_device_that_is_not_there_leaves_nothing(tmp_path):
    experiment = load_config(SMOKE, [*SMALL, "device=cuda:99"])
    with pytest.raises(RunError, match="device 'cuda:99' cannot be used here"):
        run_experiment(experiment, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_stream_over_sources_runs(tmp_path):
    overrides = [
        "stream={kind: sources, sources: [digits, shapes], scenario: task, limit: 10}",
        "training={epochs: 1, learning_rate: 0.003, schedule: cosine, input_dropout: 0.2}",
    ]
    results = run_experiment(load_config(SMOKE, overrides), tmp_path / "run")
    assert results.tasks == ["digits", "shapes"]
    assert results.status == "finished"


CLASSES = "configs/digits_split_class_growmas.yaml"


def test_a_class_incremental_run_is_answered_by_its_checkpoint(tmp_path):
    experiment = load_config(CLASSES, ["training.epochs=2", "stream.tasks=2", "stream.limit=30"])
    results = run_experiment(experiment, tmp_path / "run")
    assert results.context_size == 10 * (1 + 64 + 64 * 65 // 2)  # ten classes, 8×8 pixels
    assert results.cpu_seconds > 0
    asked = build_stream(experiment)
    learnt = own_heads(asked)
    model = build_model(experiment.model, learnt.input_shape, learnt.head_sizes, seed=0)
    context = gm.GaussianContext(
        per="class", seed=random_generator(experiment.seed, "context").initial_seed()
    )
    structure, _ = gm.load(
        tmp_path / "run" / "checkpoint",
        model=model,
        example_inputs=learnt.tasks[0].test.inputs[:2],
        context=context,
    )
    for task, expected in zip(asked.tasks, results.accuracy[-1], strict=True):
        inputs = task.test.inputs
        answers = gm.view_answers(structure, inputs, forward=lambda m, x, position: m(x, position))
        found = gm.combine_views(
            context.scores(inputs),
            answers,
            classes=learnt.labels,
            experts=context.class_answers(inputs),
        ).argmax(1)
        assert float((found == task.test.labels).double().mean()) == pytest.approx(expected)


@pytest.mark.parametrize("method", [
    "{kind: joint}", "{kind: separate}", "{kind: gaussian, dimensions: 10}",
])  # fmt: skip
def test_baselines_run_and_write_what_others_do(tmp_path, method):
    results = run_experiment(load_config(SMOKE, [*SMALL, f"method={method}"]), tmp_path / "run")
    assert [len(row) for row in results.accuracy] == [1, 2]
    assert results.status == "finished"
    assert (results.parameters == 0) == ("gaussian" in method)
    assert (tmp_path / "run" / "checkpoint").is_dir()


def test_networks_of_their_own_are_named_in_the_history(tmp_path):
    experiment = load_config(SMOKE, [*SMALL, "method={kind: separate}"])
    results = run_experiment(experiment, tmp_path / "run")
    assert set(results.units) == {f"networks.{i}.fc{j}" for i in (0, 1) for j in (1, 2)}


def test_a_second_run_is_refused_while_the_first_lives(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    first, second = (load_config(SMOKE, [*SMALL, f"seed={seed}"]) for seed in (1, 2))

    class Second:
        def epoch_done(self, done):
            for options in ({}, {"overwrite": True}, {"resume": True}):
                with pytest.raises(RunError, match=f"in use by process {os.getpid()} on"):
                    run_experiment(second, folder, **options)

        def task_done(self, done):
            pass

    run_experiment(first, folder, observer=Second())
    assert json.loads((folder / "metrics.json").read_text())["status"] == "finished"
    assert load_config(folder / "config.yaml") == first


def test_a_run_whose_directory_goes_ends_with_an_error(tmp_path):
    class Mover:
        def __init__(self, act):
            self.act = act

        def epoch_done(self, done):
            if self.act:
                self.act()
            self.act = None

        def task_done(self, done):
            pass

    folder = tmp_path / "run"
    experiment = load_config(SMOKE, SMALL)
    mover = Mover(lambda: folder.rename(tmp_path / "moved"))
    with pytest.raises(RunError, match="was moved, deleted or replaced"):
        run_experiment(experiment, folder, observer=mover)
    assert not folder.exists()
    assert run_experiment(experiment, tmp_path / "moved", resume=True).status == "finished"
    with pytest.raises(RunError, match="was moved, deleted or replaced"):
        run_experiment(experiment, folder, observer=Mover(lambda: shutil.rmtree(folder)))
    assert not folder.exists()


class Stopped(Exception):
    pass


METHODS = [
    "method.kind=growmas",
    "method={kind: growmas, strength: 1.0, grow: {kind: need, trial: 3}, prune: {ratio: 0.2}, "
    "protect: 0.2, replace_dead: true}",
    "method={kind: growmas, grow: {kind: overgrow, keep: 4, after: 1}, norms: affine}",
    "method={kind: mas}",
    "method={kind: joint}",
    "method={kind: separate}",
    "method={kind: gaussian, dimensions: 5}",
    "method={kind: mas, importance: hebbian}",
    "method={kind: ewc}",
    "method={kind: online_ewc, normalize: mean}",
    "method={kind: si}",
    "method={kind: lwf}",
    "method={kind: er, memory: 12}",
    "method={kind: derpp, memory: 12}",
    "method={kind: packnet, after: 1}",
    "method={kind: hat}",
    "method={kind: icarl, memory: 12}",
    "method={kind: slda}",
    "method={kind: ranpac, projections: 30}",
    "method={kind: l2_init}",
]
UNTRAINED = ("gaussian, dim", "slda", "ranpac")


def numbers(folder):
    """Everything a run has come to, times left out."""
    metrics = json.loads((folder / "metrics.json").read_text())
    for name in ("seconds", "cpu_seconds", "started", "run_id"):
        metrics.pop(name)
    state = read_state(folder / "checkpoint")
    for part in (state["run"], state["run"]["result"], state["learner"]):
        for name in ("seconds", "cpu_seconds", "started", "run_id", "id", "result"):
            part.pop(name, None)
    with closing(sqlite3.connect(folder / "history.db")) as database:
        tables = {
            table: database.execute(f"SELECT * FROM {table}").fetchall()
            for table in ("units", "layers", "edges", "sizes", "metrics", "importance_data")
        }
        tables["events"] = database.execute(
            "SELECT event, task, kind, reason, cause FROM events"
        ).fetchall()
        tables["tasks"] = database.execute("SELECT task, name FROM tasks").fetchall()
    return metrics, flat(state), tables


def flat(value):
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: flat(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [flat(item) for item in value]
    return value


@pytest.mark.parametrize("method", METHODS)
def test_a_run_stopped_anywhere_and_resumed_is_the_run_that_was_not(
    tmp_path, method, run_with_stops
):
    overrides = [
        "stream.tasks=2", "stream.limit=20", "training={epochs: 2, batch_size: 32, "
        "learning_rate: 0.003, schedule: cosine, input_dropout: 0.2}", "model.hidden=[8, 8]",
    ]  # fmt: skip
    context = ["method.context={kind: gaussian, dimensions: 8}"] if "growmas" in method else []
    if "icarl" in method:
        overrides.append("stream.scenario=class")
    if "packnet" in method or "hat" in method:
        overrides.append("stream.scenario=task")
    experiment = load_config(SMOKE, [*overrides, method, *context, "checkpoint.every=3"])
    run_experiment(experiment, tmp_path / "whole")
    result, stops = run_with_stops(experiment, tmp_path / "run", 5)
    assert result.status == "finished"
    assert stops > 2 or any(kind in method for kind in UNTRAINED)
    for ours, theirs in zip(numbers(tmp_path / "run"), numbers(tmp_path / "whole"), strict=True):
        assert ours == theirs
    told = []

    class Listener:
        def note(self, text):
            told.append(text)

    again = run_experiment(experiment, tmp_path / "run", resume=True, observer=Listener())
    assert again.accuracy == result.accuracy
    assert "is finished: nothing is left to resume" in told[0]


def test_a_run_killed_before_its_first_checkpoint_begins_anew_and_says_so(tmp_path, monkeypatch):
    experiment = load_config(SMOKE, SMALL)
    told = []

    class Listener:
        def note(self, text):
            told.append(text)

        def epoch_done(self, done):
            pass

        task_done = epoch_done

    with monkeypatch.context() as patch:
        patch.setattr(Session, "step_done", lambda session: (_ for _ in ()).throw(Stopped))
        with pytest.raises(Stopped):
            run_experiment(experiment, tmp_path / "run")
    result = run_experiment(experiment, tmp_path / "run", resume=True, observer=Listener())
    assert result.status == "finished"
    assert "was stopped before its first checkpoint: it begins anew" in told[0]
    for name in ("metrics.json", "history.db"):
        (tmp_path / "run" / name).unlink()
    run_experiment(experiment, tmp_path / "run", overwrite=True)


def test_what_is_not_ours_in_a_run_directory_stays(tmp_path):
    experiment = load_config(SMOKE, SMALL)
    run_experiment(experiment, tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    run_experiment(experiment, tmp_path / "run", overwrite=True)
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "metrics.json").write_text('{"loss": 1}')
    (tmp_path / "other" / "config.yaml").write_text("lr: 1")
    for options in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(RunError, match="is not a run"):
            run_experiment(experiment, tmp_path / "other", **options)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    experiment = load_config(SMOKE, [*SMALL, "checkpoint.every=2"])
    for name in ("a", "b"):
        run_experiment(experiment, tmp_path / name)
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        metrics["status"] = "unfinished"
        (tmp_path / name / "metrics.json").write_text(json.dumps(metrics))
    for foreign in ("checkpoint", "metrics.json", "history.db"):
        copy = shutil.copytree(tmp_path / "a", tmp_path / f"mixed-{foreign}")
        if foreign == "checkpoint":
            shutil.rmtree(copy / foreign)
            shutil.copytree(tmp_path / "b" / foreign, copy / foreign)
        else:
            shutil.copy(tmp_path / "b" / foreign, copy / foreign)
        with pytest.raises(RunError, match=f"{foreign} in .* belongs to the run"):
            run_experiment(experiment, copy, resume=True)


@pytest.mark.parametrize(
    ("signals", "code"), [([signal.SIGTERM], 143), ([signal.SIGUSR1], 143), ([signal.SIGINT], 130)]
)
def test_a_signal_saves_and_ends_the_run(tmp_path, signals, code):
    experiment = load_config(SMOKE, [*SMALL, "training.epochs=3"])
    whole = run_experiment(experiment, tmp_path / "whole")

    class Signal:
        def epoch_done(self, done):
            for number in signals:
                os.kill(os.getpid(), number)

        def task_done(self, done):
            pass

    with pytest.raises(SystemExit) as caught:
        run_experiment(experiment, tmp_path / "run", observer=Signal())
    assert caught.value.code == code
    assert read_status(tmp_path / "run") == ("stopped", f"stopped by {signals[0].name}")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert run_experiment(experiment, tmp_path / "run", resume=True).accuracy == whole.accuracy
