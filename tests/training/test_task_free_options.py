"""Transforms, workers, precision and compiled steps of training without task boundaries."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import growmas as gm
from growmas.config import load_config
from growmas.data import TaskFreeStream, load_source, permuted_stream, task_free_stream
from growmas.data.transforms import Crop, Flip, PerSample, Transform
from growmas.experiment import run_experiment
from growmas.experiment.task_free import StreamRun
from growmas.models import MLP
from growmas.runs import RunResult
from growmas.training.execution import Execution
from growmas.training.precision import Precision
from growmas.training.task_free.fixed import TaskFreeMAS

pytestmark = pytest.mark.filterwarnings("ignore:the gradient of the penalty is")

SMALL = ["stream={kind: task_free, source: digits, of: permuted, scenario: domain, tasks: 2, "
         "steps_per_task: 24}", "model.hidden=[16, 16]", "training.learning_rate=0.01",
         "checkpoint.every=5 steps"]  # fmt: skip
METHODS = {
    "growmas": "method.grow={units: 2}",
    "mas": "method={kind: mas, strength: 1.0, task_free: {buffer: 5, steps: 2}}",
    "finetune": "method={kind: finetune}",
    "er": "method={kind: er, memory: 20}",
}
CHANGES = (Crop(2), Flip(), PerSample(lambda x: x + torch.rand_like(x), "noise"))


def digits(*, tasks: int = 2, blur: int = 0, **settings: Any) -> TaskFreeStream:
    base = permuted_stream(
        load_source("digits"), tasks=tasks, scenario="domain", generator=torch.Generator()
    )
    return task_free_stream(base, batch_size=16, steps_per_task=10, blur=blur, **settings)


def run(folder: Path, *changes: str, **options: Any) -> RunResult:
    return run_experiment(load_config("task_free_smoke", [*SMALL, *changes]), folder, **options)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoint/tensors.safetensors")


def slow_batch(
    stream: TaskFreeStream, step: int, transforms: tuple[Transform, ...]
) -> torch.Tensor:
    """The inputs of a step, each sample found among the stored ones and changed by itself."""
    plain = stream.batch(step)
    task = stream.tasks[plain.task]
    pixels = load_source("digits").train_inputs.float()
    stored = task.train.inputs.flatten(1)
    rows = [int((stored == one).all(1).nonzero()[0, 0]) for one in plain.inputs.flatten(1)]
    entropy = torch.Generator().manual_seed(_seed(stream.seed, step))
    generator = torch.Generator().manual_seed(int(torch.randint(2**62, (1,), generator=entropy)))
    changed = pixels[rows]
    for transform in transforms:
        changed = transform(changed, generator)
    for change in task.train.changes:
        changed = change(changed)
    return changed


def _seed(*words: int) -> int:
    import numpy as np

    return int(np.random.SeedSequence([*words, 2]).generate_state(1, np.uint64)[0]) >> 1


def test_transforms_come_before_the_changes_of_a_task() -> None:
    stream = digits(seed=5)
    for step in (0, 13):
        batch = stream.batch(step, transforms=CHANGES)
        assert torch.allclose(batch.inputs, slow_batch(stream, step, CHANGES))
        assert batch.plain is not None
        assert torch.equal(batch.plain, stream.batch(step).inputs)
        assert torch.equal(batch.labels, stream.batch(step).labels)
    assert stream.batch(0).plain is None


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("blur", [0, 6])
def test_batches_are_the_same_for_any_number_of_workers_and_from_any_step(
    workers: int, blur: int
) -> None:
    stream = digits(blur=blur)
    options: dict[str, Any] = {"transforms": CHANGES, "input_dropout": 0.2}
    state = torch.random.get_rng_state()
    alone = list(stream.batches(**options))
    assert len(alone) == 20
    for start in (0, 13):
        many = list(stream.batches(start, workers=workers, **options))
        assert [batch.step for batch in many] == list(range(start, 20))
        for one, other in zip(alone[start:], many, strict=True):
            assert all(
                torch.equal(getattr(one, name), getattr(other, name))
                for name in ("inputs", "labels", "plain")
            )
            assert one.task == other.task
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_endless_stream_is_prepared_by_workers_too() -> None:
    stream = digits(visits=None)
    found = itertools.islice(stream.batches(1_000_003, workers=1), 3)
    assert [batch.step for batch in found] == [1_000_003, 1_000_004, 1_000_005]


def test_dropped_inputs_are_zero_and_the_rest_is_scaled() -> None:
    batch = digits().batch(3, input_dropout=0.25)
    assert batch.plain is not None
    kept = batch.inputs != 0
    assert torch.allclose(batch.inputs[kept], batch.plain[kept] / 0.75)
    lost = float((~kept & (batch.plain != 0)).sum() / (batch.plain != 0).sum())
    assert lost == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize(
    "options",
    [
        ("training.transforms=[flip, {kind: crop, padding: 1}]", "training.input_dropout=0.1"),
        ("training.precision=bf16",),
        ("training.precision=fp16", "training.transforms=[{kind: erase, size: 2}]"),
    ],
    ids=["transforms", "bf16", "fp16"],
)
def test_a_run_is_resumed_to_the_bit(
    method: str, options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole", method, *options)
    assert whole.accuracy != run(tmp_path / "plain", method).accuracy
    steps, step = itertools.count(), Precision.step

    def interrupted(*args: Any, **keywords: Any) -> Any:
        if next(steps) == 32:
            raise KeyboardInterrupt
        return step(*args, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(Precision, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped", method, *options)
    resumed = run(tmp_path / "stopped", method, *options, resume=True)
    assert resumed.accuracy == whole.accuracy
    ours, theirs = tensors(tmp_path / "stopped"), tensors(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_workers_give_the_numbers_of_one_process(tmp_path: Path) -> None:
    flips = "training.transforms=[flip]"
    alone = run(tmp_path / "alone", flips)
    many = run(tmp_path / "many", flips, "training.workers=2")
    assert many.accuracy == alone.accuracy
    ours, theirs = tensors(tmp_path / "many"), tensors(tmp_path / "alone")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_compiled_steps_give_the_same_numbers(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled, real = [], torch.compile

    def compile(function: Any, **options: Any) -> Any:
        compiled.append(function)
        return real(function, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", compile)
    plain = run(tmp_path / "plain", method)
    assert not compiled
    found = run(tmp_path / "compiled", method, "training.compile=true")
    with gm.TopologyHistory(tmp_path / "compiled/history.db") as history:
        assert len(compiled) >= len(history.tasks())  # anew for each context, which may grow
    assert found.accuracy == plain.accuracy
    assert found.units == plain.units


def test_a_view_of_an_earlier_context_is_not_run_by_compiled_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    stream = digits(visits=2)
    torch.manual_seed(0)
    model = MLP(stream.input_shape, [12], (stream.outputs,) * 4)
    structure = gm.Structure(model, stream.batch(0).inputs)
    asked = []

    class Watched(Execution):
        def forward(self, *, whole: bool = True) -> Any:
            asked.append(whole)
            return super().forward(whole=whole)

    learner = gm.TaskFreeLearner(
        structure,
        torch.optim.Adam(model.parameters(), lr=0.01),
        forward=lambda model, inputs, context: model(inputs, context),
        contexts=4,
        execution=Watched(compiled=structure),
    )
    inputs, labels = stream.batch(0).inputs, stream.batch(0).labels
    learner.learn(inputs, labels)
    assert asked == [True]
    learner._open([(inputs, labels)])
    learner.memory.enter(0, settled=True)  # the first context has come back
    learner.learn(inputs, labels)
    assert asked == [True, False]


def test_contexts_and_importance_see_samples_without_random_changes() -> None:
    stream = digits()
    torch.manual_seed(0)
    model = MLP(stream.input_shape, [12], (stream.outputs,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)  # nothing moves
    structure = gm.Structure(model, stream.batch(0).inputs)
    learner = gm.TaskFreeLearner(structure, optimizer, contexts=1)
    batches = list(stream.batches(transforms=CHANGES))[:10]
    for batch in batches:
        learner.learn(batch.inputs, batch.labels, plain=batch.plain)
    assert all(
        torch.equal(seen.inputs, batch.plain) and torch.equal(seen.learnt, batch.inputs)
        for seen, batch in zip(learner.memory.recent, batches, strict=True)
    )
    learner._settle(list(learner.memory.recent))
    expected = gm.mas_importance(model, [batch.plain for batch in batches])
    for name, omega in learner.mas.omega.items():
        assert torch.allclose(omega, expected[name], atol=1e-6)


@pytest.mark.parametrize("recent", [0, 3])
@pytest.mark.parametrize("buffer", [0, 5])
def test_importance_of_a_fixed_network_too(recent: int, buffer: int) -> None:
    stream = digits()
    torch.manual_seed(0)
    model = MLP(stream.input_shape, [12], (stream.outputs,))

    class Always:
        """Detects a plateau at every loss."""

        def update(self, loss: float) -> gm.ShiftEvent:
            return gm.ShiftEvent("plateau", 0, 0, "always")

        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state: Any) -> None:
            pass

    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    learner = TaskFreeMAS(
        model, optimizer, buffer=buffer, recent=recent, steps=1, detector=Always(),
        function="squared_norm",
    )  # fmt: skip
    batches = list(stream.batches(transforms=CHANGES))[:4]
    samples: dict[bytes, torch.Tensor] = {}
    expected: dict[str, torch.Tensor] = {}
    for number, batch in enumerate(batches, start=1):
        plain = batch.plain
        assert plain is not None
        learner.learn(batch.inputs, batch.labels, plain=plain)
        samples |= {x.numpy().tobytes(): p for x, p in zip(batch.inputs, plain, strict=True)}
        measured = plain
        if recent:
            measured = torch.cat([b.plain for b in batches[max(0, number - recent) : number]])
        elif buffer:
            assert learner.buffer is not None
            measured = torch.stack([samples[x.numpy().tobytes()] for x in learner.buffer[0]])
        found = gm.mas_importance(model, [measured])
        expected = {
            name: each / number + (1 - 1 / number) * expected.get(name, torch.zeros(()))
            for name, each in found.items()
        }
    for name, omega in learner.mas.omega.items():
        assert torch.allclose(omega, expected[name], atol=1e-6)


def test_states_of_earlier_versions_are_taken() -> None:
    stream = digits()
    model = MLP(stream.input_shape, [6], (stream.outputs,))
    learner = TaskFreeMAS(model, torch.optim.SGD(model.parameters(), lr=0.1))
    learner.learn(stream.batch(0).inputs, stream.batch(0).labels)
    state = learner.state_dict()
    older = {name: part for name, part in state.items() if name not in ("plain", "precision")}
    fresh = MLP(stream.input_shape, [6], (stream.outputs,))
    other = TaskFreeMAS(fresh, torch.optim.SGD(fresh.parameters(), lr=0.1))
    other.load_state_dict(older)
    after = [
        each.learn(stream.batch(1).inputs, stream.batch(1).labels) for each in (learner, other)
    ]
    assert after[0] == replace(after[1])


def test_a_transform_of_ones_own_is_recorded_and_tried_by_a_dry_run(tmp_path: Path) -> None:
    from growmas.experiment.rehearsal import rehearse

    text = "def brighter():\n    return lambda x: x * 1.5\n"
    text += "def wrong():\n    return lambda x: x[:, :3]\n"
    (tmp_path / "mychange.py").write_text(text)
    given = ['training.transforms=[{kind: python, target: "mychange:brighter"}]']
    experiment = load_config("task_free_smoke", [*SMALL, *given], imports=[tmp_path])
    result = run_experiment(experiment, tmp_path / "run")
    assert list(result.imports) == ["mychange:brighter"]
    wrong = ['training.transforms=[{kind: python, target: "mychange:wrong"}]']
    experiment = load_config("task_free_smoke", [*SMALL, *wrong], imports=[tmp_path])
    with pytest.raises(gm.GrowmasError, match=r"training\.transforms\.0.*expected a tensor of the"):
        rehearse(experiment)


def test_a_run_that_was_stopped_leaves_no_worker_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import multiprocessing

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StreamRun, "_learn", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run", "training.workers=2")
    assert not multiprocessing.active_children()
