"""A run on another machine: its code and its folder are checked, its files may be sent back."""

import json
from pathlib import Path

import fake_child
import pytest

from growmas.sweep import plan_sweep
from growmas.sweep.cell import run_cell, unpack
from growmas.sweep.code import code_hashes, differing_code
from growmas.sweep.engine import Order, folder_token
from growmas.sweep.record import other_code
from growmas.sweep.summary import SweepRun

CONFIG = Path(__file__).parents[2] / "configs" / "digits_smoke.yaml"


def order(folder, seed=1, **changes):
    (run,) = plan_sweep(CONFIG, [f"seed={seed}"], directory=folder).runs
    folder.mkdir(exist_ok=True)
    log = folder / "logs" / f"{run.name}.log"
    made = Order(run.name, run.experiment, run.folder, run.state, log, code_hashes(run.experiment))
    own = {"module": "fake_child", "token": folder_token(folder), "shared": str(folder)}
    return {**made.as_data(), **own, **changes}


def test_a_run_is_written_to_the_folder_that_all_share_and_never_run_twice(tmp_path):
    ended = run_cell(order(tmp_path))
    assert ended == {"message": "", "hopeless": False, "stopped": "", "archive": None}
    assert (tmp_path / "seed=1" / "state").read_text() == "new"
    (tmp_path / "seed=1" / "state").unlink()
    assert run_cell(order(tmp_path))["message"] == ""
    assert not (tmp_path / "seed=1" / "state").exists()
    assert "process" in (tmp_path / "logs" / "seed=1.log").read_text()


def test_a_run_that_fails_says_why(tmp_path):
    refused = run_cell(order(tmp_path, fake_child.REFUSED))
    assert refused["message"] == "there is no such luck\nand no other"
    broken = run_cell(order(tmp_path, fake_child.BROKEN))
    assert broken["message"].startswith("ZeroDivisionError: by nought (")
    assert not refused["hopeless"]
    assert not broken["hopeless"]
    assert "Traceback" in (tmp_path / "logs" / f"seed={fake_child.BROKEN}.log").read_text()


def test_a_machine_with_other_code_or_without_the_folder_runs_nothing(tmp_path):
    ours = order(tmp_path)["code"]["growmas"]
    lacks = run_cell(order(tmp_path, code={"growmas": ours, "mymodel": "1" * 16}))
    assert lacks["hopeless"]
    assert "mymodel (1111111111111111 there, missing here)" in lacks["message"]
    unknown = '{"name": "x", "a_key_of_the_future": 3}'
    other = run_cell(order(tmp_path, code={"growmas": "0" * 16}, experiment=unknown))
    assert other["hopeless"]
    assert (
        "differs from that of the machine that began the sweep: growmas (0000" in (other["message"])
    )
    blind = run_cell(order(tmp_path, shared=str(tmp_path / "elsewhere")))
    assert blind["hopeless"]
    assert "does not see the folder" in blind["message"]
    assert "--out" in blind["message"]
    assert not (tmp_path / "seed=1").exists()


def test_a_run_is_sent_back_where_the_folder_is_not_shared(tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    asked = order(there, token=None)
    ended = run_cell(asked)
    assert not (there / "seed=1").exists()
    here.mkdir()
    (here / "logs").mkdir()
    unpack(ended["archive"], here / "seed=1", here / "logs" / "seed=1.log")
    assert json.loads((here / "seed=1" / "metrics.json").read_text())["status"] == "finished"
    assert "process" in (here / "logs" / "seed=1.log").read_text()
    assert sorted(path.name for path in here.iterdir()) == ["logs", "seed=1"]


@pytest.fixture
def own(tmp_path):
    """An experiment with a model of one's own, which imports another module."""
    (tmp_path / "mynet.py").write_text("import mylayers\nimport json\nclass Net: ...\n")
    (tmp_path / "mylayers.py").write_text("x = 1\n")
    (tmp_path / "unrelated.py").write_text("x = 1\n")
    text = CONFIG.read_text(encoding="utf-8")
    start, end = text.index("model:"), text.index("method:")
    (tmp_path / "own.yaml").write_text(
        text[:start] + "model: {kind: python, target: 'mynet:Net'}\n" + text[end:]
    )
    (run,) = plan_sweep(tmp_path / "own.yaml", ["seed=1"], directory=tmp_path / "sweep").runs
    return tmp_path, run.experiment


def test_the_hash_of_a_module_counts_what_it_imports_from_its_folder(own):
    folder, experiment = own
    before = code_hashes(experiment)
    assert list(before) == ["growmas", "mynet"]
    (folder / "unrelated.py").write_text("x = 2\n")
    assert differing_code(before, experiment) == []
    (folder / "mylayers.py").write_text("x = 2\n")
    (line,) = differing_code(before, experiment)
    assert line.startswith(f"mynet ({before['mynet']} there, ")
    (folder / "mynet.py").unlink()
    assert differing_code(before, experiment) == [f"mynet ({before['mynet']} there, missing here)"]


def test_runs_of_different_code_are_named_module_by_module():
    def run(seed, **code):
        return SweepRun(f"seed={seed}", {"seed": str(seed)}, code=code)

    runs = [run(1, growmas="a", mynet="x"), run(2, growmas="b"), run(3, growmas="b"), run(4)]
    (line,) = other_code(runs)
    assert line.startswith("growmas changed between these runs: a in 1 (such as seed=1), b in 2 (")
    assert other_code(runs[1:]) == []
