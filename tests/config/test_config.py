import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings, strategies as st
from pydantic import BaseModel, ValidationError

from growmas.config import (
    Experiment,
    GrowmasConfig,
    PermutedConfig,
    dump_config,
    experiment as schema,
    load_config,
    methods,
)
from growmas.errors import ConfigError

BUNDLED = sorted(Path(__file__).parents[2].glob("configs/*.yaml"))

GOOD = """\
# A comment.
name: trial
stream: {kind: split, source: digits, tasks: 5, scenario: task}
model:
  kind: mlp
  hidden: [8, 8]
method:
  kind: growmas
  strength: 1e-3
  grow: {units: 4}
training:
  epochs: 2
  learning_rate: 0.01
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write config.yaml in a working directory of its own, so that messages hold no other path."""
    monkeypatch.chdir(tmp_path)

    def write(content: str | bytes) -> str:
        raw = content.encode() if isinstance(content, str) else content
        Path("config.yaml").write_bytes(raw)
        return "config.yaml"

    return write


def message(path: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


def test_a_good_file_loads_with_defaults(write):
    experiment = load_config(write(GOOD))
    assert experiment.method == GrowmasConfig(kind="growmas", strength=0.001, grow={"units": 4})
    assert experiment.model.hidden == (8, 8)
    assert (experiment.seed, experiment.device, experiment.threads) == (0, "cpu", 1)
    assert (experiment.training.batch_size, experiment.training.optimizer) == (128, "adam")


def test_an_experiment_cannot_be_changed(write):
    experiment = load_config(write(GOOD))
    with pytest.raises(ValidationError, match="frozen"):
        experiment.seed = 1


def test_one_number_stands_for_one_layer(write):
    assert load_config(write(GOOD), ["model.hidden=8"]).model.hidden == (8,)


def test_overrides_win_over_the_file_and_later_ones_over_earlier_ones(write):
    overrides = ["seed=1", "seed=2", "method.prune.ratio=0.1", "model={kind: mlp, hidden: [3]}"]
    experiment = load_config(write(GOOD), overrides)
    assert experiment.seed == 2
    assert experiment.method.prune.ratio == 0.1
    assert experiment.model.hidden == (3,)


def test_an_empty_override_is_null(write):
    assert load_config(write(GOOD), ["method.grow="]).method.grow is None


def replaced(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


MODELS = "mlp, convnet, resnet, vit, python, timm or transformers"

MISTAKES = {
    "unknown key": (
        replaced("  strength:", "  strenght:"),
        'config.yaml:9: method.strenght: unknown key; did you mean "strength"?',
    ),
    "unknown key like no other": (
        replaced("name: trial", "name: trial\nzzz: 1"),
        "config.yaml:3: zzz: unknown key; known: name, seed, stream, model, method, training, "
        "signals, checkpoint, log, device, threads, imports, sweep, tune",
    ),
    "missing key": (
        replaced("  epochs: 2\n", ""),
        "config.yaml:11: training.epochs: missing, expected a whole number of epochs for each "
        "task, at least 1",
    ),
    "missing record": (
        replaced("stream: {kind: split, source: digits, tasks: 5, scenario: task}\n", ""),
        "config.yaml:2: stream: missing, expected a mapping with kind split, permuted, rotated, "
        "ordered, sources or task_free",
    ),
    "missing kind": (
        replaced("  kind: mlp\n", ""),
        f"config.yaml:4: model.kind: missing, expected {MODELS}",
    ),
    "unknown kind": (
        replaced("kind: mlp", "kind: mpl"),
        f'config.yaml:5: model.kind: expected {MODELS}, got "mpl"; did you mean "mlp"?',
    ),
    "kind of another type": (
        replaced("kind: mlp", "kind:"),
        f"config.yaml:5: model.kind: expected {MODELS}, got null",
    ),
    "unknown word": (
        replaced("scenario: task", "scenario: tsak"),
        "config.yaml:3: stream.scenario: expected task, domain or class, got "
        '"tsak"; did you mean "task"?',
    ),
    "unknown source": (
        replaced("source: digits", "source: digit"),
        'config.yaml:3: stream.source: expected a source, got "digit"; did you mean "digits"?',
    ),
    "number out of bounds": (
        replaced("hidden: [8, 8]", "hidden:\n  - 8\n  - -8"),
        "config.yaml:8: model.hidden.1: expected positive whole numbers, one for each layer, "
        "such as [64, 64], got -8",
    ),
    "no layers": (
        replaced("[8, 8]", "[]"),
        "config.yaml:6: model.hidden: expected positive whole numbers, one for each layer, "
        "such as [64, 64], got []",
    ),
    "text for a number": (
        replaced("epochs: 2", "epochs: two"),
        "config.yaml:12: training.epochs: expected a whole number of epochs for each task, at "
        'least 1, got "two"',
    ),
    "truth for a number": (
        replaced("epochs: 2", "epochs: yes"),
        "config.yaml:12: training.epochs: expected a whole number of epochs for each task, at "
        "least 1, got true",
    ),
    "infinite": (
        replaced("1e-3", ".inf"),
        "config.yaml:9: method.strength: expected a number that is 0 or more, got Infinity",
    ),
    "number for a mapping": (
        replaced("{units: 4}", "4"),
        "config.yaml:10: method.grow: expected a mapping such as {units: 16}, or null, got 4",
    ),
    "list for a record of several kinds": (
        replaced("{kind: split, source: digits, tasks: 5, scenario: task}", "[split]"),
        "config.yaml:3: stream: expected a mapping with kind split, permuted, rotated, ordered, "
        'sources or task_free, got ["split"]',
    ),
    "date for text": (
        replaced("name: trial", "name: 2026-13-99 b"),
        "config.yaml:2: name: expected text of letters, digits, dots, dashes and underscores, "
        'got "2026-13-99 b"',
    ),
    "method and scenario": (
        replaced("scenario: task", "scenario: domain"),
        "config.yaml:7: method.context: expected a mapping such as {kind: gaussian, per: task}, "
        "as method growmas answers each task by itself, and in scenario domain the task is "
        "unknown; got null",
    ),
    "classes that the context does not know": (
        replaced("  grow:", "  context: {kind: gaussian, per: task, combine: classes}\n  grow:"),
        "config.yaml:10: method.context.combine: expected tasks or none, unless there is a "
        'Gaussian for each class (per: class); got "classes"',
    ),
    "classes that a ridge does not know": (
        replaced("  grow:", "  context: {kind: ridge, per: task, combine: classes}\n  grow:"),
        "config.yaml:10: method.context.combine: expected tasks or none, unless classes are told "
        'apart (per: class); got "classes"',
    ),
    "whitening that does not exist": (
        replaced("  grow:", "  context: {kind: shared, whiten: patch}\n  grow:"),
        "config.yaml:10: method.context.whiten: expected analytic (keeps nothing of the data), "
        'patches or covariance (of the first images), none, got "patch"; did you mean "patches"?',
    ),
    "filters that are not used": (
        replaced("  grow:", "  context: {kind: ridge, filters: 8}\n  grow:"),
        "config.yaml:10: method.context.filters: expected features: filters beside it, or filters "
        "left out; got 8",
    ),
    "a temperature for nothing": (
        replaced("  grow:", "  context: {kind: gaussian, per: class, temperature: 2}\n  grow:"),
        "config.yaml:10: method.context.temperature: expected 1, unless the context has a say in "
        "the classes (combine: classes); got 2",
    ),
    "unknown kind of growth": (
        replaced("{units: 4}", "{kind: overgow, keep: 4}"),
        "config.yaml:10: method.grow.kind: expected fixed, share, saturation, need, gain "
        'or overgrow, got "overgow"; did you mean "overgrow"?',
    ),
    "a key of another kind": (
        replaced("{units: 4}", "{kind: overgrow, units: 4, keep: 4, after: 1}"),
        "config.yaml:10: method.grow.units: unknown key; known: kind, keep, factor, after",
    ),
    "no epochs left after a choice": (
        replaced("{units: 4}", "{kind: overgrow, keep: 4}"),
        "config.yaml:10: method.grow.after: expected fewer than the 2 of training.epochs, so "
        "that training repairs the loss; got 2",
    ),
    "momentum without sgd": (
        GOOD + "  momentum: 0.9\n",
        "config.yaml:14: training.momentum: expected 0, as only optimizer sgd takes a "
        "momentum; got 0.9",
    ),
    "duplicate key": (
        replaced("  epochs: 2\n", "  epochs: 2\n  epochs: 3\n"),
        "config.yaml:13: training.epochs: the key is given twice, first at config.yaml:12",
    ),
    "collection as a key": (
        GOOD + "? [a]\n: 1\n",
        "config.yaml:14: expected text as a key, got a collection",
    ),
    "value that is not of its tag": (
        replaced("epochs: 2", "epochs: !!int two"),
        'config.yaml:12: not valid YAML: "two" does not fit its tag tag:yaml.org,2002:int',
    ),
    "unknown tag": (
        replaced("epochs: 2", "epochs: !many 2"),
        'config.yaml:12: not valid YAML: "2" does not fit its tag !many',
    ),
    "bad syntax": (
        replaced("[8, 8]", "[8, 8"),
        "config.yaml:7: not valid YAML: while parsing a flow sequence, expected ',' or ']', "
        "but got ':'",
    ),
    "control character": (
        replaced("trial", "tr\0ial"),
        "config.yaml:2: not valid YAML: special characters are not allowed (#x0000)",
    ),
    "alias": (
        replaced("name: trial", "name: &a trial\nseed: *a"),
        "config.yaml:3: not valid YAML: an alias (*name) is not supported: write the value out",
    ),
    "two documents": (
        GOOD + "---\nname: other\n",
        "config.yaml:14: not valid YAML: expected a single document in the stream, but found "
        "another document",
    ),
    "not a mapping": (
        "# A list.\n- name\n",
        'config.yaml:2: expected a mapping of keys, got ["name"]',
    ),
    "empty": ("", "config.yaml: the file is empty: start from one of the bundled configs"),
    "only comments": (
        "# Nothing.\n",
        "config.yaml: the file is empty: start from one of the bundled configs",
    ),
    "wrong encoding": (
        GOOD.replace("trial", "tr\u00efal").encode("latin-1"),
        "config.yaml: expected text in UTF-8, got byte 0xef at position 21: save the file as UTF-8",
    ),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_read_the_message(write, kind):
    content, expected = MISTAKES[kind]
    assert message(write(content)) == expected


OVERRIDE_MISTAKES = {
    "epochs": "expected key=value or key.sub=value",
    "training..epochs=1": "expected key=value or key.sub=value",
    "training.epochs=[1,": "not valid YAML: while parsing a flow node, expected the node "
    "content, but found '<stream end>'",
    "model.hidden.0=1": "model.hidden: expected a mapping, got [8, 8]: set it as a whole",
    "training.epoch=1": 'training.epoch: unknown key; did you mean "epochs"?',
    "training.epochs=0": "training.epochs: expected a whole number of epochs for each task, at "
    "least 1, got 0",
    "model={kind: mlp}": "model.hidden: missing, expected positive whole numbers, one for each "
    "layer, such as [64, 64]",
    "training={epochs: 1, epochs: 2, learning_rate: 1}": "training.epochs: the key is given "
    "twice, first at override training={epochs: 1, epochs: 2, learning_rate: 1}",
}


@pytest.mark.parametrize("override", OVERRIDE_MISTAKES)
def test_a_mistake_in_an_override_names_it(write, override):
    expected = f"override {override}: {OVERRIDE_MISTAKES[override]}"
    assert message(write(GOOD), override) == expected


def test_all_mistakes_are_told_at_once_in_reading_order(write):
    content = GOOD.replace("tasks: 5, scenario: task", "task: 5, scenario: class")
    content = content.replace("units: 4", "units: -4").replace("kind: mlp", "kind: mpl")
    content += "  optimiser: sgd\n  momentum: 0.9\n"
    assert message(write(content), "threads=0", "seed").splitlines() == [
        'config.yaml:3: stream.task: unknown key; did you mean "tasks"?',
        f'config.yaml:5: model.kind: expected {MODELS}, got "mpl"; did you mean "mlp"?',
        "config.yaml:7: method.context: expected a mapping such as {kind: gaussian, per: task}, "
        "as method growmas answers each task by itself, and in scenario class the task is "
        "unknown; got null",
        "config.yaml:10: method.grow.units: expected at least 1 unit for each layer and task, "
        "got -4",
        'config.yaml:14: training.optimiser: unknown key; did you mean "optimizer"?',
        "config.yaml:15: training.momentum: expected 0, as only optimizer sgd takes a "
        "momentum; got 0.9",
        "override seed: expected key=value or key.sub=value",
        "override threads=0: threads: expected a whole number of CPU threads, at least 1, got 0",
    ]


def test_a_missing_file_names_its_nearest_sibling(write):
    write(GOOD)
    assert message("confg.yaml") == (
        'confg.yaml: there is no such file; did you mean "config.yaml"?'
    )


def test_a_directory_cannot_be_read(tmp_path):
    assert message(str(tmp_path)) == f"{tmp_path}: cannot be read: Is a directory"
    (tmp_path / "config.yaml").write_text("name: x\n")
    assert message(str(tmp_path)).endswith(f"; the config in it is {tmp_path}/config.yaml")


def test_conflicts_are_mistakes_in_code_too(write):
    experiment = load_config(write(GOOD), ["method={kind: mas}"])
    stream = PermutedConfig(kind="permuted", source="digits", scenario="class")
    with pytest.raises(ValidationError, match=r"stream\.scenario: expected task or domain"):
        Experiment(**dict(experiment) | {"stream": stream})


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("{kind: slda, features: inputs, pool: 3}", "method.pool"),
        ("{kind: ranpac, features: model, whiten: patches}", "method.whiten"),
        (
            "{kind: growmas, context: {kind: shared, features: inputs, filters: 8}}",
            "method.context.filters",
        ),
        (
            "{kind: growmas, context: {kind: gaussian, features: inputs, pool: 2}}",
            "method.context.pool",
        ),
    ],
)
def test_settings_of_filters_need_filters(write, setting, key):
    path = write(GOOD)
    with pytest.raises(ConfigError, match=rf"{key}: expected features: filters beside it, or"):
        load_config(path, [f"method={setting}"])
    load_config(path, [f"method={re.sub('features: [a-z]+', 'features: filters', setting)}"])


def test_every_field_says_what_it_expects():
    records = [
        record
        for record in (*vars(schema).values(), *vars(methods).values())
        if isinstance(record, type) and issubclass(record, BaseModel)
    ]
    assert len(records) > 10
    for record in records:
        assert all(field.description for field in record.model_fields.values())


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.stem)
def test_a_bundled_config_loads_and_says_how_to_run_it(path):
    experiment = load_config(path)
    assert experiment.name == path.stem.replace("_", "-")
    opening = path.read_text().split("name:")[0]
    assert f"growmas run configs/{path.name}" in opening
    for heading in ("Shows:", "Run time:", "Result:"):
        assert f"# {heading}" in opening


