"""Transforms, workers, precision and compiled steps of task-aware training."""

from pathlib import Path
from typing import Any

import pytest
import torch

from growmas.config import load_config
from growmas.data import Scaling, Split, batches
from growmas.data.transforms import Crop, Erase, Flip, PerSample
from growmas.errors import GrowmasError
from growmas.experiment import build_stream, run_experiment
from growmas.experiment.transforms import build_transforms
from growmas.runs import RunResult

SMALL = ["stream.limit=20", "stream.tasks=2", "training.epochs=2"]


def run(folder: Path, *changes: str, **options: Any) -> RunResult:
    return run_experiment(load_config("digits_smoke", [*SMALL, *changes]), folder, **options)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_each_image_is_changed_by_itself_and_nothing_is_invented() -> None:
    images = torch.rand(40, 2, 6, 7) + 1
    flipped = Flip(0.5)(images, generator())
    mirrored = [bool(torch.equal(a, b.flip(-1))) for a, b in zip(flipped, images, strict=True)]
    kept = [bool(torch.equal(a, b)) for a, b in zip(flipped, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 5 < sum(mirrored) < 35
    cropped = Crop(2)(images, generator())
    padded = torch.nn.functional.pad(images, [2] * 4)
    for index in range(40):
        windows = padded[index].unfold(1, 6, 1).unfold(2, 7, 1)
        assert (windows == cropped[index][:, None, None]).all((0, 3, 4)).any()
    erased = Erase(3)(images, generator())
    assert torch.equal(erased[erased != 0], images[erased != 0])
    holes = (erased == 0).sum((1, 2, 3))
    assert int(holes.max()) == 2 * 9
    assert int(holes.min()) > 0


def test_a_transform_comes_before_normalisation_and_after_nothing() -> None:
    images = torch.randint(0, 256, (9, 1, 4, 4), dtype=torch.uint8)
    scaling = Scaling(torch.tensor(0.5), torch.tensor(0.25))
    split = Split(images, torch.arange(9), scaling=scaling)
    moved = split.augmented(torch.arange(9), lambda x: torch.zeros_like(x))
    assert torch.equal(moved, torch.full_like(moved, -2.0))  # black, normalised
    assert split.take(slice(0, 3)).shape == (3, 1, 4, 4)


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_are_the_same_for_any_number_of_workers(workers: int) -> None:
    split = Split(torch.rand(50, 1, 8, 8), torch.arange(50))
    noise = PerSample(lambda x: x + torch.rand_like(x), "noise")
    state = torch.random.get_rng_state()
    made = [
        list(batches(split, 8, generator=generator(), transforms=(Crop(1), noise), workers=count))
        for count in (0, workers)
    ]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len(made[0]) == 7
    for (x, y), (other, labels) in zip(*made, strict=True):
        assert torch.equal(x, other)
        assert torch.equal(y, labels)
    again = list(batches(split, 8, generator=generator(), transforms=(Crop(1), noise)))
    assert torch.equal(again[0][0], made[0][0][0])


def test_a_run_with_transforms_and_workers_is_resumed_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["training.transforms=[flip, {kind: crop, padding: 1}, {kind: erase, size: 2}]",
               "checkpoint.every=1 steps"]  # fmt: skip
    whole = run(tmp_path / "whole", *options)
    plain = run(tmp_path / "plain")
    assert whole.accuracy != plain.accuracy
    assert run(tmp_path / "workers", *options, "training.workers=2").accuracy == whole.accuracy
    from growmas.training.precision import Precision

    steps = 0
    step = Precision.step

    def interrupted(*args: Any, **keywords: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 12:
            raise KeyboardInterrupt
        return step(*args, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(Precision, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped", *options)
    resumed = run(tmp_path / "stopped", *options, resume=True)
    assert resumed.accuracy == whole.accuracy


def test_transforms_of_torchvision(tmp_path: Path) -> None:
    pytest.importorskip("torchvision", exc_type=Exception)
    turned = "{kind: torchvision, name: RandomRotation, args: {degrees: 20}}"
    experiment = load_config("digits_smoke", [f"training.transforms=[{turned}]"])
    stream = build_stream(experiment)
    (transform,) = build_transforms(experiment, stream)
    images = stream.tasks[0].train.inputs[:6]
    turned_twice = [transform(images, generator()) for _ in range(2)]
    assert torch.equal(*turned_twice)
    differences = (turned_twice[0] - images).abs().flatten(1).sum(1)
    assert len({*differences.tolist()}) == 6  # each by another angle


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns_and_is_resumed_exactly(tmp_path: Path, precision: str) -> None:
    changes = [f"training.precision={precision}", "training.epochs=4", "training.schedule=cosine"]
    plain = run(tmp_path / "plain", *changes[1:])
    mixed = run(tmp_path / "mixed", *changes)
    assert mixed.accuracy != plain.accuracy or mixed.accuracy[-1][-1] == 1
    assert (mixed.average_accuracy or 0) > (plain.average_accuracy or 0) - 0.1
    assert run(tmp_path / "again", *changes).accuracy == mixed.accuracy


def test_the_penalty_is_not_scaled_in_fp16(tmp_path: Path) -> None:
    from growmas.training.precision import Precision

    weight = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = torch.optim.SGD([weight], lr=0.1)

    def add_penalty() -> torch.Tensor:
        weight.grad = weight.grad + 3.0
        return torch.tensor(1.0)

    penalty, stepped = Precision("fp16", "cpu").step(weight.sum() * 2, optimizer, add_penalty)
    assert stepped
    assert float(penalty) == 1
    assert float(weight.detach()) == pytest.approx(2 - 0.1 * (2 + 3))


def test_a_step_with_gradients_that_are_not_finite_is_left_out_in_fp16() -> None:
    from growmas.training.precision import Precision

    weight = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    loss = (weight * float("inf")).sum()
    _, stepped = Precision("fp16", "cpu").step(loss, optimizer, lambda: torch.tensor(0.0))
    assert not stepped
    assert float(weight.detach()) == 2


def test_compiled_steps_give_the_same_numbers_through_growth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []

    def compile(function: Any, **options: Any) -> Any:
        compiled.append(function)
        return real(function, backend="eager", **options)

    real = torch.compile
    monkeypatch.setattr(torch, "compile", compile)
    plain = run(tmp_path / "plain")
    assert not compiled
    found = run(tmp_path / "compiled", "training.compile=true")
    assert len(compiled) == 2  # once for each task, as the network grew
    assert found.accuracy == plain.accuracy
    assert found.units == plain.units


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["training.transforms=[flop]"], 'did you mean "flip"?'),
        (["training.transforms=[{kind: crop, padding: 0}]"], "transforms.0.padding: expected a"),
        (["training.transforms=[{kind: crop, pading: 1}]"], 'did you mean "padding"?'),
        (["training.transforms=flip"], "training.transforms: expected a list"),
        (["training.precision=fp8"], "expected fp32, bf16 or fp16"),
        (["training.workers=-1"], "training.workers: expected a whole number"),
        (["training.compile=1"], "training.compile: expected true"),
        (["training.transforms=[{kind: python, target: 'math:pi'}]"], "expected a function"),
        (["training.transforms=[{kind: python, target: 'operator:itemgetter', args: {}}]"], "args"),
        (["device=cuda:7"], "device 'cuda:7' cannot be used here"),
    ],
)
def test_mistakes_name_the_key(tmp_path: Path, changes: list[str], words: str) -> None:
    with pytest.raises(GrowmasError) as caught:
        run(tmp_path / "run", *changes)
    assert words in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_options_that_do_not_go_together_are_refused() -> None:
    frozen = 'model={kind: python, target: "m:N", freeze: ["*"]}'
    for config in ("digits_smoke", "task_free_smoke"):
        with pytest.raises(GrowmasError, match="features are computed once"):
            load_config(config, [frozen, "training.transforms=[flip]"])
    turning = ["stream.of=turning", "stream.scenario=domain"]  # the network is run at every step
    load_config("task_free_smoke", [frozen, *turning, "training.transforms=[flip]"])


@pytest.mark.parametrize("config", ["digits_smoke", "task_free_smoke"])
@pytest.mark.parametrize(
    "wrong",
    ["training.transforms=x", "training.workers=x", "training.schedule=x", "training.momentum=x",
     "method.kind=x", "stream.scenario=x", "training.epochs=x", "stream.validation=x"],
)  # fmt: skip
def test_one_wrong_value_is_one_line(config: str, wrong: str) -> None:
    with pytest.raises(GrowmasError) as caught:
        load_config(config, [wrong])
    assert len(str(caught.value).splitlines()) == 1
    assert f"override {wrong}: {wrong.partition('=')[0]}: expected" in str(caught.value)
