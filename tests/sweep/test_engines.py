"""Ray and submitit, with the real packages where they are installed; runs are `fake_child`'s."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import fake_child
import pytest

from growmas.config import RayEngineConfig, SlurmEngineConfig
from growmas.errors import ConfigError, RunError
from growmas.sweep import plan_sweep, run_sweep
from growmas.sweep.code import code_hashes
from growmas.sweep.engine import Order, Surroundings
from growmas.sweep.summary import read_runs

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "digits_smoke.yaml"
PATIENCE = 60  # seconds, on a machine that has much else to do


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("growmas.sweep.work._CHILD", "fake_child")
    paths = [str(Path(__file__).parent), *filter(None, sys.path)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


def sweep(folder, *overrides, jobs=None, **options):
    return run_sweep(plan_sweep(CONFIG, overrides, directory=folder, **options), jobs=jobs)


def surroundings(folder):
    folder.mkdir(exist_ok=True)
    (folder / "logs").mkdir(exist_ok=True)
    return Surroundings(folder=folder, module="fake_child", held=(), jobs=2, runs=1)


def order(folder, seed):
    (run,) = plan_sweep(CONFIG, [f"seed={seed}"], directory=folder).runs
    code = code_hashes(run.experiment)
    log = folder / "logs" / f"{run.name}.log"
    return Order(run.name, run.experiment, run.folder, run.state, log, code)


def end_of(handle):
    until = time.monotonic() + PATIENCE
    while (ended := handle.poll()) is None:
        assert time.monotonic() < until, "it does not end"
        time.sleep(0.05)
    return ended


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "rai"}, '--engine rai: sweep.engine.kind: expected local, ray or slurm, got "'),
        ({"engine_options": ["cpus=2"]}, "--engine-option cpus=2: sweep.engine.cpus: unknown key"),
        (
            {"engine": "ray", "engine_options": ["cpus=no"]},
            "--engine-option cpus=no: sweep.engine.cpus: expected a number of CPU cores",
        ),
        (
            {"engine": "slurm", "engine_options": ["partitoin=gpu"]},
            'sweep.engine.partitoin: unknown key; did you mean "partition"?',
        ),
        ({"engine": "ray", "engine_options": ["cpus"]}, "--engine-option cpus: expected key=value"),
    ],
)
def test_engines_and_options_that_do_not_exist_are_named(tmp_path, options, message):
    with pytest.raises(ConfigError) as caught:
        plan_sweep(CONFIG, ["seed=1..9"], directory=tmp_path, **options)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_engine_of_a_config_is_used_unless_another_is_given(tmp_path):
    config = tmp_path / "mine.yaml"
    text = CONFIG.read_text(encoding="utf-8")
    config.write_text(f"{text}\nsweep: {{engine: {{kind: slurm, partition: gpu}}}}\n")

    def engine(*overrides, **options):
        return plan_sweep(config, ["seed=1", *overrides], directory=tmp_path, **options)

    assert engine().engine == SlurmEngineConfig(partition="gpu")
    assert engine("sweep.engine.mem=4").engine == SlurmEngineConfig(partition="gpu", mem=4)
    options = {"engine": "slurm", "engine_options": ["mem=4"]}
    assert engine(**options).engine == SlurmEngineConfig(partition="gpu", mem=4)
    assert engine(engine="ray").engine == RayEngineConfig()
    assert engine().runs[0].name == "seed=1"
    assert engine().runs[0].experiment.sweep is None


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_package_that_is_missing_is_named_before_anything_runs(
    tmp_path, monkeypatch, engine, package
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RunError) as caught:
        sweep(tmp_path / "new", "seed=1", engine=engine)
    assert str(caught.value) == (
        f"engine {engine} needs {package}, which is not installed: pip install 'growmas[{engine}]'"
    )
    assert not (tmp_path / "new").exists()


class TestSlurm:
    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("submitit")

    def test_runs_end_or_fail_and_a_warned_one_is_queued_again(self, tmp_path):
        seeds = f"seed=1,{fake_child.REFUSED},{fake_child.KILLED},{fake_child.WARNED}"
        options = {"engine": "slurm", "engine_options": ["cluster=local"]}
        runs = sweep(tmp_path, seeds, jobs=4, **options)
        assert [run.status for run in runs] == ["finished", "failed", "failed", "finished"]
        assert runs[1].message == "there is no such luck\nand no other"
        assert runs[2].message.startswith("its process was killed, as when memory runs out; ")
        assert (tmp_path / f"seed={fake_child.WARNED}" / "state").read_text() == "resumed"
        assert read_runs(tmp_path) == runs

    def test_runs_share_a_job_and_are_told_apart(self, tmp_path):
        seeds = f"seed=1,{fake_child.REFUSED},{fake_child.WARNED},2"
        options = {"engine": "slurm", "engine_options": ["cluster=local", "runs_per_job=4"]}
        runs = sweep(tmp_path, seeds, **options)
        assert [run.status for run in runs] == ["finished", "failed", "finished", "finished"]
        assert runs[1].message == "there is no such luck\nand no other"
        jobs = json.loads((tmp_path / "logs" / "jobs.json").read_text()).values()
        assert len({job["id"] for job in jobs}) == 1

    def test_a_sweep_finds_the_jobs_that_an_earlier_one_left(self, tmp_path):
        from growmas.sweep.engines.slurm import SlurmEngine

        config = SlurmEngineConfig(cluster="local")
        (slow,) = SlurmEngine(config, surroundings(tmp_path)).submit(
            [order(tmp_path, fake_child.SLOW)]
        )
        again = SlurmEngine(config, surroundings(tmp_path))
        (found,) = again.submit([order(tmp_path, fake_child.SLOW)])
        assert found._job.id == slow._job.id
        metrics = tmp_path / f"seed={fake_child.SLOW}" / "metrics.json"
        until = time.monotonic() + PATIENCE
        while not metrics.exists():
            assert time.monotonic() < until, "it does not begin"
            time.sleep(0.05)
        found.terminate()
        assert end_of(found).message == "it was interrupted"
        slow.stop()
        (new,) = again.submit([order(tmp_path, 1)])
        assert new._job.id != slow._job.id
        assert end_of(new).message == ""

    def test_a_machine_without_slurm_says_so(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", "")
        with pytest.raises(RunError, match="srun was not found; run growmas sweep on a machine of"):
            sweep(tmp_path, "seed=1,2", engine="slurm")

    def test_all_runs_are_one_array_job_with_what_was_asked_for(self, tmp_path, monkeypatch):
        from growmas.sweep.engines.slurm import SlurmEngine

        (tmp_path / "bin").mkdir()
        for name, script in {
            "srun": "exit 0",
            "sbatch": f'cp "$1" {tmp_path}/script; echo Submitted batch job 12',
            "sacct": 'echo "JobID|State|NodeList"; echo "12_[0-1]|OUT_OF_MEMORY|n1"',
        }.items():
            program = tmp_path / "bin" / name
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setattr("growmas.sweep.engines.slurm._LAG", 0.0)
        config = SlurmEngineConfig(partition="gpu", gpus=2, mem=8, timeout_min=30, warning=120)
        engine = SlurmEngine(config, surroundings(tmp_path))
        runs = engine.submit([order(tmp_path, 1), order(tmp_path, 2)])
        script = (tmp_path / "script").read_text()
        for line in (
            "--array=0-1%2", "--partition=gpu", "--gpus-per-node=2", "--mem=8GB", "--time=30",
            "--signal=USR2@120", "--cpus-per-task=1", "--job-name=digits-smoke",
        ):  # fmt: skip
            assert f"#SBATCH {line}\n" in script
        assert [run._job.id for run in runs] == ["12_0", "12_1"]
        assert "memory ran out: ask for more with --engine-option mem=" in end_of(runs[0]).message
        (tmp_path / "bin" / "sacct").write_text(
            "#!/bin/sh\necho 'JobID|State|NodeList'; echo '12_[0-1]|FAILED|n1'\n"
        )
        runs[1]._job._job.watcher.update()
        blind = end_of(runs[1])
        assert blind.hopeless
        assert f"the machines of the cluster do not see {tmp_path}" in blind.message
        (tmp_path / "bin" / "sbatch").write_text(
            "#!/bin/sh\necho 'sbatch: error: invalid partition specified: gpu' >&2; exit 1\n"
        )
        with pytest.raises(RunError, match=r"Slurm refused .*invalid partition"):
            engine.submit([order(tmp_path, 3)])


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    settings = {
        "RAY_worker_niceness": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]),
    }
    before = {name: os.environ.get(name) for name in settings}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    os.environ.update(settings)
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.mark.usefixtures("cluster")
class TestRay:
    def test_runs_end_or_fail_and_lost_workers_are_replaced(self, tmp_path):
        seeds = f"seed=1,2,{fake_child.REFUSED},{fake_child.KILLED}"
        options = {"engine": "ray", "engine_options": ["max_retries=1"]}
        runs = sweep(tmp_path, seeds, **options)
        assert [run.status for run in runs] == ["finished", "finished", "failed", "failed"]
        assert runs[2].message == "there is no such luck\nand no other"
        assert runs[3].message.startswith("its worker was killed each time, as when memory runs")
        log = (tmp_path / "logs" / f"seed={fake_child.KILLED}.log").read_text()
        assert log.count(", process ") == 2  # it was tried again
        assert read_runs(tmp_path) == runs

    def test_runs_are_brought_back(self, tmp_path):
        options = {"engine": "ray", "engine_options": ["bring_back=true"]}
        (run,) = sweep(tmp_path, "seed=1", **options)
        assert run.status == "finished"
        assert (tmp_path / "seed=1" / "state").read_text() == "new"

    def test_one_machine_with_other_code_ends_the_sweep(self, tmp_path, monkeypatch):
        monkeypatch.setattr("growmas.sweep.work.code_hashes", lambda experiment: {"growmas": "0"})
        with pytest.raises(RunError, match=r"differs from that of .*runs that are finished are"):
            sweep(tmp_path, "seed=1", engine="ray")

    def test_needs_that_no_machine_meets_are_told(self, tmp_path):
        from growmas.sweep.engines.ray import RayEngine

        engine = RayEngine(RayEngineConfig(gpus=3), surroundings(tmp_path))
        with pytest.warns(UserWarning, match=r"a run needs 1 CPU cores .*, 3 GPUs \(at most 0 on"):
            (run,) = engine.submit([order(tmp_path, 1)])
        run.terminate()
        assert "it was cancelled" in end_of(run).message


def test_tasks_that_are_lost_say_why(tmp_path):
    pytest.importorskip("ray")
    from ray import exceptions

    from growmas.sweep.engines.ray import _lost

    run = order(tmp_path, 1)
    full = _lost(exceptions.OutOfMemoryError("Task was killed"), run)
    assert full.message.startswith("memory ran out on its machine: reserve more with --engine-op")
    bare = _lost(exceptions.RaySystemError("ModuleNotFoundError: No module named 'growmas'"), run)
    assert "install growmas on every machine" in bare.message
    assert bare.hopeless
    assert (
        "its task was lost: RaySystemError: " in _lost(exceptions.RaySystemError("x"), run).message
    )


def test_a_ray_cluster_that_cannot_be_reached_is_one_message(tmp_path):
    pytest.importorskip("ray")
    options = {"engine": "ray", "engine_options": ["address=127.0.0.1:9"]}
    with pytest.raises(RunError) as caught:
        sweep(tmp_path, "seed=1", **options)
    assert str(caught.value).startswith(
        "the Ray cluster at 127.0.0.1:9 cannot be reached: [Errno 111] Connection refused; begin"
    )
