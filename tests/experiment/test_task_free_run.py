import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import growmas as gm
from growmas.config import load_config
from growmas.errors import ConfigError, RunError
from growmas.experiment import build_stream, build_task_free, run_experiment
from growmas.experiment.task_free import StreamRun
from growmas.runs import read_trace
from growmas.runs.curves import read_curves
from growmas.training.task_free.recent import Seen

SMOKE = "configs/task_free_smoke.yaml"
SMALL = [
    "stream.tasks=2",
    "stream.of=permuted",
    "stream.scenario=domain",
    "training.learning_rate=0.01",
]


class Stopped(Exception):
    pass


class Stop:
    """Stops a run when its first task has gone by."""

    def epoch_done(self, done):
        pass

    def task_done(self, done):
        raise Stopped


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    experiment = load_config(SMOKE, [*SMALL, "checkpoint.every=25"])
    return experiment, folder, run_experiment(experiment, folder)


def test_a_run_directory_holds_the_stream_as_it_went(finished):
    _, folder, results = finished
    trace = read_trace(folder)
    assert len(trace.losses) == trace.steps == 120
    assert [event.action for event in trace.events if event.kind == "peak"] == ["opened"]
    assert trace.true_shifts == ((60, 60, 1),)
    assert dict(trace.widths[-1][1]) == results.units
    assert results.status == "finished"
    assert [len(row) for row in results.accuracy] == [1, 2]
    with gm.TopologyHistory(folder / "history.db") as history:
        assert [task.name for task in history.tasks()] == list(trace.contexts)


def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not(
    finished, tmp_path, monkeypatch
):
    experiment, whole, results = finished
    folder = tmp_path / "run"
    with pytest.raises(Stopped):
        run_experiment(experiment, folder, observer=Stop())
    assert json.loads((folder / "metrics.json").read_text())["status"] == "unfinished"
    resumed = run_experiment(experiment, folder, resume=True)
    assert resumed.accuracy == results.accuracy
    assert resumed.units == results.units
    assert read_trace(folder) == read_trace(whole)
    assert read_curves(folder) == read_curves(whole)
    theirs, ours = (load_file(path / "checkpoint/tensors.safetensors") for path in (whole, folder))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_killed_between_an_edit_and_its_checkpoint_is_resumed(
    finished, tmp_path, monkeypatch
):
    experiment, whole, results = finished
    folder, saved = tmp_path / "run", StreamRun._save

    def died():
        with gm.TopologyHistory(folder / "history.db") as history:
            return any(edit.died for edit in history.events())

    def killed(run, *state):
        if died():
            raise Stopped
        saved(run, *state)

    with monkeypatch.context() as patch:
        patch.setattr(StreamRun, "_save", killed)
        with pytest.raises(Stopped):
            run_experiment(experiment, folder)
    assert died()  # the history knows what the checkpoint does not
    assert run_experiment(experiment, folder, resume=True).accuracy == results.accuracy
    with (
        gm.TopologyHistory(whole / "history.db") as theirs,
        gm.TopologyHistory(folder / "history.db") as ours,
    ):
        assert ours.widths() == theirs.widths()
        assert [event.kind for event in ours.events()] == [e.kind for e in theirs.events()]


@pytest.mark.parametrize(
    "method",
    [
        "method={kind: mas, strength: 1.0, task_free: {buffer: 5, steps: 2}}",
        "method={kind: finetune}",
    ],
)
def test_methods_of_fixed_size_learn_the_stream_too(method, tmp_path):
    experiment = load_config(
        SMOKE, [*SMALL, "stream.steps_per_task=15", "model.hidden=[8]", method]
    )
    results = run_experiment(experiment, tmp_path / "run")
    assert results.units == {"fc1": 8}
    assert len(read_trace(tmp_path / "run").losses) == 30
    again = run_experiment(experiment, tmp_path / "run", resume=True)  # nothing is left to learn
    assert again == results
    assert read_trace(tmp_path / "run").contexts == ()


@pytest.mark.parametrize("kind", ["growmas", "mas", "finetune", "er", "l2_init"])
def test_every_point_has_loss_penalty_learning_rate_and_accuracy(kind, tmp_path):
    method = [] if kind == "growmas" else [f"method={{kind: {kind}}}"]
    steps = "stream.steps_per_task=40" if kind == "growmas" else "stream.steps_per_task=20"
    run_experiment(load_config(SMOKE, [*SMALL, steps, *method]), tmp_path / "run")
    found = read_curves(tmp_path / "run")
    assert len(found) == 20
    assert all(each.learning_rate == 0.01 and each.loss for each in found)
    assert any(each.penalty for each in found) == (kind in ("growmas", "l2_init"))
    assert all(each.penalty is not None for each in found)
    # the last point again, from the network as it ended
    run = gm.load_run(tmp_path / "run")
    model, right = run.structure.model.eval(), []
    head = len(run.structure.tasks) - 1  # of the context that was learnt last
    for batch in run.stream.batches(run.stream.steps - 2):
        with torch.no_grad():
            right += (model(batch.inputs, head).argmax(1) == batch.labels).tolist()
    assert len(right) == 64
    assert found[-1].training == pytest.approx(sum(right) / 64)


