"""Published methods in configs: every scenario they are for, and clear messages in others."""

import json

import pytest
import torch
from typer.testing import CliRunner

from growmas.checkpoint import read_state
from growmas.cli.app import app
from growmas.config import load_config
from growmas.config.baselines import SCENARIOS
from growmas.config.methods import TASK_FREE
from growmas.errors import ConfigError, GrowmasError
from growmas.experiment import run_experiment
from growmas.experiment.baselines import BASELINES

KINDS = [str(record.model_fields["kind"].annotation.__args__[0]) for record in BASELINES]
SMALL = {"ranpac": ", projections: 50", "icarl": ", memory: 60", "er": ", memory: 60"}
TEXT = """
name: small
stream: {{kind: split, source: digits, tasks: 5, scenario: {scenario}, limit: 40}}
model: {model}
method: {method}
training: {{epochs: 2, learning_rate: 0.005, batch_size: 16}}
"""


def write(folder, kind, scenario, *, model="{kind: mlp, hidden: [32]}", extra=None):
    path = folder / "small.yaml"
    method = f"{{kind: {kind}{SMALL.get(kind, '') if extra is None else extra}}}"
    path.write_text(TEXT.format(scenario=scenario, method=method, model=model), encoding="utf-8")
    return path


def fits(kind, scenario):
    return kind not in SCENARIOS or scenario in SCENARIOS[kind][0]


@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_method_runs_where_it_is_for_and_says_so_elsewhere(tmp_path, kind, scenario):
    path = write(tmp_path, kind, scenario)
    if not fits(kind, scenario):
        wanted = rf"small.yaml:5: method.kind: expected a method for scenario {scenario}, as {kind}"
        with pytest.raises(ConfigError, match=wanted):
            load_config(path)
        return
    result = run_experiment(load_config(path), tmp_path / "run")
    assert result.status == "finished"
    assert result.average_accuracy > {"task": 0.75, "domain": 0.5, "class": 0.1}[scenario]
    held = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert held["memory_size"] == result.memory_size >= 0
    assert result.numbers_kept >= result.parameters + result.context_size > 0


NETWORKS = {
    "convnet": "{kind: convnet, channels: [4], hidden: [16]}",
    "resnet": "{kind: resnet, channels: [4, 8], blocks: 1}",
    "vit": "{kind: vit, patch: 4, width: 8, depth: 1, heads: 2, hidden: 16}",
    "python": '{kind: python, target: "pictures:Net", head: last}',
}
PICTURES = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.SiLU())
        self.pool = nn.Sequential(nn.MaxPool2d(2), nn.Flatten())
        self.dense = nn.Sequential(nn.Linear(36, 12), nn.LayerNorm(12), nn.Tanh())
        self.last = nn.Linear(12, 10)
