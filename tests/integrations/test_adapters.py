"""The examples of docs/adapters.md: each trains, grows, prunes and keeps the optimizer."""

import copy
import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import vision_operators  # noqa: F401 (torchvision lacks them without its build)
from torch import Tensor, nn

import growmas as gm
from growmas.errors import ConfigError, GrowmasError, RunError, SurgeryError

GUIDE = Path(__file__).parents[2] / "docs" / "adapters.md"
EXAMPLES = {
    package: code
    for code in re.findall(r"```py\n(.*?)```", GUIDE.read_text("utf-8"), flags=re.DOTALL)
    for package in ("lightning", "transformers", "accelerate", "avalanche")
    if f"growmas.integrations.{package} " in code or f"integrations import {package}" in code
}
pytestmark = pytest.mark.filterwarnings("ignore")  # those of the libraries

EXAMPLE = torch.rand(2, 6)


@pytest.fixture(autouse=True)
def _no_trace() -> Iterator[None]:
    """Forget what accelerate keeps for a process, which a fork of a later test would inherit."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(reset_partial_state=True)
        state.GradientState._reset_state()


def example(package: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run an example as printed."""
    needed = {"transformers": "accelerate", "avalanche": "avalanche.training"}.get(package, package)
    pytest.importorskip(needed, exc_type=ImportError)
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": "example"}
    module = sys.modules["example"] = type(sys)("example")
    try:
        exec(compile(EXAMPLES[package], GUIDE.name, "exec"), names)
    finally:
        vars(module).update(names)
        del sys.modules["example"]
    return names


def assert_follows(optimizer: torch.optim.Optimizer, network: nn.Module, steps: int) -> None:
    """The optimizer has the parameters of the network, with moments of their shape."""
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert {*map(id, held)} == {*map(id, network.parameters())}
    for parameter in network.parameters():
        state = optimizer.state[parameter]
        assert state["exp_avg"].shape == parameter.shape
        assert int(state["step"]) == steps


def assert_same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DISABLED", "true")


def test_lightning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = example("lightning", tmp_path, monkeypatch)
    module, growth = names["module"], names["callback"].growth
    assert growth.structure.tasks == ("a", "b")
    assert (module.net[0].out_features, growth.mas.tasks) == (11, 2)  # 8 + 4 − 1
    assert_follows(names["trainer"].optimizers[0], module, steps=16)
    assert_same(names["again"].state_dict(), module.state_dict())
    resumed = names["GrowmasCallback"](torch.rand(2, 6), network="net", tasks=["a", "b", "c"])
    trainer = names["L"].Trainer(**{**names["options"], "max_epochs": 3}, callbacks=[resumed])
    trainer.fit(names["Net"](), names["loader"], ckpt_path="two-tasks.ckpt")
    assert resumed.growth.structure.tasks == ("a", "b", "c")
    assert resumed.growth.mas.tasks == 3
    assert_follows(trainer.optimizers[0], trainer.lightning_module, steps=20)


def test_a_task_of_lightning_that_was_stopped_in_its_middle_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = example("lightning", tmp_path, monkeypatch)
    light, start = names["L"], names["Net"]()

    class Saves(light.Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 0:
                trainer.save_checkpoint("middle.ckpt")

    def fit(path: str | None = None) -> tuple[nn.Module, gm.MAS]:
        prune, grow = gm.PrunePolicy(ratio=0.2), gm.GrowPolicy(units=4)
        callback = names["GrowmasCallback"](EXAMPLE, network="net", grow=grow, prune=prune)
        module = copy.deepcopy(start)
        torch.manual_seed(0)
        options = {**names["options"], "max_epochs": 3}
        light.Trainer(**options, callbacks=[callback, Saves()]).fit(
            module, names["loader"], ckpt_path=path
        )
        return module, callback.growth.mas

    (whole, penalty), (parts, other) = fit(), fit("middle.ckpt")
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], tensor)
        name = name.removeprefix("net.")
        torch.testing.assert_close(other.omega[name], penalty.omega[name])


def test_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = example("transformers", tmp_path, monkeypatch)
    model, growth = names["model"], names["growth"]
    assert growth.structure.tasks == ("a", "b")
    assert (model.net[0].out_features, growth.mas.tasks) == (11, 2)
    assert_follows(names["optimizer"], model, steps=8)
    fresh = names["fresh"]
    saved = fresh.state_dict()
    assert saved["net.0.weight"].shape[0] == 12  # written before the second task was pruned


