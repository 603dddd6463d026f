"""Runs of two processes equal those of one: importance, contexts, plans, history, accuracy."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed as dist, multiprocessing as mp

import growmas as gm
from growmas.checkpoint import read_state
from growmas.config import Experiment, load_config
from growmas.errors import RunError
from growmas.experiment import run_experiment
from growmas.experiment.limits import PARALLEL
from growmas.training.learner import TaskAwareLearner

pytestmark = pytest.mark.skipif(
    not dist.is_available() or sys.platform == "win32", reason="needs torch.distributed with gloo"
)

SMALL = ["stream.limit=9", "training.epochs=1", "training.batch_size=17"]  # odd batches
CONTEXT = "method.context={kind: gaussian, per: class, features: filters, filters: 4}"
CASES = {
    "growmas": ("digits_smoke", ["stream.tasks=2", "method.init=paired"]),
    "by need": (
        "digits_smoke",
        ["stream.tasks=2", "method.grow={kind: need, step: 2, most: 4, trial: 5}"],
    ),
    "context": ("digits_split_class_growmas", ["stream.tasks=2", CONTEXT]),
    **{
        kind: ("digits_smoke", ["stream.tasks=2", f"method={{kind: {kind}}}"])
        for kind in PARALLEL
        if kind != "growmas"
    },
}
STRENGTH = {"mas": ", strength: 0.01", "online_ewc": ", strength: 1"}


def experiments() -> dict[str, Experiment]:
    found = {}
    for name, (config, overrides) in CASES.items():
        given = [each.replace("}}", "}") for each in overrides]
        given = [
            each.replace(f"kind: {name}", f"kind: {name}{STRENGTH.get(name, '')}") for each in given
        ]
        found[name] = load_config(config, [*SMALL, *given])
    return found


def worker(rank: int, folder: str) -> None:
    """Make every run in one of two processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        for name, experiment in experiments().items():
            run_experiment(experiment, f"{folder}/two/{name}")
        refused(folder)
        stopped(rank, folder)
    finally:
        dist.destroy_process_group()


def refused(folder: str) -> None:
    """Every process raises the error that process 0 alone can see."""
    with pytest.raises(RunError, match="exists: name another"):
        run_experiment(load_config("digits_smoke"), f"{folder}/two/growmas")
    er = load_config("digits_smoke", ["method={kind: er}"])
    with pytest.raises(RunError, match=r"method.kind is er, .*run it in one process"):
        run_experiment(er, f"{folder}/two/er")


def stopped(rank: int, folder: str) -> None:
    """A signal that process 1 alone hears stops both; both continue."""

    class Stops(gm.Observer):
        def task_done(self, done: gm.TaskDone) -> None:
            raise AssertionError("process 1 tells its observer nothing")

    experiment = experiments()["growmas"]
    place = f"{folder}/two/stopped"
    before = TaskAwareLearner._step

    def step(self: TaskAwareLearner, *given: Any) -> Any:
        if rank == 1 and self.steps == 4:
            signal.raise_signal(signal.SIGTERM)
        return before(self, *given)

    TaskAwareLearner._step = step  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        run_experiment(experiment, place, observer=None if rank == 0 else Stops())
    TaskAwareLearner._step = before  # type: ignore[method-assign]
    run_experiment(experiment, place, resume=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("processes")
    for name, experiment in experiments().items():
        run_experiment(experiment, found / "one" / name)
    # forked processes have torch loaded, which costs more than the runs
    mp.start_processes(worker, args=(str(found),), nprocs=2, start_method="fork")
    return found


def assert_close(found: Any, wanted: Any, where: str) -> None:
    """Compare states: tensors and numbers to rounding, everything else exactly."""
    if isinstance(wanted, torch.Tensor):
        assert found.shape == wanted.shape, where
        if wanted.is_floating_point():
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6, msg=lambda m: where + m)
        else:
            assert torch.equal(found, wanted), where
    elif isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for key in wanted:
            assert_close(found[key], wanted[key], f"{where}.{key}")
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted), where
        for number, each in enumerate(wanted):
            assert_close(found[number], each, f"{where}.{number}")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=1e-4, abs=1e-6), where
    else:
        assert found == wanted, where


@pytest.mark.parametrize("name", [*CASES, "stopped"])
def test_two_processes_equal_one(folder: Path, name: str) -> None:
    one, two = folder / "one" / ("growmas" if name == "stopped" else name), folder / "two" / name
    states = [read_state(path / "checkpoint") for path in (two, one)]
    for part in ("model", "mas", "context", "manager", "optimizer", "structure", "own"):
        assert_close(states[0][part], states[1][part], part)
    with (
        gm.TopologyHistory(two / "history.db") as ours,
        gm.TopologyHistory(one / "history.db") as theirs,
    ):
        assert ours.widths() == theirs.widths()
        assert ours.turnover() == theirs.turnover()
        plans = [
            [(each.kind, each.task, each.born, each.died) for each in history.events()]
            for history in (ours, theirs)
        ]
        assert plans[0] == plans[1]
        scalars = [
            [(each.step, each.task, each.epoch, dict(each.values)) for each in history.scalars()]
            for history in (ours, theirs)
        ]
        assert_close(scalars[0], scalars[1], "scalars")
    metrics = [gm.load_run(path).metrics for path in (two, one)]
    assert_close(metrics[0].accuracy, metrics[1].accuracy, "accuracy")
    assert metrics[0].units == metrics[1].units
    assert metrics[0].finished


def test_torchrun_runs_a_config_and_prints_once(folder: Path, tmp_path: Path) -> None:
    overrides = [*SMALL, "stream.tasks=2", "method.init=paired"]
    begin = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m"]
    done = subprocess.run(
        [*begin, "growmas", "run", "digits_smoke", *overrides, "--out", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("task 2/2") == 1
    assert done.stdout.count("written to") == 1
    found, wanted = (
        gm.load_run(tmp_path / "run").metrics,
        gm.load_run(folder / "one/growmas").metrics,
    )
    assert_close(found.accuracy, wanted.accuracy, "accuracy")
    assert found.units == wanted.units