"""


EVERYWHERE = ("packnet", "hat")  # they look into the network; the others take it as it is
WITH = [
    (kind, network)
    for i, kind in enumerate(KINDS)
    for j, network in enumerate(NETWORKS)
    if kind in EVERYWHERE or i % len(NETWORKS) == j
]


@pytest.mark.parametrize(("kind", "network"), WITH)
def test_methods_learn_with_networks_of_every_kind(tmp_path, kind, network):
    scenario = SCENARIOS.get(kind, (("class",), ""))[0][0]
    extra = f"{SMALL.get(kind, '')}, features: model" if kind in ("slda", "ranpac") else None
    path = write(tmp_path, kind, scenario, model=NETWORKS[network], extra=extra)
    (tmp_path / "pictures.py").write_text(PICTURES, encoding="utf-8")
    overrides = ["stream.limit=20", "training.epochs=1", "stream.tasks=[[0, 1], [2, 3]]"]
    result = run_experiment(load_config(path, overrides), tmp_path / "run")
    assert result.status == "finished"
    assert [len(row) for row in result.accuracy] == [1, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_streams_without_boundaries_are_for_some_of_them(tmp_path, kind):
    path = write(tmp_path, kind, "domain")
    stream = "stream={kind: task_free, of: split, source: digits, tasks: 5, steps_per_task: 12}"
    overrides = [stream, "training.epochs=1"]
    if kind not in TASK_FREE:
        with pytest.raises(ConfigError, match=r"as stream\.kind is task_free"):
            load_config(path, overrides)
        return
    result = run_experiment(load_config(path, overrides), tmp_path / "run")
    assert result.status == "finished"
    assert result.numbers_kept >= result.parameters


@pytest.mark.parametrize("kind", ["er", "derpp", "l2_init", "cbp", "finetune", "mas"])
def test_a_task_free_run_continues_to_the_bit(tmp_path, kind, run_with_stops):
    path = write(tmp_path, kind, "domain")
    stream = "stream={kind: task_free, of: split, source: digits, tasks: 5, steps_per_task: 8}"
    experiment = load_config(path, [stream, "training.epochs=1", "checkpoint.every=3"])
    whole = run_experiment(experiment, tmp_path / "whole")
    result, stops = run_with_stops(experiment, tmp_path / "run", 11)
    assert stops > 2
    assert result.accuracy == whole.accuracy
    ours, theirs = (read_state(tmp_path / name / "checkpoint") for name in ("run", "whole"))
    for name, tensor in theirs["model"].items():
        assert torch.equal(ours["model"][name], tensor)


@pytest.mark.parametrize(("method", "message"), [
    ("{kind: ewc, strength: -1}", "method.strength: expected a number that is 0 or more, got -1"),
    ("{kind: ewc, fisher: true_one}", "method.fisher: expected model"),
    ("{kind: online_ewc, decay: 0}", "method.decay: expected a number above 0, up to 1, got 0"),
    ("{kind: si, damping: 0}", "method.damping: expected a number above 0, got 0"),
    ("{kind: lwf, temperature: 0}", "method.temperature: expected a number above 0, got 0"),
    ("{kind: er, memory: 0}", "method.memory: expected a whole number of stored samples"),
    ("{kind: er, memory: 2.5}", "method.memory: expected a whole number of stored samples"),
    ("{kind: derpp, alpha: -0.1}", "method.alpha: expected a weight of the logits"),
    ("{kind: packnet, prune: 1}", "method.prune: expected a share of free weights"),
    ("{kind: packnet, after: 9}", "method.after: expected at most the 2 of training.epochs"),
    ("{kind: hat, scale: 0.5}", "method.scale: expected the largest steepness of a gate"),
    ("{kind: hat, gate_rate: .inf}", "method.gate_rate: expected a learning rate of the gates"),
    ("{kind: slda, features: pixels}", "method.features: expected inputs, filters"),
    ("{kind: ranpac, projections: 1}", "method.projections: expected a whole number of random"),
    ("{kind: l2_init, lambda: 1}", "method.lambda: unknown key"),
    ("{kind: ewcc}", 'did you mean "ewc"'),
    ("{kind: mas, importance: hebb}", 'did you mean "hebbian"'),
])  # fmt: skip
def test_settings_out_of_range_name_their_key(tmp_path, method, message):
    path = write(tmp_path, "finetune", "task")
    with pytest.raises(ConfigError) as caught:
        load_config(path, [f"method={method}"])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value).strip()


@pytest.mark.parametrize("kind", ["packnet", "hat"])
def test_a_network_that_a_method_cannot_divide_is_refused_with_the_line(tmp_path, kind):
    (tmp_path / "flat.py").write_text(
        "from torch import nn\n\ndef net():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n",
        encoding="utf-8",
    )
    path = write(tmp_path, kind, "task", model='{kind: python, target: "flat:net"}')
    with pytest.raises(GrowmasError, match=rf"small.yaml:5: method: {kind} .* give it a hidden"):
        run_experiment(load_config(path), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_features_that_do_not_fit_the_inputs_are_refused(tmp_path):
    (tmp_path / "table.csv").write_text(
        "a,b,label\n" + "\n".join(f"{i},{i % 7},{i % 4}" for i in range(80)), encoding="utf-8"
    )
    path = write(tmp_path, "slda", "class", extra=", features: filters")
    source = "stream.source={kind: csv, path: table.csv, test: 0.2}"
    with pytest.raises(GrowmasError, match=r"for other inputs \(in a config: features: inputs\)"):
        run_experiment(load_config(path, [source, "stream.tasks=2"]), tmp_path / "run")


def test_one_sweep_compares_all_methods_of_a_scenario(tmp_path):
    path = write(tmp_path, "finetune", "class")
    kinds = "finetune,joint,ewc,er,slda"
    arguments = ["sweep", str(path), f"method.kind={kinds}", "--out", str(tmp_path / "sweep")]
    done = CliRunner().invoke(app, [*arguments, "training.epochs=1"])
    assert done.exit_code == 0, done.output
    for kind in kinds.split(","):
        assert kind in done.output


@pytest.mark.parametrize("importance", ["mas", "fisher", "hebbian"])
def test_mas_takes_each_importance(tmp_path, importance):
    path = write(tmp_path, "mas", "task", extra=f", importance: {importance}")
    assert run_experiment(load_config(path), tmp_path / "run").average_accuracy > 0.7