def test_accelerate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = example("accelerate", tmp_path, monkeypatch)
    structure, mas = names["structure"], names["mas"]
    assert structure.groups["0"].width == 8 + 2 * 3
    assert_follows(names["optimizer"].optimizer, structure.model, steps=8)
    wanted = copy.deepcopy(structure.model.state_dict())
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    accelerator = names["Accelerator"](cpu=True)
    _, optimizer = accelerator.prepare(net, torch.optim.Adam(net.parameters()))
    fresh, penalty = gm.Structure(net, torch.rand(2, 6)), gm.MAS(net)
    names["growing"].attach(accelerator, fresh, penalty)
    accelerator.load_state("state")
    assert_same(net.state_dict(), wanted)
    assert_same(penalty.omega, mas.omega)
    assert_follows(optimizer.optimizer, net, steps=8)


def test_avalanche(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = example("avalanche", tmp_path, monkeypatch)
    net, growth = names["net"], names["plugin"].growth
    assert growth.structure.tasks == ("experience 0", "experience 1")
    assert net[0].out_features == 11
    assert_follows(names["optimizer"], net, steps=12)
    x = torch.stack([row[0] for row in names["benchmark"].train_stream[1].dataset])
    wanted = gm.mas_importance(net, [x])
    assert not growth.task_open
    assert {*growth.mas.omega} == {*wanted}


def test_the_importance_inside_of_avalanche_is_the_exact_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = example("avalanche", tmp_path, monkeypatch)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    plugin = names["GrowmasPlugin"](EXAMPLE)
    first = names["benchmark"].train_stream[0]
    strategy = names["Naive"](
        model=net, optimizer=torch.optim.SGD(net.parameters(), lr=0.1), train_mb_size=5,
        train_epochs=1, plugins=[plugin], evaluator=None,
    )  # fmt: skip
    strategy.train(first)
    wanted = gm.mas_importance(net, [torch.stack([row[0] for row in first.dataset])])
    for name, omega in wanted.items():
        torch.testing.assert_close(plugin.growth.mas.omega[name], omega)

    from avalanche.models import IncrementalClassifier

    growing = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), IncrementalClassifier(8, 2))
    strategy = names["Naive"](
        model=growing, optimizer=torch.optim.SGD(growing.parameters(), lr=0.1), train_mb_size=5,
        plugins=[names["GrowmasPlugin"](EXAMPLE)], evaluator=None,
    )  # fmt: skip
    with pytest.raises(SurgeryError, match="'2' is a IncrementalClassifier, which Avalanche"):
        strategy.train(first)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def test_mistakes_are_one_message_before_training() -> None:
    from growmas.integrations.growth import Growth, check_task_names

    with pytest.raises(SurgeryError, match="is wrapped in DataParallel"):
        Growth(nn.DataParallel(network()), EXAMPLE)
    with pytest.raises(GrowmasError, match=r"grow="):
        Growth(network(), EXAMPLE, grow="more").begin_task()
    for wrong in ("ab", ["a", 1], ["a", "a"]):
        with pytest.raises(ConfigError, match="tasks="):
            check_task_names(wrong)


def test_lightning_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    light = pytest.importorskip("lightning")
    from growmas.integrations.lightning import GrowmasCallback, resize

    with pytest.raises(RunError, match="no entry 'growmas'"):
        resize(network(), {"state_dict": {}}, EXAMPLE)
    callback = GrowmasCallback(EXAMPLE)
    with pytest.raises(RunError, match=r"call trainer.fit first"):
        callback.on_before_optimizer_step(None, None, None)
    trainer = light.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False)
    with pytest.raises(RunError, match="give devices=1, or use Fabric"):
        callback.setup(trainer, light.LightningModule(), "fit")


PACKAGES = {
    "lightning": "lightning.pytorch",
    "transformers": "transformers",
    "accelerate": "accelerate",
    "avalanche": "avalanche.models",
}
EXTRAS = {"transformers": "models"}


@pytest.mark.parametrize("adapter", PACKAGES)
def test_a_missing_package_is_named_with_its_extra(
    adapter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, PACKAGES[adapter], None)
    monkeypatch.delitem(sys.modules, f"growmas.integrations.{adapter}", raising=False)
    extra = EXTRAS.get(adapter, adapter)
    with pytest.raises(ImportError, match=rf"pip install 'growmas\[{extra}\]'"):
        importlib.import_module(f"growmas.integrations.{adapter}")