def test_configs_are_bundled():
    assert len(BUNDLED) >= 7


METHODS = st.one_of(
    st.just({"kind": "finetune"}),
    st.fixed_dictionaries(
        {"kind": st.just("growmas"), "strength": st.floats(0, 1e6)},
        optional={
            "normalize": st.sampled_from(["mean", "max", None]),
            "grow": st.none()
            | st.fixed_dictionaries({"units": st.integers(1, 9)})
            | st.fixed_dictionaries({"kind": st.just("share"), "share": st.floats(0.1, 2)}),
            "prune": st.fixed_dictionaries({"ratio": st.floats(0, 0.99)}),
            "budget": st.fixed_dictionaries({"units": st.integers(1, 99)}),
            "context": st.fixed_dictionaries({"kind": st.sampled_from(["gaussian", "energy"])}),
        },
    ),
)


@settings(deadline=None)
@given(
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]*", fullmatch=True),
    seed=st.integers(0, 2**63 - 1),
    method=METHODS,
    rate=st.floats(0, exclude_min=True, allow_infinity=False),
)
def test_a_dump_loads_back_as_an_equal_experiment(tmp_path_factory, name, seed, method, rate):
    experiment = Experiment.model_validate(
        yaml.safe_load(GOOD)
        | {"name": name, "seed": seed, "method": method}
        | {"training": {"epochs": 1, "learning_rate": rate}}
    )
    path = tmp_path_factory.getbasetemp() / "dumped.yaml"
    path.write_text(dump_config(experiment))
    assert load_config(path) == experiment


def test_configs_are_checked_without_torch():
    code = (
        "import sys; from growmas.config import load_config; "
        f"load_config({str(BUNDLED[0])!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
