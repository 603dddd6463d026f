import json

import pytest
import torch

import growmas as gm
from growmas.config import load_config
from growmas.data import own_heads
from growmas.errors import RunError
from growmas.experiment import build_model, build_stream, random_generator, run_experiment

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


def test_a_run_that_began_meanwhile_keeps_its_directory(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    first, second = (load_config(SMOKE, [*SMALL, f"seed={seed}"]) for seed in (1, 2))

    def slow(experiment):
        stream = build_stream(experiment)
        if experiment == second:  # while its data are read, the other one begins
            run_experiment(first, folder)
        return stream

    monkeypatch.setattr("growmas.experiment.task_aware.build_stream", slow)
    with pytest.raises(RunError, match="exists: name another with --out"):
        run_experiment(second, folder)
    assert json.loads((folder / "metrics.json").read_text())["status"] == "finished"
    assert load_config(folder / "config.yaml") == first