def test_a_drift_runs_and_is_tested_at_every_angle(tmp_path):
    overrides = ["stream.of=turning", "stream.scenario=domain", "stream.tasks=3"]
    experiment = load_config(SMOKE, [*overrides, "stream.steps_per_task=8"])
    results = run_experiment(experiment, tmp_path / "run")
    assert results.tasks == ["0°", "45°", "90°"]
    assert [len(row) for row in results.accuracy] == [1, 2, 3]
    assert read_trace(tmp_path / "run").true_shifts == ()


def test_what_cannot_be_resumed_is_said(finished, tmp_path):
    experiment, folder, _ = finished
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="is not a run that could be resumed"):
        run_experiment(experiment, tmp_path / "nothing", resume=True)
    copy = shutil.copytree(folder, tmp_path / "copy")
    unfinished = (copy / "metrics.json").read_text().replace('"finished"', '"unfinished"')
    (copy / "metrics.json").write_text(unfinished)
    lines = (copy / "stream.jsonl").read_text().splitlines()
    (copy / "stream.jsonl").write_text("\n".join(lines[:50]) + "\n")
    with pytest.raises(RunError, match="holds 49 steps and the checkpoint is of step 120"):
        run_experiment(experiment, copy, resume=True)
    assert len((copy / "stream.jsonl").read_text().splitlines()) == 50
    (copy / "stream.jsonl").unlink()
    (copy / "metrics.json").write_text(unfinished)
    with pytest.raises(RunError, match=r"has lost its stream\.jsonl"):
        run_experiment(experiment, copy, resume=True)
    with pytest.raises(RunError, match="give one of resume and overwrite"):
        run_experiment(experiment, folder, resume=True, overwrite=True)
    other = load_config(SMOKE, [*SMALL, "training.learning_rate=0.5", "stream.steps_per_task=7"])
    with pytest.raises(RunError, match="was begun with another config: stream, training differ"):
        run_experiment(other, folder, resume=True)
    with pytest.raises(RunError, match="use build_task_free_stream"):
        build_stream(experiment)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs=3", "training.epochs: expected 1, as stream.kind is task_free"),
        ("method={kind: joint}", "method.kind: expected growmas, mas, finetune, er"),
        ("stream.blur=70", "stream.blur: expected at most the 60 of stream.steps_per_task; got 70"),
        ("stream.of=permuted", "stream.scenario: expected domain, as all tasks of permuted"),
        ("method.context={kind: entropy}", "method.context.kind: expected gaussian"),
        ("method.context={kind: gaussian, per: class}", "context.per: expected task, as stream"),
        (
            "method.context={kind: gaussian, combine: tasks}",
            "method.context.combine: expected none, or nothing, as stream.kind is task_free: the",
        ),
        ("method.context={kind: gaussian, temperature: 2}", "temperature: expected 1, as stream"),
        ("method.grow={kind: overgrow, keep: 2}", "method.grow.kind: expected any but overgrow"),
        ("method.grow={kind: need, step: 9, most: 4}", "most: expected at least the 9 of step"),
        ("method.grow={kind: need, step: 99}", "most: expected at least the 99 of step; got 64"),
        ("method.protect=0.5", "method.protect: expected null"),
        ("training.schedule=cosine", "training.schedule: expected constant"),
        ("stream.visits=0", "stream.visits"),
    ],
)
def test_what_does_not_go_with_such_a_stream_is_told(override, message):
    with pytest.raises(ConfigError) as caught:
        load_config(SMOKE, [override])
    assert message in str(caught.value)


@pytest.mark.parametrize(("norms", "kept"), [("statistics", 2), ("affine", 4), (None, 0)])
def test_settings_reach_the_learner(norms, kept):
    overrides = ["method.grow={kind: need, trial: 7}", f"method.norms={json.dumps(norms)}"]
    experiment = load_config(SMOKE, [*overrides, "method.context={kind: gaussian, combine: none}"])
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(8)
    net = nn.Sequential(nn.Linear(4, 8), norm, nn.ReLU(), nn.Linear(8, 2))
    x = torch.rand(16, 4)
    structure, optimizer = gm.Structure(net, x), torch.optim.Adam(net.parameters())
    learner = build_task_free(experiment, structure, optimizer, seed=0)
    learner.outputs._forward = None  # one head
    steps = []
    norm.register_forward_pre_hook(lambda *_: steps.append(len(steps)))
    learner._open([(x, (x[:, 0] > 0.5).long())])
    assert len(steps) == 7, "a trial of seven steps, and nothing else"
    learner._settle([Seen(0, x, None, 0.0)])
    assert len(structure.norms.get("context 1", ())) == kept


def test_settings_of_task_free_methods_are_refused_elsewhere():
    with pytest.raises(ConfigError, match=r"method.task_free: expected null, as stream.kind is"):
        load_config("configs/digits_smoke.yaml", ["method.task_free={detector: paper}"])


def test_the_command_shows_shifts(finished):
    _, folder, _ = finished
    growmas = [str(Path(sys.executable).parent / "growmas"), "shifts"]
    shown = subprocess.run(
        [*growmas, str(folder), "--ascii", "--width", "80"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "1 of 1" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.isascii()
    data = json.loads(
        subprocess.run(
            [*growmas, str(folder), "--json"], capture_output=True, text=True, check=True
        ).stdout
    )
    assert data["seen"] == 120
    wrong = subprocess.run([*growmas, "nowhere"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "there is no run 'nowhere'" in wrong.stderr
